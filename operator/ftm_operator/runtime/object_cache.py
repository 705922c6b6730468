"""What the operator knows of the cluster's objects, by kind, namespace and name, indexed by the labels it looks up by.

Filled by watch events, by the answers to the operator's own writes, and by full lists; an older version of an object
never replaces a newer one. Does no I/O.
"""

from collections import defaultdict
from collections.abc import Iterable

from ftm_operator.resources.metadata import ARTIFACT, INSPECTION, NAME, Manifest

INDEXED_LABELS = (NAME, ARTIFACT, INSPECTION)
Key = tuple[str, str]
"""Namespace and name."""


class ObjectCache:
    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Manifest]] = defaultdict(dict)
        self._index: dict[tuple[str, str, str, str], set[Key]] = defaultdict(set)

    def get(self, kind: str, key: Key) -> Manifest | None:
        return self._objects[kind].get(key)

    def keys(self, kind: str) -> list[Key]:
        return list(self._objects[kind])

    def labelled(self, kind: str, namespace: str, label: str, value: str) -> list[Manifest]:
        """Objects of one namespace that carry the label, by name. The label is one of INDEXED_LABELS."""
        return [self._objects[kind][key] for key in sorted(self._index[kind, namespace, label, value])]

    def put(self, kind: str, item: Manifest) -> bool:
        """Whether the object is new or newer than the one known."""
        key, known = key_of(item), self._objects[kind].get(key_of(item))
        if known and version(known) >= version(item):
            return False
        self._unindex(kind, key)
        item["metadata"].pop("managedFields", None)
        self._objects[kind][key] = item
        for place in self._places(kind, item):
            self._index[place].add(key)
        return True

    def remove(self, kind: str, key: Key) -> bool:
        self._unindex(kind, key)
        return self._objects[kind].pop(key, None) is not None

    def replace(self, kind: str, items: Iterable[Manifest], list_version: int, namespace: str | None) -> list[Manifest]:
        """Makes the cache equal to a full list of a namespace (None: of all), except for what is newer than it.

        Returns what had been missed: objects unknown or known in an older version, and those that are gone.
        """
        listed = {key_of(item): item for item in items}
        missed = [item for item in listed.values() if self.put(kind, item)]
        for key, known in list(self._objects[kind].items()):
            in_scope = namespace is None or key[0] == namespace
            if in_scope and key not in listed and version(known) <= list_version:
                self.remove(kind, key)
                missed.append(known)
        return missed

    def forget(self, kind: str) -> None:
        """There is no object of the kind any more."""
        for key in self.keys(kind):
            self.remove(kind, key)

    def _unindex(self, kind: str, key: Key) -> None:
        if known := self._objects[kind].get(key):
            for place in self._places(kind, known):
                self._index[place].discard(key)
                if not self._index[place]:
                    del self._index[place]

    def _places(self, kind: str, item: Manifest) -> list[tuple[str, str, str, str]]:
        labels, namespace = item["metadata"].get("labels", {}), item["metadata"]["namespace"]
        return [(kind, namespace, label, labels[label]) for label in INDEXED_LABELS if label in labels]


def key_of(item: Manifest) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def version(item: Manifest) -> int:
    """An object's resourceVersion; versions of one kind can be compared as numbers."""
    return int(item["metadata"]["resourceVersion"])
