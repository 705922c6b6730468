"""Has an artifact built again that a serving pod no longer found in its store. Pure."""

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe.job_state import finished
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context, Delete, Effects, StepOutcome
from ftm_operator.resources.job import build_id
from ftm_operator.resources.metadata import ARTIFACT
from ftm_operator.steps.step import JobStep, StepInputs


def lost_artifact(context: Context, step: JobStep, inputs: StepInputs, lost_at: str) -> StepOutcome | None:
    """Returns that the step's artifact is built again, with the deletion of the Jobs that say it is complete.

    Returns None when it was built after it was lost: then the pods have not fetched it yet.
    """
    result = inputs.results[step.name]
    assert result.artifact
    store = result.artifact.uri.rpartition("/")[0]
    jobs = [job for job in context.observed.jobs(ARTIFACT, build_id(result.input_hash, store)) if finished(job)]
    if any(lost_at <= job["status"].get("completionTime", "") for job in jobs):
        return None
    message = f"{result.artifact.uri} is no longer there; it is built again"
    hold = Hold(step.phase, OperatorReason.ARTIFACT_LOST, message)
    return StepOutcome(hold=hold, effects=Effects(tuple(map(Delete, jobs))), lost=step.name)
