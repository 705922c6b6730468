"""Says why a folder is no base or no adapter: what it holds instead, and what to name or to do. Pure: names come in.

An adapter, a whole model, a GGUF file, weights in a trainer's or another program's layout, and folders in the folder
are known by the names of files.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ftm_jobs.errors import InvalidInput, Reason

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
MISTRAL_CONFIG = "params.json"
BASE_WEIGHTS = "model.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_OTHER_FORMATS = (
    (".gguf", "GGUF, which no adapter is merged into: name the model in safetensors that it was made from"),
    (".msgpack", "Flax's format: load it with transformers and save it as safetensors"),
    (".h5", "TensorFlow's format: load it with transformers and save it as safetensors"),
    (".onnx", "ONNX: name the model in safetensors that it was made from"),
    (".nemo", "NeMo's format: convert it to Hugging Face's format"),
)


@dataclass(frozen=True)
class Contents:
    """Names what a folder of a store holds."""

    uri: str
    files: Collection[str]
    """Files directly in the folder."""
    below: Collection[str] = ()
    """Files in folders of it, as folder/file."""

    def named(self, suffix: str) -> list[str]:
        """Returns the files whose names end so, sorted."""
        return sorted(name for name in self.files if name.endswith(suffix))

    def folders_with(self, file: str) -> list[str]:
        """Returns the folders in this one that hold `file`, checkpoint-500 before checkpoint-1000."""
        folders = {path.removesuffix(f"/{file}") for path in self.below if path.endswith(f"/{file}")}
        return sorted(folders, key=lambda name: [int(part) if part.isdigit() else part for part in _parts(name)])


def missing_base_file(contents: Contents, wanted: str, base_of_adapter: str = "") -> InvalidInput:
    """Returns the error that says why a folder is no base; `wanted` is config.json or model.safetensors.

    `base_of_adapter` is the base that the folder's adapter_config.json names, where it has one.
    """
    uri, files = contents.uri, contents.files
    if ADAPTER_CONFIG in files and (ADAPTER_WEIGHTS in files or CONFIG not in files) and BASE_WEIGHTS not in files:
        trained_on = f"hf://{base_of_adapter}" if _is_repository(base_of_adapter) else base_of_adapter
        remedy = f"the model that it was trained on, {trained_on}" if trained_on else "the model that it was trained on"
        return _missing(f"{uri} is an adapter ({ADAPTER_CONFIG}), not a base model: name as the base {remedy}")
    consolidated = sorted(name for name in files if re.fullmatch(r"consolidated.*\.safetensors", name))
    shards = [name for name in _shards(contents) if name not in consolidated]
    if shards and wanted == BASE_WEIGHTS:
        return _shards_without_index(uri, shards)
    if folders := contents.folders_with(wanted):
        return _in_folders(contents, f"no {wanted}", folders)
    if consolidated and not shards and BASE_WEIGHTS not in files:
        return _own_format(contents, consolidated[0])
    if "model_index.json" in files:
        return _unsupported(f"{uri} is a Diffusers pipeline (model_index.json): only language models are merged")
    for suffix, text in _OTHER_FORMATS:
        if found := contents.named(suffix):
            return _unsupported(f"{uri} holds {found[0]}, which is {text}")
    if wanted == CONFIG and (shards or BASE_WEIGHTS in files):
        return _missing(
            f"{uri} has {shards[0] if shards else BASE_WEIGHTS} but no {CONFIG}: copy it from the model's page"
        )
    return _no_weights(contents, wanted, other=".safetensors")


def missing_adapter_file(contents: Contents, wanted: str) -> InvalidInput:
    """Returns the error that says why a folder is no adapter; `wanted` is one of an adapter's two files."""
    uri, files = contents.uri, contents.files
    if shards := [name for name in _shards(contents) if name.startswith("adapter_model-")]:
        return _several_files(uri, shards)
    if wanted == ADAPTER_CONFIG and CONFIG in files and ADAPTER_WEIGHTS not in files:
        return _missing(
            f"{uri} is a whole model ({CONFIG}), not an adapter: name a folder with {ADAPTER_CONFIG}, or, if an "
            "adapter has been merged into it already, name it as the base"
        )
    if folders := contents.folders_with(wanted):
        return _in_folders(contents, f"no {wanted}", folders)
    if found := contents.named("adapters.safetensors") + contents.named("adapters.npz"):
        return _unsupported(
            f"{uri} holds {found[0]}, an adapter as MLX writes it: fuse it with mlx_lm.fuse, and name the fused model "
            "as the base",
            Reason.UNSUPPORTED_ADAPTER,
        )
    if "pytorch_lora_weights.safetensors" in files:
        return _unsupported(
            f"{uri} holds pytorch_lora_weights.safetensors, a LoRA of a Diffusers pipeline: only adapters of language "
            "models, as PEFT saves them, are merged",
            Reason.UNSUPPORTED_ADAPTER,
        )
    if wanted == ADAPTER_CONFIG and ADAPTER_WEIGHTS in files:
        return _missing(
            f"{uri} has {ADAPTER_WEIGHTS} but no {ADAPTER_CONFIG}, which says rank and alpha: copy it from where the "
            "adapter was saved"
        )
    for name in contents.named(".gguf"):
        return _unsupported(
            f"{uri} holds {name}, an adapter for llama.cpp or a model: name the adapter as PEFT saved it",
            Reason.UNSUPPORTED_ADAPTER,
        )
    return _no_weights(contents, wanted, other=".safetensors")


