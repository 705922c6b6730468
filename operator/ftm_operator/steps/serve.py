"""Describes the step that serves what was built: reconcile rolls out its Deployment or LeaderWorkerSet."""

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.steps.step import PipelineStep

SERVE = PipelineStep(name="serve", condition="Available", phase="Deploying", running=OperatorReason.ROLLING_OUT)
