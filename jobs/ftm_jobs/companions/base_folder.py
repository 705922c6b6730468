"""Says which files of a base's folder belong to the model beside its weights, and names those that do not. Pure.

Kinds of tokenizer files are those that the tokenizer classes of transformers 5.19 name in vocab_files_names. A folder
belongs to a model when transformers reads it (additional_chat_templates, custom_generate), or when the model's
modules.json names it, as sentence-transformers does (1_Pooling).
"""

import json
import re
from collections.abc import Collection, Iterable, Sequence

INDEX_FILE = "model.safetensors.index.json"
MODULES_FILE = "modules.json"
CODE_SUFFIX = ".py"
TEMPLATE_FOLDER = "additional_chat_templates"
MOST_SHOWN = 6
"""Names in a sentence."""

_EARLIER_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken", CODE_SUFFIX)
_SUFFIXES = (*_EARLIER_SUFFIXES, ".bpe", ".codes", ".spm", ".vocab", "prophetnet.tokenizer")
_VERSIONED_TOKENIZER = re.compile(r"tokenizer\.model\.v\d\w*")
"""Mistral's: tokenizer.model.v3."""
_LICENCES = ("LICENSE", "LICENSE.md", "NOTICE", "USE_POLICY.md")
_NOT_COPIED = {"manifest.json", "adapter_config.json", "params.json", "trainer_state.json", "training_args.json"}
_READ_FOLDERS = {TEMPLATE_FOLDER, "custom_generate"}

_IRRELEVANT = re.compile(
    r"(README|MODEL_CARD|CHANGELOG)(\.\w+)?|.*\.(md|png|jpe?g|gif|svg|webp|pdf|mp4)|manifest\.json|.*\.index\.json|"
    r"(optimizer|scheduler|scaler)(_\d+)?\.(pt|bin)|rng_state(_\d+)?\.pth|events\.out\.tfevents.*|"
    r"train(er|ing)_(state|args)\.(json|bin)|(train|eval|all)_results\.json",
    re.IGNORECASE,
)
_IRRELEVANT_FOLDERS = {"assets", "figures", "images", "logs", "runs", "wandb", "__pycache__"}
_SHARD = re.compile(r"-\d+-of-\d+(?=\.)")


def is_companion(name: str) -> bool:
    """Says whether a file belongs to a model beside its weights: config, tokenizer, chat template, code, licence."""
    if name in _NOT_COPIED or (name.endswith(".index.json") and name != INDEX_FILE):
        return False
    return name.endswith(_SUFFIXES) or name in _LICENCES or _VERSIONED_TOKENIZER.fullmatch(name) is not None


def was_companion(name: str) -> bool:
    """Says whether versions before folders were copied took the file; digests that they wrote are over such files."""
    return "/" not in name and is_companion(name) and (name.endswith(_EARLIER_SUFFIXES) or name in _LICENCES)


def model_folders(folders: Iterable[str], modules: bytes | None) -> set[str]:
    """Returns those folders that belong to the model; `modules` is the text of modules.json, if there is one."""
    return set(folders) & (_READ_FOLDERS | _module_folders(modules))


def _module_folders(modules: bytes | None) -> set[str]:
    try:
        entries = json.loads(modules or b"[]")
    except (ValueError, RecursionError):
        return set()
    paths = [entry.get("path") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {path.partition("/")[0] for path in paths if isinstance(path, str)}


def is_irrelevant(name: str) -> bool:
    """Says whether nobody who loads a model reads the file: pages about it, pictures, the state of its training."""
    return _IRRELEVANT.fullmatch(name) is not None


def left_out_note(uri: str, files: Collection[str], folders: Collection[str], taken: Collection[str]) -> str | None:
    """Returns a sentence on what of a base's folder is not in what is made of it; None where nothing is missed."""
    taken_folders = {path.partition("/")[0] for path in taken if "/" in path}
    others = [f"{name}/" for name in folders if name not in taken_folders | _IRRELEVANT_FOLDERS]
    others += [name for name in files if name not in taken and not is_irrelevant(name)]
    return f"left out of the merged model, of {uri}: {listed(others)}" if others else None


def listed(names: Iterable[str]) -> str:
    """Returns names for a sentence: shards of one model together, and of many the first few and their number."""
    together = sorted({_SHARD.sub("-*", name) for name in names})
    return first_few(together)


def first_few(names: Sequence[str]) -> str:
    """Returns the names, or of many the first few and the number of the others."""
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(name[:100] for name in names[:MOST_SHOWN]) + more
