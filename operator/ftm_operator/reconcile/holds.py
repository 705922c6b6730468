"""Why a step cannot go on, by the state of its Job or by who holds a child's name. Pure."""

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_operator.api.reasons import Reason
from ftm_operator.api.v1alpha1 import Phase
from ftm_operator.observe.job_state import Broken, Done, Due, Running, State
from ftm_operator.reconcile.summary import Hold
from ftm_operator.resources.metadata import Manifest

NAME_TAKEN_RETRY_SECONDS = 60.0


def report_or_hold(state: State, phase: Phase, doing: Reason) -> Report | Hold:
    match state:
        case Done(report):
            return report
        case Due(attempt, more_memory):
            again = f", attempt {attempt}" if attempt > 1 else ""
            return Hold(phase, doing, f"a Job is being created{again}{', with more memory' if more_memory else ''}")
        case Running(message):
            return Hold(phase, doing, message)
        case Broken(reason, message, stalled, retry_after):
            return Hold("Failed" if stalled else phase, reason, message, stalled, retry_after)


def incomplete(step: Step) -> Hold:
    message = f"the {step} Job's report does not say what it made; see its log"
    return Hold("Failed", Reason.INCOMPLETE_REPORT, message, stalled=True)


def name_taken(child: Manifest) -> Hold:
    kind, name = child["kind"], child["metadata"]["name"]
    message = f"{kind} {name} exists and is not this FineTunedModel's; delete it, or give this one another name"
    return Hold("Failed", Reason.NAME_TAKEN, message, stalled=True, retry_after=NAME_TAKEN_RETRY_SECONDS)
