"""Finds the adapters that a change of their model, of its pods or of what its engines hold concerns. Does no I/O."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.contract.run_time_adapters import HeldAdapter, HeldAdapters
from ftm_operator.api.fine_tuned_adapter import served_name_of
from ftm_operator.observe.adapter_pods import answering_pods
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.view.object_cache import Key, key_of

Held = Mapping[str, Mapping[str, HeldAdapter]]
"""By served name and pod."""


@dataclass(frozen=True)
class _Seen:
    basis: str
    """A hash of what the passes over all of the model's adapters read."""
    held: Held


class ModelChanges:
    """The state of each model that its adapters were last told of."""

    def __init__(self) -> None:
        self._seen: dict[Key, _Seen] = {}

    def concerned(
        self,
        key: Key,
        model: Manifest | None,
        pods: Sequence[Manifest],
        held: Mapping[str, HeldAdapters],
        adapters: Sequence[Manifest],
    ) -> list[Key]:
        """Returns the adapters that are to be looked at since the last call for this model."""
        before = self._seen.pop(key, None)
        if not adapters:
            return []
        now = self._seen[key] = _Seen(_basis(model, pods), _by_name(held))
        if before is None or before.basis != now.basis:
            return [key_of(adapter) for adapter in adapters]
        names = {name for name in {*before.held, *now.held} if before.held.get(name) != now.held.get(name)}
        return [key_of(adapter) for adapter in adapters if served_name_of(adapter) in names]


def _basis(model: Manifest | None, pods: Sequence[Manifest]) -> str:
    status = (model or {}).get("status") or {}
    read = [status.get(field) for field in ("sources", "facts", "plan", "preview", "endpoint")]
    ready = [pod["metadata"]["name"] for pod in answering_pods(pods)]
    annotations = (model or {}).get("metadata", {}).get("annotations")
    return short_hash([(model or {}).get("spec"), annotations, read, ready], 16)


def _by_name(held: Mapping[str, HeldAdapters]) -> Held:
    by_name: dict[str, dict[str, HeldAdapter]] = defaultdict(dict)
    for pod, all_held in held.items():
        for adapter in all_held.adapters:
            by_name[adapter.name][pod] = adapter
    return by_name
