"""The sources of a step, opened and checked against each other; no weights are read."""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.adapters.match import BaseTensors, Update, match
from ftm_jobs.checkpoint.output_layout import OutputLayout
from ftm_jobs.checkpoint.sources import StoredAdapter, StoredBase, load_adapter, load_base
from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.merge.plan import Documents, plan
from ftm_jobs.stores import open_store
from ftm_jobs.stores.source import Source


@dataclass(frozen=True)
class Inputs:
    """A base and adapters that fit it."""

    base: StoredBase
    adapters: tuple[StoredAdapter, ...]
    updates: tuple[tuple[Update, ...], ...]
    """Per adapter, in the adapters' order."""
    output: OutputLayout
    """What they become."""
    quantized_base: QuantizedBase
    max_shard_size: int | None
    """Of the output's weight files, in bytes; None: they are the base's."""


def load_inputs(
    base: Source,
    adapters: Sequence[Source],
    quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION,
    max_shard_size: int | None = None,
) -> Inputs:
    """Open, read and check all sources, without reading weights."""
    loaded_base = load_base(open_store(base), base)
    tensors = BaseTensors(
        loaded_base.store.uri, loaded_base.config.model_type, loaded_base.tied_embeddings, loaded_base.headers
    )
    loaded: list[StoredAdapter] = []
    updates: list[tuple[Update, ...]] = []
    for number, source in enumerate(adapters):
        adapter = load_adapter(open_store(source), source)
        updates.append(tuple(match(tensors, adapter.file, adapter.header, adapter.config, number, adapter.scale)))
        loaded.append(adapter)
    output = plan(
        tensors,
        Documents(loaded_base.config.content, loaded_base.index),
        [(adapter.file, found) for adapter, found in zip(loaded, updates, strict=True)],
        nf4_base=quantized_base is QuantizedBase.NF4_ROUND_TRIP,
        max_shard_size=max_shard_size,
    )
    return Inputs(loaded_base, tuple(loaded), tuple(updates), output, quantized_base, max_shard_size)
