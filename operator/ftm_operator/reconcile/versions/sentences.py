"""Words what a canary and a version wait for. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.spec.canary import CanaryStep
from ftm_operator.api.texts import one_line
from ftm_operator.api.v1alpha1 import (
    PROMOTE_ANNOTATION,
    SERVE_VERSION_ANNOTATION,
    CanaryProgress,
    FineTunedModel,
    Version,
)
from ftm_operator.reconcile.holds import Hold

MOST_KEYS = 20


def pinned(model: FineTunedModel, key: str, meant: str) -> str:
    return f"{serves(key)}; the spec means {meant}: `ftm promote {model.metadata.name}` serves that"


def serves(key: str) -> str:
    return f"version {key} serves as the annotation {SERVE_VERSION_ANNOTATION} asks"


def unknown_version(key: str, known: Sequence[str]) -> Hold:
    there = ", ".join(dict.fromkeys(known[:MOST_KEYS]))
    message = (
        f"the annotation {SERVE_VERSION_ANNOTATION} names version {one_line(key, 64)}, which is not kept; write one of "
        f"{there}, or remove the annotation"
    )
    return Hold("Failed", OperatorReason.VERSION_NOT_FOUND, message, stalled=True)


def rolled_back(model: FineTunedModel, version: Version) -> Hold:
    message = (
        f"version {version.key} was rolled back: {one_line(version.message, 1000)}; the version before it serves; "
        f"correct the spec, or try it again with `ftm promote {model.metadata.name}`"
    )
    return Hold("Failed", OperatorReason.ROLLED_BACK, message, stalled=True)


def starting(key: str, said: str) -> Hold:
    return Hold("Deploying", OperatorReason.CANARY, f"canary {key} starts and gets no requests yet: {said}")


def gateway_awaited(own: CanaryProgress, steps: Sequence[CanaryStep]) -> Hold:
    message = f"canary {own.key} answers; the Gateway has not taken up {_share(own, steps)} yet"
    return Hold("Deploying", OperatorReason.CANARY, message)


def sharing(
    model: FineTunedModel, own: CanaryProgress, steps: Sequence[CanaryStep], ends: datetime | None, judged: str
) -> Hold:
    if ends is None:
        until = (
            f" until `ftm promote {model.metadata.name}`, which writes the annotation {PROMOTE_ANNOTATION}: "
            f"{own.key}/{own.step}"
        )
    else:
        until = f" until {ends.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    message = f"canary {own.key} gets {_share(own, steps)}{until}" + (f"; {judged}" if judged else "")
    return Hold("Deploying", OperatorReason.CANARY, message)


def all_awaited(key: str) -> Hold:
    message = (
        f"canary {key} gets all requests before the only replica of the old version ends; the Gateway has not taken "
        "that up yet"
    )
    return Hold("Deploying", OperatorReason.CANARY, message)


def replacing(key: str, weight: int) -> str:
    share = f"gets {weight} percent of the requests" if weight else "gets no requests, since its Pods do not answer,"
    return f"canary {key} {share} until its version has taken the old one's place"


def _share(own: CanaryProgress, steps: Sequence[CanaryStep]) -> str:
    number = min(own.step, len(steps) - 1)
    return f"{steps[number].weight} percent of the requests, step {number + 1} of {len(steps)},"
