"""Reads what a folder's tokenizer files say: tokens and their numbers, special tokens, chat templates. Pure.

Padding is training's own affair, and differs between a base and its adapters as a rule: it is not read. Chat templates
are looked for as transformers 5.19 does: chat_template.jinja and additional_chat_templates, then the field of
tokenizer_config.json, then chat_template.json.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftm_jobs.companions.base_folder import TEMPLATE_FOLDER
from ftm_jobs.errors import InvalidInput, Reason

TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
OLD_TEMPLATE_FILE = "chat_template.json"
TEMPLATE = "chat_template"
DEFAULT = "default"
_TOKENIZER = "tokenizer.json"
_FILES = re.compile(
    r"tokenizer(_config)?\.json|(special_tokens_map|added_tokens|tekken|normalizer|chat_template)\.json|vocab[^/]*\.json|"
    r"(merges|vocab|dict)\.txt|[^/]*\.(model|bpe|vocab|spm|codes|tiktoken)|tokenizer\.model\.v\d\w*|chat_template\.jinja|"
    rf"prophetnet\.tokenizer|{TEMPLATE_FOLDER}/[^/]+\.jinja"
)
_READ = (".json", ".jinja", "vocab.txt")


def is_tokenizer_file(path: str) -> bool:
    """Says whether a file is one of a tokenizer's, its chat templates included."""
    return _FILES.fullmatch(path) is not None


def is_read(path: str) -> bool:
    """Says whether the file's content is looked at: JSON and templates are, models of sentencepiece are not."""
    return path.endswith(_READ)


@dataclass(frozen=True)
class TokenizerContent:
    """The content of a folder's tokenizer files."""

    uri: str
    tokens: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Numbers by token, added ones included; empty where no file tells them."""
    added: frozenset[str] = frozenset()
    """Tokens that are recognised before a text is split."""
    merges: str = ""
    """A digest of the merges; empty where there are none."""
    special: Mapping[str, str] = field(default_factory=dict)
    """bos_token, eos_token and so on, but for padding."""
    templates: Mapping[str, str] = field(default_factory=dict)
    """Chat templates by name."""
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read_tokenizer(uri: str, files: Mapping[str, bytes]) -> TokenizerContent:
    """Reads the contents of tokenizer files, by path. Raises InvalidInput (InvalidConfig) naming the file."""
    config = _json(uri, files, TOKENIZER_CONFIG)
    whole = _json(uri, files, _TOKENIZER)
    named = {**_json(uri, files, "special_tokens_map.json"), **config}
    special = {name: text for name, value in named.items() if name.endswith("_token") and (text := _text(value))}
    special.pop("pad_token", None)
    model = whole["model"] if isinstance(whole.get("model"), dict) else {}
    added = {
        each["content"]: each["id"]
        for each in whole.get("added_tokens") or []
        if isinstance(each, dict) and isinstance(each.get("content"), str) and isinstance(each.get("id"), int)
    }
    beside = {**_numbered(config.get("added_tokens_decoder")), **_numbers(_json(uri, files, "added_tokens.json"))}
    vocabulary = _vocabulary(model.get("vocab")) or _numbers(_json(uri, files, "vocab.json")) or _lines(files)
    return TokenizerContent(
        uri,
        {**vocabulary, **beside, **added} if vocabulary else {},
        frozenset(added or beside),
        _merges(model.get("merges")),
        special,
        _templates(uri, files, config),
        config,
    )


def _templates(uri: str, files: Mapping[str, bytes], config: Mapping[str, Any]) -> dict[str, str]:
    raw = {DEFAULT: files[TEMPLATE_FILE]} if TEMPLATE_FILE in files else {}
    prefix = f"{TEMPLATE_FOLDER}/"
    raw |= {path[len(prefix) : -len(".jinja")]: text for path, text in files.items() if path.startswith(prefix)}
    if raw:
        return {name: text.decode("utf-8", "replace") for name, text in raw.items()}
    stated = config.get(TEMPLATE) or _json(uri, files, OLD_TEMPLATE_FILE).get(TEMPLATE)
    if isinstance(stated, str):
        return {DEFAULT: stated}
    if isinstance(stated, list):
        entries = [each for each in stated if isinstance(each, dict)]
        stated = {each.get("name"): each.get("template") for each in entries}
    if not isinstance(stated, dict):
        return {}
    return {name: text for name, text in stated.items() if isinstance(name, str) and isinstance(text, str)}


def _json(uri: str, files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        return {}
    try:
        content = json.loads(files[name].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(Reason.INVALID_CONFIG, f"{uri}/{name} is not JSON: {error}; upload it again") from error
    if not isinstance(content, dict):
        raise InvalidInput(Reason.INVALID_CONFIG, f"{uri}/{name} is not a JSON object: upload it again")
    return content


def _vocabulary(vocabulary: Any) -> dict[str, int]:
    """Returns the numbers of a model's tokens; a Unigram model lists them in order, each with its score."""
    if isinstance(vocabulary, list):
        return {each[0]: number for number, each in enumerate(vocabulary) if _is_piece(each)}
    return _numbers(vocabulary)


def _is_piece(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and isinstance(entry[0], str)


def _numbers(content: Any) -> dict[str, int]:
    if not isinstance(content, dict):
        return {}
    return {token: number for token, number in content.items() if isinstance(number, int)}


def _numbered(decoder: Any) -> dict[str, int]:
    if not isinstance(decoder, dict):
        return {}
    tokens = {number: _text(token) for number, token in decoder.items()}
    return {token: int(number) for number, token in tokens.items() if token and number.isdecimal() and len(number) < 20}


def _lines(files: Mapping[str, bytes]) -> dict[str, int]:
    lines = files.get("vocab.txt", b"").decode("utf-8", "replace").splitlines()
    return {token: number for number, token in enumerate(lines)}


def _merges(merges: Any) -> str:
    """Returns a digest; "a b" and ["a", "b"] are the same merge."""
    if not isinstance(merges, list) or not merges:
        return ""
    digest = hashlib.sha256()
    for merge in merges:
        text = " ".join(map(str, merge)) if isinstance(merge, list) else str(merge)
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _text(value: Any) -> str:
    """Returns a token's text: it stands as it is, or is the content of an object."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
