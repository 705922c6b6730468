"""Opens the sources of a step and checks them against each other; merge/ties.py alone reads weights, seldom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter
from ftm_jobs.adapters.base_tensors import BaseTensors
from ftm_jobs.adapters.changes import Update
from ftm_jobs.adapters.match import match
from ftm_jobs.adapters.promised_layers import missing_layers
from ftm_jobs.checkpoint.carried_files import CarriedFiles, carried_files
from ftm_jobs.checkpoint.headers import Header
from ftm_jobs.checkpoint.output_layout import OutputLayout, rounding_notes
from ftm_jobs.checkpoint.quantized_base import AcceptedWeights, quantization_method
from ftm_jobs.checkpoint.quantized_layers import layers_as_served
from ftm_jobs.checkpoint.sources import StoredAdapter, StoredBase, load_adapter, load_base
from ftm_jobs.contract.keys import ClassifierTask
from ftm_jobs.merge.documents import Documents
from ftm_jobs.merge.plan import AS_THE_BASE, MergeChoices, plan
from ftm_jobs.merge.ties import with_ties
from ftm_jobs.stores import Stat, Store, open_store
from ftm_jobs.stores.source import Source

NO_OUTPUT = OutputLayout((), {})
AWQ_NOTE = (
    "the base is AWQ: adapters beside it have been seen to answer nonsense where they were right beside 16-bit weights "
    "(vLLM #42488); ask each something in its verification.prompts"
)


@dataclass(frozen=True)
class Inputs:
    """Holds a base and adapters that fit it."""

    base: StoredBase
    tensors: BaseTensors
    """The base's."""
    adapters: tuple[StoredAdapter, ...]
    updates: tuple[tuple[Update, ...], ...]
    """The updates of each adapter, in the adapters' order."""
    output: OutputLayout = NO_OUTPUT
    """The files that they become; none where nothing is merged."""
    choices: MergeChoices = AS_THE_BASE
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
    """Opens, reads and checks all sources, and plans the merge of all of them."""
    loaded_base = load_base(open_store(base), base)
    matched = _matched(loaded_base, loaded_base.headers, adapters, choices.task)
    output = plan(
        matched.tensors,
        Documents(loaded_base.config.content, loaded_base.index),
        [(adapter.file, changes) for adapter, changes in zip(matched.adapters, matched.updates, strict=True)],
        choices,
    )
    rows = _embedding_rows(matched.tensors, output) or loaded_base.config.vocabulary_size
    carried = carried_files(loaded_base, matched.adapters, rows)
    documents, dropped = {**output.documents, **carried.documents}, output.dropped | carried.dropped
    output = replace(output, documents=documents, dropped=dropped)
    notes = [*rounding_notes(output.files), *carried.notes, *matched.notes, *loaded_base.notes]
    return replace(matched, output=output, choices=choices, carried=carried, notes=tuple(notes))


def load_unmerged(base: Source, adapters: Sequence[Source], accepted: AcceptedWeights) -> Inputs:
    """Opens, reads and checks all sources, each adapter alone beside the base, which is served as it is stored."""
    loaded_base = load_base(open_store(base), base, accepted)
    content = loaded_base.config.content
    quantization = content.get("quantization_config")
    headers = layers_as_served(loaded_base.headers, quantization) if isinstance(quantization, Mapping) else ()
    matched = _matched(loaded_base, headers or loaded_base.headers, adapters, None)
    carried = [
        carried_files(loaded_base, [adapter], loaded_base.config.vocabulary_size) for adapter in matched.adapters
    ]
    own_tokenizer = tuple(own for files in carried for own in files.own_tokenizer)
    notes = (*((AWQ_NOTE,) if quantization_method(content) == "awq" else ()), *matched.notes)
    return replace(matched, carried=CarriedFiles(own_tokenizer=own_tokenizer), notes=notes)


def _matched(
    base: StoredBase, headers: Sequence[Header], adapters: Sequence[Source], task: ClassifierTask | None
) -> Inputs:
    """Returns what each adapter does to the base, whose layers `headers` describe."""
    tensors = BaseTensors(
        base.store.uri, base.config.model_type, base.tied_embeddings, headers, config=base.config.content
    )
    loaded: list[StoredAdapter] = []
    updates: list[tuple[Update, ...]] = []
    notes: list[str] = []
    for number, source in enumerate(adapters):
        adapter = load_adapter(open_store(source), source)
        tensors = with_ties(base, tensors, adapter.header)
        applied = AppliedAdapter(number, adapter.file, adapter.config, adapter.scale, task)
        updates.append(tuple(match(tensors, applied, adapter.header)))
        loaded.append(adapter)
        missing = missing_layers(tensors, base.config, applied, adapter.content, updates[-1])
        notes += [*([missing] if missing else ()), *adapter.notes]
    return Inputs(base, tensors, tuple(loaded), tuple(updates), notes=tuple(notes))


def _embedding_rows(base: BaseTensors, output: OutputLayout) -> int | None:
    """Returns the rows of the merged model's embedding; None where no tensor is known to be that."""
    tensors = (tensor for file in output.files for tensor in file.tensors)
    return next((tensor.shape[0] for tensor in tensors if tensor.name == base.embedding), None)
