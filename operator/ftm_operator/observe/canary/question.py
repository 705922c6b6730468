"""Says what a Prometheus is asked of a Canary, or why it cannot be asked. Pure."""

from datetime import datetime

from ftm_operator.api.spec.canary import CanaryAnalysis
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.engines.metrics import REQUEST_METRICS
from ftm_operator.observe.canary.figures import CanaryQuestion
from ftm_operator.resources.scaling.load import series_of


def canary_question(
    model: FineTunedModel, versions: tuple[Plan, Plan], canary: str, prometheus: str, since: datetime
) -> CanaryQuestion:
    """Returns what is asked of the old and the new version's plans; `canary` is the name of the new one's Deployment.

    Raises ValueError where spec.serving.canary has no analysis.
    """
    old, new = versions
    analysis = analysis_of(model)
    if analysis is None:
        raise ValueError(f"{model.metadata.name} has no canary.analysis")
    return CanaryQuestion(
        prometheus=prometheus.rstrip("/"),
        old=series_of(model, old),
        new=series_of(model, new, canary),
        since=since,
        interval_seconds=analysis.interval_seconds,
    )


def analysis_of(model: FineTunedModel) -> CanaryAnalysis | None:
    """Returns what a Canary of the model is judged by, if by figures at all."""
    canary = model.spec.serving.canary
    return canary.analysis if canary else None


def refused_analysis(versions: tuple[Plan, Plan], prometheus: str | None) -> str | None:
    """Returns why figures of the old and the new version cannot be told, and what to do; None where they can."""
    if prometheus is None:
        return (
            "canary.analysis reads the engines' metrics from a Prometheus, and none is named: set "
            "spec.serving.canary.analysis.prometheus, or the chart's autoscaling.prometheus"
        )
    for which, plan in zip(("old", "new"), versions, strict=True):
        if plan.engine not in REQUEST_METRICS:
            return (
                f"canary.analysis counts requests, and {plan.engine}, which serves the {which} version, counts none in "
                "its metrics: remove spec.serving.canary.analysis, so that Pods and served verification judge it"
            )
    return None
