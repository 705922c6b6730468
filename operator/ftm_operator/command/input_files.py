"""Reads the files that commands take: a model's facts, its config.json, and the kinds of GPU to choose from."""

import hashlib
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from ftm_jobs.contract.config import UnreadableConfig
from ftm_jobs.contract.facts import Facts
from ftm_operator.api.errors import InvalidManifest
from ftm_operator.local.paths import absolute
from ftm_operator.local.yaml_file import read_documents
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, UnknownMemory, declared_classes
from ftm_operator.planning.model.config_facts import facts_of_config

INSPECT = "`ftm inspect MANIFEST -o json`"
STANDARD_INPUT = Path("-")


def content_of(path: Path, instead: str) -> bytes:
    """Returns a file's bytes; `-` is standard input. Raises InvalidManifest naming the file and what to do instead."""
    try:
        return sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise InvalidManifest([f"{said(path)}: {error.strerror}; {instead}"]) from None


def said(path: Path) -> str:
    """Returns the file's name for sentences."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def facts_of_file(path: Path) -> Facts:
    """Returns the facts of an inspect report; `-` is standard input. Raises InvalidManifest naming file and field."""
    content = content_of(path, f"name a file that {INSPECT} wrote")
    if not content.strip():
        raise InvalidManifest([f"{said(path)} is empty; {INSPECT} writes the facts, or says why it cannot"])
    try:
        return Facts.model_validate_json(content)
    except ValidationError as error:
        if any(each["type"] == "json_invalid" for each in error.errors()):
            raise InvalidManifest([f"{said(path)} is not JSON; name a file that {INSPECT} wrote"]) from None
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidManifest(
            [f"{said(path)}: {where}: {first['msg']}; write the `facts` of an inspect report"]
        ) from None


def facts_of_config_file(path: Path) -> Facts:
    """Returns facts of a model whose config.json is all there is.

    Raises InvalidManifest naming the file and the field.
    """
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise InvalidManifest([f"{path}: {error.strerror}; name a model's config.json"]) from None
    except (ValueError, RecursionError) as error:
        raise InvalidManifest([f"{path} is not JSON: {error}"]) from None
    if not isinstance(document, dict):
        raise InvalidManifest([f"{path} is not a JSON object; name a model's config.json"])
    try:
        base = facts_of_config(absolute(path).as_uri(), f"sha256:{hashlib.sha256(content).hexdigest()}", document)
    except UnreadableConfig as error:
        raise InvalidManifest([f"{path} {error}"]) from None
    return Facts(base=base, adapters=())


def read_classes(path: Path) -> list[AcceleratorClass]:
    """Returns the kinds of GPU that a YAML file lists. Raises InvalidManifest naming the file, or each wrong field."""
    documents = read_documents(path, "a YAML file that lists kinds of GPU")
    if len(documents) > 1:
        raise InvalidManifest([f"{path} holds {len(documents)} YAML documents; write one list of the kinds of GPU"])
    document = documents[0] if documents else None
    if not isinstance(document, list | dict):
        raise InvalidManifest(
            [f"{path} is not a list; write one item for each kind of GPU: - {{name: A10G, perNode: 4}}"]
        )
    try:
        return declared_classes(document)
    except InvalidManifest as error:
        raise InvalidManifest([f"{path}: {problem}" for problem in error.problems]) from None
    except UnknownMemory as error:
        raise InvalidManifest([f"{path}: {error}"]) from None
