"""Sums up what the engines of a model hold of one adapter, as their pods' agents said. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.contract.run_time_adapters import AdapterState, Effect, HeldAdapter, HeldAdapters
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapterStatus
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.observe.adapter_pods import takes_rank
from ftm_operator.reconcile.holds import Hold
from ftm_operator.resources.metadata import Manifest


@dataclass(frozen=True)
class Holding:
    """One adapter in all pods that answer now."""

    pods: tuple[str, ...]
    """The pods that answer requests for the model."""
    by_pod: Mapping[str, HeldAdapter]
    """The last answers of their agents about the adapter."""
    digest: str | None
    """The wanted version."""
    too_small: tuple[str, ...] = ()
    """The pods whose engines were started for smaller ranks, and are about to be replaced."""

    @property
    def loaded(self) -> tuple[HeldAdapter, ...]:
        """Returns the pods' answers that the wanted version answers there."""
        own = (self.by_pod[pod] for pod in self.pods if pod in self.by_pod)
        return tuple(
            each for each in own if each.state is AdapterState.LOADED and self.digest == each.digest == each.serving
        )

    @property
    def is_complete(self) -> bool:
        """Tells whether every pod answers for the wanted version, and at least one does."""
        return bool(self.pods) and len(self.loaded) == len(self.pods)

    @property
    def count(self) -> str:
        return f"{len(self.loaded)}/{len(self.pods)}"

    @property
    def serving(self) -> str | None:
        """Returns the version that answers; the former one as long as a pod has it."""
        answering = [each.serving for each in self.by_pod.values() if each.serving]
        return next((digest for digest in answering if digest != self.digest), answering[0] if answering else None)

    @property
    def effect(self) -> Effect | None:
        """Returns the smallest change of the base's distribution that was measured."""
        return min(
            (each.effect for each in self.loaded if each.effect), key=lambda effect: effect.difference, default=None
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """Returns what is wrong with the adapter, where it is served all the same."""
        said = [*(each.message for each in self.loaded), *(word for each in self.loaded for word in each.answers or ())]
        return tuple(dict.fromkeys(word for word in said if word))


def holding(
    name: str, status: FineTunedAdapterStatus, pods: Sequence[Manifest], held: Mapping[str, HeldAdapters]
) -> Holding:
    """Returns what the pods, which answer now, hold of the adapter that is served under this name.

    `status` has what is kept of the adapter.
    """
    names = tuple(str(pod["metadata"]["name"]) for pod in pods)
    by_pod = {
        pod: adapter
        for pod in names
        if pod in held
        if (adapter := next((each for each in held[pod].adapters if each.name == name), None))
    }
    rank = status.facts.rank if status.facts else 0
    too_small = tuple(str(pod["metadata"]["name"]) for pod in pods if not takes_rank(pod, rank))
    return Holding(names, by_pod, status.artifact.digest if status.artifact else None, too_small)


def hold_of(holding: Holding, served_name: str, model: str) -> Hold | None:
    """Returns what the adapter waits for in the pods; None where every one answers for it."""
    if holding.is_complete:
        return None
    if not holding.pods:
        return Hold("Deploying", OperatorReason.LOADING, f"no pod of FineTunedModel {model} answers yet")
    counted = f'{len(holding.loaded)} of {len(holding.pods)} pods answer for "{served_name}"'
    of_this = {
        pod: each
        for pod, each in holding.by_pod.items()
        if each.digest == holding.digest and pod not in holding.too_small
    }
    if holding.too_small and not of_this:
        said = f"pod {holding.too_small[0]} was started for smaller ranks and is to be replaced"
        return Hold("Deploying", OperatorReason.LOADING, f"{counted}; {said}")
    for pod, each in of_this.items():
        if each.state is AdapterState.FAILED:
            said = f"pod {pod}: {each.message or 'the engine does not take it'}"
            return Hold("Failed", each.reason or OperatorReason.NOT_LOADED, f"{counted}; {said}", stalled=True)
    tried = next((f"pod {pod}: {each.message}" for pod, each in of_this.items() if each.message), None)
    return Hold("Deploying", OperatorReason.LOADING, "; ".join(filter(None, (counted, tried))))