def _own_format(contents: Contents, weights: str) -> InvalidInput:
    """Returns the error for weights that are not as transformers saves them, but as whoever trained the model did."""
    here = f"{weights} and {MISTRAL_CONFIG}" if MISTRAL_CONFIG in contents.files else weights
    whose = "Mistral's" if MISTRAL_CONFIG in contents.files else "Mistral's or Meta's"
    return _unsupported(
        f"{contents.uri} holds {here}, a model in {whose} own format, whose layers and tensors have other names than "
        f"adapters have: name a copy in transformers' format, with {CONFIG} and {BASE_WEIGHTS} or its shards (the "
        "model's page may link to one, often named -hf), or make one with convert_…_weights_to_hf.py of "
        "transformers' repository"
    )


def _no_weights(contents: Contents, wanted: str, other: str) -> InvalidInput:
    pickles = sorted(name for name in contents.files if name.endswith(PICKLE_SUFFIXES) and name != "training_args.bin")
    if pickles and wanted.endswith(other):
        return InvalidInput(
            Reason.PICKLE_WEIGHTS,
            f"{contents.uri} has its weights in {pickles[0]}, a pickle, which can run code when it is loaded: "
            f"save it as {wanted} (safetensors) and upload that",
        )
    named = [name for name in contents.named(other) if name not in (BASE_WEIGHTS, ADAPTER_WEIGHTS)]
    if named and wanted.endswith(other):
        return _missing(f"{contents.uri} has no {wanted}, but {_listed(named)}: rename it if it is that file")
    return _missing(f"{contents.uri} has no {wanted}: upload it or correct the URI")


def _shards(contents: Contents) -> list[str]:
    return sorted(name for name in contents.files if _SHARD.fullmatch(name))


def _shards_without_index(uri: str, shards: list[str]) -> InvalidInput:
    first = _SHARD.fullmatch(shards[0])
    stem, count = (first["stem"], int(first["count"])) if first else ("model", 0)
    if absent := [name for name in _whole(stem, count) if name not in shards]:
        return _missing(f"{uri} has {shards[0]}, but of {count} files of weights not {_listed(absent)}: upload them")
    return _missing(
        f"{uri} has its weights in {_listed(shards)} but no model.safetensors.index.json, which says in which file "
        'each tensor is: copy it from where they came from, or write {"weight_map": {"<tensor>": "<file>"}} with the '
        "names that each file's header holds"
    )


def _whole(stem: str, count: int) -> Iterable[str]:
    return (f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1))


def _several_files(uri: str, shards: list[str]) -> InvalidInput:
    return _unsupported(
        f"{uri} has the adapter in several files, {_listed(shards)}, and PEFT loads one file alone: join them with "
        "safetensors' load_file and save_file (save_file({**load_file(first), **load_file(second)}, "
        f'"{ADAPTER_WEIGHTS}")) and upload that',
        Reason.UNSUPPORTED_ADAPTER,
    )


def _in_folders(contents: Contents, lacks: str, folders: list[str]) -> InvalidInput:
    uri = contents.uri
    if uri.startswith("hf://"):
        repository = uri.removeprefix("hf://").partition("@")[0]
        return _missing(
            f"{uri} has {lacks}; its {_folders(folders)}, which an hf:// URI cannot name: download one "
            f'(hf download {repository} --include "{folders[-1]}/*") and name that folder'
        )
    return _missing(f"{uri} has {lacks}; its {_folders(folders)}: name {uri}/{folders[-1]}")


def _folders(folders: list[str]) -> str:
    return f"folder {folders[0]} has it" if len(folders) == 1 else f"folders {_listed(folders)} have it"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _parts(name: str) -> list[str]:
    """Splits a name so that text and numbers alternate, and lists of them can be compared."""
    return re.split(r"(\d+)", name)


def _is_repository(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def _missing(message: str) -> InvalidInput:
    return InvalidInput(Reason.MISSING_FILE, message)


def _unsupported(message: str, reason: Reason = Reason.UNSUPPORTED_BASE) -> InvalidInput:
    return InvalidInput(reason, message)
