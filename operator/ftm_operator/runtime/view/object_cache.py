"""Keeps the cluster's objects by kind, namespace and name, with an index of the labels that passes look up by.

Filled by watch events, by the answers to the operator's own writes, and by full lists; an older version of an object
never replaces a newer one. Does no I/O.
"""

from collections import defaultdict
from collections.abc import Iterable

from ftm_operator.api.fine_tuned_adapter import KIND as ADAPTER_KIND
from ftm_operator.api.fine_tuned_adapter import may_share_a_name, model_of
from ftm_operator.observe.replica_owners import owns_replicas
from ftm_operator.resources.metadata import ADAPTER, ARTIFACT, INSPECTION, NAME, Manifest

INDEXED_LABELS = (NAME, ADAPTER, ARTIFACT, INSPECTION)
_MODEL = "spec.model"
"""The field of FineTunedAdapters that they are looked up by, beside the labels of children."""
Key = tuple[str, str]
"""Namespace and name."""


class ObjectCache:
    """The newest version of each object that the operator has seen."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Manifest]] = defaultdict(dict)
        self._index: dict[tuple[str, str, str, str], set[Key]] = defaultdict(set)

    def get(self, kind: str, key: Key) -> Manifest | None:
        return self._objects[kind].get(key)

    def keys(self, kind: str) -> list[Key]:
        return list(self._objects[kind])

    def labelled(self, kind: str, namespace: str, label: str, value: str) -> list[Manifest]:
        """Returns the objects of one namespace that carry the label, by name. The label is one of INDEXED_LABELS."""
        return [self._objects[kind][key] for key in sorted(self._index[kind, namespace, label, value])]

    def adapters_of(self, model: Key) -> list[Manifest]:
        """Returns the FineTunedAdapters that name the model, by name."""
        return self.labelled(ADAPTER_KIND, model[0], _MODEL, model[1])

    def rivals_of(self, adapter: Manifest) -> list[Manifest]:
        """Returns the other FineTunedAdapters of the same model that may be loaded under the same name."""
        if adapter["kind"] != ADAPTER_KIND:
            return []
        namespace, name = key_of(adapter)
        return [
            other
            for other in self.adapters_of((namespace, model_of(adapter)))
            if may_share_a_name(adapter, other) and other["metadata"]["name"] != name
        ]

    def put(self, kind: str, item: Manifest) -> bool:
        """Returns whether the object is new, or newer than the cached one."""
        key, cached = key_of(item), self._objects[kind].get(key_of(item))
        if cached and version(cached) >= version(item):
            return False
        self._unindex(kind, key)
        if owners := owns_replicas(item["metadata"].pop("managedFields", None)):
            item["metadata"]["managedFields"] = owners
        self._objects[kind][key] = item
        for place in self._places(kind, item):
            self._index[place].add(key)
        return True

    def remove(self, kind: str, key: Key) -> bool:
        self._unindex(kind, key)
        return self._objects[kind].pop(key, None) is not None

    def replace(self, kind: str, items: Iterable[Manifest], list_version: int, namespace: str | None) -> list[Manifest]:
        """Makes the cache equal to a full list of a namespace (None: of all), except for what is newer than it.

        Returns the objects that watches had missed: those that are new, newer or gone.
        """
        listed = {key_of(item): item for item in items}
        missed = [item for item in listed.values() if self.put(kind, item)]
        for key, cached in list(self._objects[kind].items()):
            in_scope = namespace is None or key[0] == namespace
            if in_scope and key not in listed and version(cached) <= list_version:
                self.remove(kind, key)
                missed.append(cached)
        return missed

    def forget(self, kind: str) -> None:
        """Removes all objects of a kind."""
        for key in self.keys(kind):
            self.remove(kind, key)

    def _unindex(self, kind: str, key: Key) -> None:
        if cached := self._objects[kind].get(key):
            for place in self._places(kind, cached):
                self._index[place].discard(key)
                if not self._index[place]:
                    del self._index[place]

    def _places(self, kind: str, item: Manifest) -> list[tuple[str, str, str, str]]:
        labels, namespace = item["metadata"].get("labels", {}), item["metadata"]["namespace"]
        places = [(kind, namespace, label, labels[label]) for label in INDEXED_LABELS if label in labels]
        if kind == ADAPTER_KIND:
            places.append((kind, namespace, _MODEL, model_of(item)))
        return places


def key_of(item: Manifest) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def version(item: Manifest) -> int:
    """Returns an object's resourceVersion; versions of one kind can be compared as numbers."""
    return int(item["metadata"]["resourceVersion"])
