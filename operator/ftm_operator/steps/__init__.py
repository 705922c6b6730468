"""Lists the steps from a manifest to an endpoint in their order, one record each. Pure.

Reconcile, status, the Job builder, `ftm run` and the tests of the documentation read STEPS and know no step by name.
The plan is made between the first step and the second, from the facts that the first one yields.
"""

from ftm_operator.steps.inspect import INSPECT
from ftm_operator.steps.merge import MERGE
from ftm_operator.steps.publish import PUBLISH
from ftm_operator.steps.quantize import QUANTIZE
from ftm_operator.steps.serve import SERVE
from ftm_operator.steps.step import PipelineStep
from ftm_operator.steps.verify import VERIFY

STEPS: tuple[PipelineStep, ...] = (INSPECT, MERGE, QUANTIZE, VERIFY, PUBLISH, SERVE)
