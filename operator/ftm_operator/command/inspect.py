"""Shows a base model and adapters by the Jobs' own step: `ftm inspect`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ftm_jobs.contract.byte_counts import format_bytes_in_column
from ftm_jobs.contract.facts import AdapterFacts, BaseFacts, Facts
from ftm_jobs.contract.steps import Step
from ftm_operator.command.input_files import facts_of_config_file
from ftm_operator.command.options import OutputFormat, OutputOption
from ftm_operator.command.sources import ADAPTER_HELP, ADAPTER_METAVAR, URI_HELP, source_flags
from ftm_operator.local import steps as local
from ftm_operator.local.manifest_file import read_manifest

NOT_HASHED = "not known before the weights are hashed"


def inspect(
    uri: Annotated[
        str | None,
        typer.Argument(metavar="URI|MANIFEST", help=f"The base model: {URI_HELP}; or a YAML file that names it."),
    ] = None,
    adapter: Annotated[list[str] | None, typer.Option(metavar=ADAPTER_METAVAR, help=ADAPTER_HELP)] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="config.json", help="Instead of URI: a model's config.json, to plan it before it is here."
        ),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show a base, adapters to it, and whether they fit; no weights are read.

    Reads configs and safetensors headers, of a MANIFEST those of the FineTunedModel's sources. Credentials come from
    the environment, as for every command here. With --config the weights are worked out from the architecture.
    `-o json` writes what `ftm plan --facts` reads.
    """
    if config and (uri or adapter):
        raise typer.BadParameter("--config stands alone; leave out URI and --adapter")
    manifest = Path(uri) if uri and _is_manifest(uri) else None
    if manifest and adapter:
        raise typer.BadParameter(f"{uri} names its own adapters; leave out --adapter, or name a base instead")
    if config:
        facts = facts_of_config_file(config)
    elif manifest:
        facts = local.inspect(read_manifest(manifest))
    elif uri:
        report = local.run_command(Step.INSPECT, source_flags(uri, adapter or []))
        assert report.facts is not None
        facts = report.facts
        local.say_notes(report)
    else:
        raise typer.BadParameter("name a base model or a manifest, or give --config")
    if output is OutputFormat.JSON:
        print(json.dumps(facts.to_json(), indent=2))
    else:
        print(format_facts(facts))


def _is_manifest(uri: str) -> bool:
    return uri.endswith((".yaml", ".yml")) and Path(uri).is_file()


def format_facts(facts: Facts) -> str:
    """Returns facts as a table, the base first."""
    base = facts.base
    lines = {
        "base": base.uri,
        "  architecture": f"{base.architecture or 'not named'} ({base.model_type})",
        "  weights": f"{base.parameters:,} parameters, {format_bytes_in_column(base.weight_bytes)} in {base.dtype}",
        "  shape": _shape(base),
        "  heads": f"{base.attention_heads}, {base.key_value_heads} for keys and values, {base.head_size} wide"
        if base.attention_heads
        else "config.json names none",
        "  context": f"{base.max_position_embeddings:,} tokens"
        if base.max_position_embeddings
        else "config.json names none",
        "  digest": base.digest or NOT_HASHED,
    }
    table = [f"{name:<16} {value}" for name, value in lines.items()]
    for number, adapter in enumerate(facts.adapters, 1):
        table += [f"{name:<16} {value}" for name, value in _adapter_lines(number, adapter).items()]
    return "\n".join(table)


def _shape(base: BaseFacts) -> str:
    layers = f"{base.layers} layers" if base.layers else "layers not numbered"
    width = f"width {base.hidden_size}" if base.hidden_size else "width not named"
    vocabulary = f"vocabulary {base.vocabulary_size:,}" if base.vocabulary_size else "vocabulary not named"
    return ", ".join([layers, width, vocabulary, *(["tied embeddings"] if base.tied_embeddings else [])])


def _adapter_lines(number: int, adapter: AdapterFacts) -> dict[str, str]:
    return {
        f"adapter {number}": adapter.uri,
        "  rank": f"{adapter.rank}, alpha {adapter.alpha:g}, scaling {adapter.scaling:g}",
        "  changes": f"{adapter.layers_adapted} weights: {', '.join(adapter.target_modules)}",
        "  weights": f"{format_bytes_in_column(adapter.weight_bytes)} in {adapter.dtype}",
        "  digest": adapter.digest or NOT_HASHED,
    }
