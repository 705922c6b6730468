"""Opens the sources of a step and checks them against each other; merge/ties.py alone reads weights, seldom."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Update
from ftm_jobs.adapters.match import match
from ftm_jobs.adapters.promised_layers import missing_layers
from ftm_jobs.checkpoint.carried_files import CarriedFiles, carried_files
from ftm_jobs.checkpoint.output_layout import OutputLayout, rounding_notes
from ftm_jobs.checkpoint.sources import StoredAdapter, StoredBase, load_adapter, load_base
from ftm_jobs.merge.documents import Documents
from ftm_jobs.merge.plan import AS_THE_BASE, MergeChoices, plan
from ftm_jobs.merge.ties import with_ties
from ftm_jobs.stores import Stat, Store, open_store
from ftm_jobs.stores.source import Source


@dataclass(frozen=True)
class Inputs:
    """Holds a base and adapters that fit it."""

    base: StoredBase
    tensors: BaseTensors
    """The base's."""
    adapters: tuple[StoredAdapter, ...]
    updates: tuple[tuple[Update, ...], ...]
    """The updates of each adapter, in the adapters' order."""
    output: OutputLayout
    """The files that they become."""
    choices: MergeChoices
    carried: CarriedFiles = field(default_factory=CarriedFiles)
    """Files beside the weights that are not the base's."""
    notes: tuple[str, ...] = ()
    """Sentences for people: what of the sources is not in the merged model, and what was rounded."""

    @property
    def copied(self) -> list[tuple[Store, Stat]]:
        """The files beside the weights that the merged model takes as they are: the base's, then the adapters'."""
        others = {header.file for header in self.base.headers} | self.output.dropped | self.output.documents.keys()
        of_base = [(self.base.store, stat) for path, stat in self.base.stats.items() if path not in others]
        return [*of_base, *self.carried.copied]

    @property
    def weights_changed(self) -> int:
        """Number of the base's tensors that the adapters change."""
        return len({update.weight for updates in self.updates for update in updates})


def load_inputs(
    base: Source,
    adapters: Sequence[Source],
    choices: MergeChoices = AS_THE_BASE,
) -> Inputs:
    """Opens, reads and checks all sources."""
    loaded_base = load_base(open_store(base), base)
    tensors = BaseTensors(
        loaded_base.store.uri,
        loaded_base.config.model_type,
        loaded_base.tied_embeddings,
        loaded_base.headers,
        config=loaded_base.config.content,
    )
    loaded: list[StoredAdapter] = []
    updates: list[tuple[Update, ...]] = []
    notes: list[str] = []
    for number, source in enumerate(adapters):
        adapter = load_adapter(open_store(source), source)
        tensors = with_ties(loaded_base, tensors, adapter.header)
        applied = AppliedAdapter(number, adapter.file, adapter.config, adapter.scale, choices.task)
        updates.append(tuple(match(tensors, applied, adapter.header)))
        loaded.append(adapter)
        missing = missing_layers(tensors, loaded_base.config, applied, adapter.content, updates[-1])
        notes += [*([missing] if missing else ()), *adapter.notes]
    output = plan(
        tensors,
        Documents(loaded_base.config.content, loaded_base.index),
        [(adapter.file, changes) for adapter, changes in zip(loaded, updates, strict=True)],
        choices,
    )
    sources = loaded_base, tensors, tuple(loaded), tuple(updates)
    carried = carried_files(loaded_base, loaded, _embedding_rows(tensors, output) or loaded_base.config.vocabulary_size)
    documents, dropped = {**output.documents, **carried.documents}, output.dropped | carried.dropped
    output = replace(output, documents=documents, dropped=dropped)
    notes = [*rounding_notes(output.files), *carried.notes, *notes, *loaded_base.notes]  # what has no room is the last
    return Inputs(*sources, output, choices, carried, tuple(notes))


def _embedding_rows(base: BaseTensors, output: OutputLayout) -> int | None:
    """Returns the rows of the merged model's embedding; None where no tensor is known to be that."""
    tensors = (tensor for file in output.files for tensor in file.tensors)
    return next((tensor.shape[0] for tensor in tensors if tensor.name == base.embedding), None)
