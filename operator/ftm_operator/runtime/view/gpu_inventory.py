"""Counts the kinds of GPU: those that nodes and their drivers publish, and those that the installation declares.

It is filled by watch events and full lists of Nodes and ResourceSlices, and keeps the parts that tell of GPUs. Does no
I/O.
A declared kind is for a pool that may be scaled to zero: while a node of it is there, the node is what counts.
"""

from collections.abc import Iterable, Sequence

from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.gpus.observed_accelerators import classes_of_nodes, classes_of_slices
from ftm_operator.resources.metadata import Manifest

KINDS = ("Node", "ResourceSlice")
GPU_RESOURCES = ("nvidia.com/", "amd.com/")


class GpuInventory:
    """The kinds of GPU that models can be placed on."""

    def __init__(self, declared: Sequence[AcceleratorClass] = ()) -> None:
        self._declared = tuple(declared)
        self._objects: dict[str, dict[str, Manifest]] = {kind: {} for kind in KINDS}
        self.classes: tuple[AcceleratorClass, ...] = self._declared

    def watch_event(self, event_type: str | None, item: Manifest) -> bool:
        """Returns whether a watch event changes which GPUs there are."""
        objects, name = self._objects[item["kind"]], item["metadata"]["name"]
        kept = None if event_type == "DELETED" else _gpu_part(item)
        if objects.get(name) == kept:
            return False
        if kept is None:
            objects.pop(name)
        else:
            objects[name] = kept
        return self._recount()

    def listed(self, kind: str, items: Iterable[Manifest]) -> bool:
        """Returns whether a full list changes which GPUs there are."""
        self._objects[kind] = {
            item["metadata"]["name"]: kept for item in items if (kept := _gpu_part(item)) is not None
        }
        return self._recount()

    def _recount(self) -> bool:
        observed = [
            *classes_of_nodes(self._in_order("Node")),
            *classes_of_slices(self._in_order("ResourceSlice")),
        ]
        present = {_kind(each) for each in observed}
        absent = [each for each in self._declared if _kind(each) not in present]
        before, self.classes = self.classes, (*observed, *absent)
        return before != self.classes

    def _in_order(self, kind: str) -> list[Manifest]:
        return [self._objects[kind][name] for name in sorted(self._objects[kind])]


def _kind(accelerator: AcceleratorClass) -> tuple[str | None, str, int]:
    return accelerator.product or accelerator.name, accelerator.resource, accelerator.per_node


def _gpu_part(item: Manifest) -> Manifest | None:
    """Returns a slice's spec, or the GPUs and labels of a node; None for a node without GPUs."""
    if item["kind"] == "ResourceSlice":
        return {"metadata": {"name": item["metadata"]["name"]}, "spec": item.get("spec", {})}
    allocatable = item.get("status", {}).get("allocatable") or {}
    gpus = {name: count for name, count in allocatable.items() if name.startswith(GPU_RESOURCES)}
    if not gpus:
        return None
    labels = item["metadata"].get("labels") or {}
    return {
        "metadata": {
            "name": item["metadata"]["name"],
            "labels": {name: value for name, value in labels.items() if name.startswith(GPU_RESOURCES)},
        },
        "spec": {"unschedulable": bool(item.get("spec", {}).get("unschedulable"))},
        "status": {"allocatable": gpus},
    }
