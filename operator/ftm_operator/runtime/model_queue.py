"""Queues the FineTunedModels that a change concerns: its own, its owner's, and those that wait for its artifact."""

from collections import defaultdict

from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.resources.metadata import ARTIFACT, NAME, Manifest
from ftm_operator.runtime.view.object_cache import Key, key_of
from ftm_operator.runtime.work_queue import WorkQueue


class ModelQueue(WorkQueue[Key]):
    """The work queue of FineTunedModels, by namespace and name."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting_for: dict[tuple[str, str], set[Key]] = defaultdict(set)

    def add_concerned(self, item: Manifest) -> None:
        """Adds the models that an object concerns."""
        namespace, name = key_of(item)
        if item["kind"] == KIND:
            self.add((namespace, name))
            return
        labels = item["metadata"].get("labels", {})
        if owner := labels.get(NAME):
            self.add((namespace, owner))
        for key in self._waiting_for.pop((namespace, labels.get(ARTIFACT, "")), ()):
            self.add(key)

    def add_with(self, artifact: str, key: Key) -> None:
        """Adds the model when an object with the artifact's label changes in the model's namespace."""
        self._waiting_for[key[0], artifact].add(key)
