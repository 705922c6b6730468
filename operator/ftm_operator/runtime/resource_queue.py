"""Queues the resources that a change concerns: its own, its owner's, and those that wait for it.

Models and adapters are in one queue, so that the oldest change is worked on first whatever it is of.
"""

from collections import defaultdict
from typing import NamedTuple

from ftm_operator.api.fine_tuned_adapter import KIND as ADAPTER_KIND
from ftm_operator.api.fine_tuned_adapter import model_of
from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.resources.metadata import ADAPTER, ARTIFACT, NAME, Manifest
from ftm_operator.runtime.view.object_cache import Key, key_of
from ftm_operator.runtime.work_queue import WorkQueue

KINDS = (KIND, ADAPTER_KIND)
"""The kinds of resources that passes are run over."""


class ResourceKey(NamedTuple):
    """A resource that a pass is to be run over."""

    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> Key:
        """Returns the key of the resource among those of its kind."""
        return self.namespace, self.name


class ResourceQueue(WorkQueue[ResourceKey]):
    """The work queue of FineTunedModels and FineTunedAdapters."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting_for: dict[tuple[str, str], set[ResourceKey]] = defaultdict(set)

    def add_model(self, key: Key) -> None:
        self.add(ResourceKey(KIND, *key))

    def add_adapter(self, key: Key) -> None:
        self.add(ResourceKey(ADAPTER_KIND, *key))

    def add_concerned(self, item: Manifest) -> None:
        """Adds the resources that an object concerns; an adapter concerns its model."""
        namespace, name = key_of(item)
        if item["kind"] == ADAPTER_KIND:
            self.add_model((namespace, model_of(item)))
        if item["kind"] in KINDS:
            self.add(ResourceKey(item["kind"], namespace, name))
            return
        labels = item["metadata"].get("labels") or {}
        if owner := labels.get(NAME):
            self.add_model((namespace, owner))
        if owner := labels.get(ADAPTER):
            self.add_adapter((namespace, owner))
        for key in self._waiting_for.pop((namespace, labels.get(ARTIFACT, "")), ()):
            self.add(key)

    def add_with(self, artifact: str, key: ResourceKey) -> None:
        """Adds the resource when an object with the artifact's label changes in its namespace."""
        self._waiting_for[key.namespace, artifact].add(key)
