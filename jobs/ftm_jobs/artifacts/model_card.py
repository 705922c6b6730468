"""Writes the model card of a merged model from its manifest. Pure: text and records come in."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.contract.manifest import Manifest, ManifestInput

CARD_FILE = "README.md"
MARK = "<!-- written by ftm from the merge's manifest -->"
"""A line by which a card is known as one that another upload may replace."""
_TASKS = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}


def model_card(name: str, manifest: Manifest, config: Mapping[str, Any], base_card: str) -> str:
    """Returns README.md: what the model was made of, with digests, and how to verify its files.

    `config` is its config.json, `base_card` the base's README.md or nothing, whose license it takes.
    """
    base = manifest.inputs[0]
    data = ModelCardData(
        base_model=base.uri.removeprefix("hf://").partition("@")[0] if base.uri.startswith("hf://") else None,
        base_model_relation="finetune",
        library_name="transformers",
        pipeline_tag=_task(config),
        license=_license(base_card),
        tags=["lora", "merge", "ftm-operator"],
    )
    facts = {
        "dtype": manifest.dtype or "the base's",
        "base as": None if manifest.quantized_base is QuantizedBase.FULL_PRECISION else manifest.quantized_base,
        "key": manifest.key,
        "recipe": manifest.recipe,
        **manifest.tools,
        **manifest.measurements,
    }
    lines = [
        f"# {name}",
        MARK,
        "",
        "LoRA adapters merged into a base by `ftm merge`, bit for bit as PEFT merges them.",
        "",
        "| | source | scale | digest |",
        "| --- | --- | --- | --- |",
        *(_row(each) for each in manifest.inputs),
        "",
        *(f"- {fact}: {value}" for fact, value in facts.items() if value is not None),
        *(f"- {note}" for note in manifest.notes),
        "",
        "## Verify",
        "Save these lines as `SHA256SUMS` beside the files, and run `sha256sum -c SHA256SUMS`:",
        "```",
        *(f"{file.sha256}  {file.path}" for file in manifest.files if file.path != CARD_FILE),
        "```",
    ]
    return f"---\n{data.to_yaml()}\n---\n" + "\n".join(lines) + "\n"


def _row(source: ManifestInput) -> str:
    """Returns a row of the table; of a folder on somebody's machine only its name is shown."""
    shared = source.uri.startswith(("hf://", "s3://"))
    uri = source.uri if shared else source.uri.rstrip("/").rpartition("/")[2]
    return f"| {source.role} | `{uri}` | {'' if source.scale is None else f'{source.scale:g}'} | `{source.digest}` |"


def _task(config: Mapping[str, Any]) -> str | None:
    architecture = str(next(iter(config.get("architectures") or [""])))
    if architecture.endswith("ForConditionalGeneration") and "vision_config" in config:
        return "image-text-to-text"
    return next((task for ending, task in _TASKS.items() if architecture.endswith(ending)), None)


def _license(base_card: str) -> str | None:
    try:
        license_name = getattr(ModelCard(base_card, ignore_metadata_errors=True).data, "license", None)
    except ValueError:  # no front matter that is YAML
        return None
    return license_name if isinstance(license_name, str) else None
