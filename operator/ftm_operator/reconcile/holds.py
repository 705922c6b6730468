"""Words the holds: the reasons for which a resource is not served as its spec says. Pure."""

from dataclasses import dataclass

from ftm_jobs.contract.report import Report
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Phase
from ftm_operator.observe.job_state import Broken, Done, Due, Running, State
from ftm_operator.steps.step import PipelineStep

NAME_TAKEN_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Hold:
    """A reason for which a resource is not served as its spec says."""

    phase: Phase
    reason: str
    message: str
    stalled: bool = False
    """A person must act."""
    retry_after: float | None = None
    """Seconds until it is tried again without anything having changed."""


def report_or_hold(state: State, step: PipelineStep) -> Report | Hold:
    """Returns the report of a step's Job that is done, or what the step waits for."""
    match state:
        case Done(report):
            return report
        case Due(attempt, _, more_memory):
            again = f", attempt {attempt}" if attempt > 1 else ""
            more = ", with more memory" if more_memory else ""
            return Hold(step.phase, step.running, f"a Job is being created{again}{more}")
        case Running(message):
            return Hold(step.phase, step.running, message)
        case Broken(reason, message, stalled, retry_after):
            return Hold("Failed" if stalled else step.phase, reason, message, stalled, retry_after)


def suspended() -> Hold:
    return Hold("Suspended", OperatorReason.SUSPENDED, "spec.suspend is true: nothing is built or rolled out")


def no_artifact_store() -> Hold:
    message = "spec.artifacts is not set and the operator has no default store; set spec.artifacts.uri"
    return Hold("Failed", OperatorReason.NO_ARTIFACT_STORE, message, stalled=True)


def incomplete(step: PipelineStep) -> Hold:
    made = f"the {step.name} Job's report does not say what it made"
    message = f"{made}; install the Jobs' images of the operator's version"
    return Hold("Failed", OperatorReason.INCOMPLETE_REPORT, message, stalled=True)


def name_taken(kind: str, name: str) -> Hold:
    message = f"{kind} {name} exists and is not this FineTunedModel's; delete it, or give this one another name"
    return Hold("Failed", OperatorReason.NAME_TAKEN, message, stalled=True, retry_after=NAME_TAKEN_RETRY_SECONDS)
