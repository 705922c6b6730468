"""`ftm inspect` and `ftm merge`: the Jobs' own steps for a person, with plain paths beside URIs."""

import hashlib
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ftm_jobs.contract.facts import AdapterFacts, Facts
from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.contract.steps import Step
from ftm_operator.api.errors import InvalidManifest
from ftm_operator.local import steps as local
from ftm_operator.planning.model.config_facts import UnreadableConfig, facts_of_config

OPTIONS = re.compile(r"((?:,(?:scale|digest|credentials)=[^,]*)*)$")
URI = "hf://org/name[@revision], s3://bucket/prefix or a path"

BaseOption = Annotated[str, typer.Option(metavar="URI", help=f"The base model: {URI}.")]
AdapterOption = Annotated[
    list[str], typer.Option(metavar="URI[,scale=S]", help="A LoRA adapter; can be repeated, in the order to apply.")
]


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How the result is printed.")]


def inspect(
    uri: Annotated[str | None, typer.Argument(metavar="URI", help=f"The base model: {URI}.")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="URI[,scale=S]", help="A LoRA adapter; can be repeated, in the order to apply."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="config.json", help="Instead of URI: a model's config.json, to plan it before it is here."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a base is, and adapters to it, and whether they fit; no weights are read.

    Reads configs and safetensors headers. Credentials come from the environment, as for every command here. With
    --config the weights are worked out from the architecture. `-o json` writes what `ftm plan --facts` reads.
    """
    if config and (uri or adapter):
        raise typer.BadParameter("--config stands alone; leave out URI and --adapter")
    if config:
        facts = read_config(config)
    elif uri:
        found = local.step(Step.INSPECT, _sources(uri, adapter or [])).facts
        assert found is not None
        facts = found
    else:
        raise typer.BadParameter("name a base model, or give --config")
    if output is Output.JSON:
        print(json.dumps(facts.to_json(), indent=2))
    else:
        print(format_facts(facts))


def read_config(path: Path) -> Facts:
    """Facts of a model whose config.json is all there is. Raises InvalidManifest naming the file and the field."""
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise InvalidManifest([f"{path}: {error.strerror}; name a model's config.json"]) from None
    except ValueError as error:
        raise InvalidManifest([f"{path} is not JSON: {error}"]) from None
    if not isinstance(document, dict):
        raise InvalidManifest([f"{path} is not a JSON object; name a model's config.json"])
    try:
        base = facts_of_config(path.resolve().as_uri(), f"sha256:{hashlib.sha256(content).hexdigest()}", document)
    except UnreadableConfig as error:
        raise InvalidManifest([f"{path} {error}"]) from None
    return Facts(base=base, adapters=())


def merge(
    base: BaseOption,
    adapter: AdapterOption,
    out: Annotated[str, typer.Option(metavar="URI", help="An empty folder, s3://bucket/prefix or a path.")],
    quantized_base: Annotated[
        QuantizedBase, typer.Option(help="What a QLoRA adapter is added to: the base as it is, or as 4 bits leave it.")
    ] = QuantizedBase.FULL_PRECISION,
    max_shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Of the weight files, as in 5GB or 2GiB; without it the base's are kept."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Merge adapters into a base and write the model to exactly one folder.

    The folder must be empty or hold this same merge: run again, a merge that was stopped is finished and one that is
    complete does nothing.
    """
    flags = [] if quantized_base is QuantizedBase.FULL_PRECISION else ["--quantized-base", quantized_base]
    flags += [] if max_shard_size is None else ["--max-shard-size", max_shard_size]
    report = local.step(Step.MERGE, [*_sources(base, adapter), "--out", source(out), *flags])
    if output is Output.JSON:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report.message)


def source(text: str) -> str:
    """A SOURCE of `python -m ftm_jobs`: a plain path becomes a file:// URI."""
    options = OPTIONS.search(text)
    assert options is not None
    uri = text[: options.start()]
    return text if "://" in uri else f"{Path(uri).expanduser().resolve().as_uri()}{options[0]}"


def format_facts(facts: Facts) -> str:
    """Facts as a table, the base first."""
    base = facts.base
    lines = {
        "base": base.uri,
        "  architecture": f"{base.architecture} ({base.model_type})",
        "  weights": f"{base.parameters:,} parameters, {format_bytes(base.weight_bytes)} in {base.dtype}",
        "  shape": f"{base.layers} layers, width {base.hidden_size}, vocabulary {base.vocabulary_size:,}"
        + (", tied embeddings" if base.tied_embeddings else ""),
        "  heads": f"{base.attention_heads}, {base.key_value_heads} for keys and values, {base.head_size} wide",
        "  context": f"{base.max_position_embeddings:,} tokens",
        "  digest": base.digest,
    }
    table = [f"{name:<16} {value}" for name, value in lines.items()]
    for number, adapter in enumerate(facts.adapters, 1):
        table += [f"{name:<16} {value}" for name, value in _adapter_lines(number, adapter).items()]
    return "\n".join(table)


def format_bytes(count: float) -> str:
    """In decimal units, as disks and networks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def _adapter_lines(number: int, adapter: AdapterFacts) -> dict[str, str]:
    return {
        f"adapter {number}": adapter.uri,
        "  rank": f"{adapter.rank}, alpha {adapter.alpha:g}, scaling {adapter.scaling:g}",
        "  changes": f"{adapter.layers_adapted} weights: {', '.join(adapter.target_modules)}",
        "  weights": f"{format_bytes(adapter.weight_bytes)} in {adapter.dtype}",
        "  digest": adapter.digest,
    }


def _sources(base: str, adapters: list[str]) -> list[str]:
    return ["--base", source(base), *(word for adapter in adapters for word in ("--adapter", source(adapter)))]
