"""Holds the operator's knowledge of the cluster, as watches and full lists told of it. Does no I/O."""

from dataclasses import dataclass, field

from ftm_operator.observe.contests import Contests
from ftm_operator.runtime.view.gpu_inventory import GpuInventory
from ftm_operator.runtime.view.object_cache import ObjectCache


@dataclass
class ClusterView:
    """The objects, the GPUs and the kinds that the cluster has."""

    gpus: GpuInventory
    objects: ObjectCache = field(default_factory=ObjectCache)
    optional_kinds: set[str] = field(default_factory=set)
    """Kinds that a cluster may lack, and that this one had at the last full list."""
    api_groups: frozenset[str] = frozenset()
    """The API groups that this cluster had then."""
    kubernetes: str | None = None
    """The API server's version, as in v1.36.2; None until it was asked."""
    contests: Contests = field(default_factory=Contests)
    """The fields of children that another manager would take back."""
