"""Asks the figures of a canary what its spec wants known, and says what they mean for its step. Pure."""

from dataclasses import dataclass
from datetime import datetime

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe.canary.figures import CanaryQuestion
from ftm_operator.observe.canary.judge import judge
from ftm_operator.observe.canary.question import analysis_of, canary_question, refused_analysis
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context
from ftm_operator.resources.versions.canary import canary_names
from ftm_operator.resources.versions.stored_version import StoredVersion


@dataclass(frozen=True)
class Judged:
    """The meaning of a canary's figures for its step."""

    goes_on: bool = True
    message: str = ""
    failure: str | None = None
    question: CanaryQuestion | None = None
    """The figures that are to be asked for."""


def refused(context: Context, serving: StoredVersion, spec: StoredVersion) -> Hold | None:
    """Returns why the figures that the spec wants cannot be had, if it wants any."""
    if analysis_of(context.model) is None:
        return None
    why = refused_analysis((serving.plan, spec.plan), _prometheus(context))
    return Hold("Failed", OperatorReason.NO_FIGURES, why, stalled=True) if why else None


def judged(context: Context, serving: StoredVersion, spec: StoredVersion, since: datetime) -> Judged:
    """Returns what the requests since the step began say of the canary; it goes on where the spec wants no figures."""
    analysis, prometheus = analysis_of(context.model), _prometheus(context)
    if analysis is None or prometheus is None:
        return Judged()
    name = dict(canary_names(context.model.metadata.name))[spec.kind]
    question = canary_question(context.model, (serving.plan, spec.plan), name, prometheus, since)
    found = judge(question, context.observed.canary_figures, analysis)
    failure = found.message if found.outcome == "Fails" else None
    return Judged(found.outcome == "GoesOn", found.message, failure, question)


def _prometheus(context: Context) -> str | None:
    analysis = analysis_of(context.model)
    return (analysis.prometheus if analysis else None) or context.settings.prometheus
