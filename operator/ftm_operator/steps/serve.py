"""The step that serves what was built: no Job, but a Deployment or a LeaderWorkerSet that reconcile rolls out."""

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.steps.step import PipelineStep

SERVE = PipelineStep(name="serve", condition="Available", phase="Deploying", running=OperatorReason.ROLLING_OUT)
