"""Runs the inspect step: facts about a base and its adapters, and whether they fit, from configs and headers alone.

It runs in an image without torch, numpy and safetensors.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from math import sqrt

from ftm_jobs.adapters.base_names import BaseNames
from ftm_jobs.adapters.changes import LowRank, Update
from ftm_jobs.adapters.dynamic_serving import OWN_TOKENIZER, kinds, objections, served_rank
from ftm_jobs.checkpoint.headers import main_dtype
from ftm_jobs.checkpoint.quantized_base import AcceptedWeights
from ftm_jobs.checkpoint.sources import StoredAdapter, StoredBase
from ftm_jobs.checkpoint.tensor_groups import tensor_groups
from ftm_jobs.contract.config import architecture_config
from ftm_jobs.contract.facts import AdapterFacts, BaseFacts, Facts
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import Reason
from ftm_jobs.merge.inputs import Inputs, load_inputs, load_unmerged
from ftm_jobs.steps.arguments import add_base_and_adapters, add_report_file, base_and_adapters
from ftm_jobs.stores.source import Source

FULL_PRECISION, AS_STORED = "FullPrecision", "AsStored"


def add_arguments(parser: ArgumentParser) -> None:
    add_base_and_adapters(parser, adapter_required=False)
    parser.add_argument(
        "--unmerged",
        action="store_true",
        help="nothing is to be merged: the base is served as it is stored, in 16 bits or FP8, and each adapter beside "
        "it",
    )
    parser.add_argument(
        "--quantized-base",
        choices=[FULL_PRECISION, AS_STORED],
        default=FULL_PRECISION,
        help=f"{AS_STORED}: with --unmerged, take a base in fewer bits, too; default %(default)s",
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    base, adapters = base_and_adapters(parsed)
    if not parsed.unmerged:
        return inspect(base, adapters)
    accepted = AcceptedWeights.ANY if parsed.quantized_base == AS_STORED else AcceptedWeights.FP8
    return inspect(base, adapters, accepted)


def inspect(
    base: Source, adapters: Sequence[Source], accepted: AcceptedWeights = AcceptedWeights.UNQUANTIZED
) -> Report:
    """Reports the facts. All are to be merged, unless weights of another kind are accepted.

    Raises InvalidInput when a source is malformed or does not fit, Failed when a store cannot be reached.
    """
    merged = accepted is AcceptedWeights.UNQUANTIZED
    inputs = load_inputs(base, adapters) if merged else load_unmerged(base, adapters, accepted)
    facts = facts_of(inputs)
    named = facts.base.architecture or facts.base.model_type
    fitting = f"{len(adapters)} {'adapter fits' if len(adapters) == 1 else 'adapters fit'} " if adapters else ""
    return Report(
        step=Step.INSPECT,
        outcome=Outcome.DONE,
        reason=Reason.INSPECTED,
        message=f"{fitting}{named} with {facts.base.parameters:,} parameters in {facts.base.dtype}",
        facts=facts,
        notes=inputs.notes,
    )


def facts_of(inputs: Inputs) -> Facts:
    return Facts(
        base=base_facts(inputs.base),
        adapters=tuple(
            adapter_facts(adapter, updates, inputs.tensors.names, own_tokenizer=own)
            for adapter, updates, own in zip(inputs.adapters, inputs.updates, inputs.carried.own_tokenizer, strict=True)
        ),
    )


def base_facts(base: StoredBase) -> BaseFacts:
    tensors = [tensor for header in base.headers for tensor in header.tensors.values()]
    config = base.config
    return BaseFacts(
        uri=base.store.uri,
        digest=base.digest,
        architecture=config.architecture,
        model_type=config.model_type,
        dtype=main_dtype(tensors),
        parameters=sum(tensor.elements for tensor in tensors),
        weight_bytes=sum(tensor.size for tensor in tensors),
        layers=config.layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        attention_heads=config.attention_heads,
        key_value_heads=config.key_value_heads,
        head_size=config.head_size,
        vocabulary_size=config.vocabulary_size,
        max_position_embeddings=config.max_position_embeddings,
        tied_embeddings=base.tied_embeddings,
        tensors=tensor_groups(tensors, config.layers),
        config=architecture_config(config.content),
    )


def adapter_facts(
    adapter: StoredAdapter, updates: Sequence[Update], base_names: BaseNames, *, own_tokenizer: bool
) -> AdapterFacts:
    tensors = list(adapter.header.tensors.values())
    config = adapter.config
    changes = [update.change for update in updates if isinstance(update.change, LowRank)]
    return AdapterFacts(
        uri=adapter.store.uri,
        digest=adapter.digest,
        rank=served_rank(config, updates),
        alpha=config.alpha,
        scaling=config.alpha / (sqrt(config.rank) if config.rslora else config.rank),
        target_modules=tuple(sorted({change.module.rpartition(".")[2] for change in changes})),
        layers_adapted=len(changes),
        dtype=main_dtype(tensors),
        weight_bytes=sum(tensor.size for tensor in tensors),
        kinds=kinds(updates),
        dynamic_objections=(
            *objections(config, updates, adapter.scale, base_names),
            *((OWN_TOKENIZER,) if own_tokenizer else ()),
        ),
    )
