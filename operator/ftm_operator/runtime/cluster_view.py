"""Holds the operator's knowledge of the cluster, as watches and full lists told of it. Does no I/O."""

from dataclasses import dataclass, field

from ftm_operator.observe.contests import Contests
from ftm_operator.resources.metadata import Manifest
from ftm_operator.runtime.gpu_inventory import GpuInventory
from ftm_operator.runtime.object_cache import Key, ObjectCache


@dataclass
class ClusterView:
    """The objects, the GPUs and the kinds that the cluster has."""

    gpus: GpuInventory
    objects: ObjectCache = field(default_factory=ObjectCache)
    optional_kinds: set[str] = field(default_factory=set)
    """Kinds that a cluster may lack, and that this one had at the last full list."""
    contests: Contests = field(default_factory=Contests)
    """The fields of children that another manager would take back."""
    foreign: dict[tuple[str, Key], Manifest] = field(default_factory=dict)
    """Others' objects that hold a child's name; the next pass observes each of them once."""

    def child(self, kind: str, key: Key) -> Manifest | None:
        """Returns the object of this name: another's that a write has met, else the one that watches told of."""
        return self.foreign.pop((kind, key), None) or self.objects.get(kind, key)
