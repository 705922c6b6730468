"""Reads a FineTunedModel from a YAML file, for the `ftm` command.

A relative file:// URI is resolved against the manifest's folder: file://models/base beside app.yaml.
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ftm_operator.api.errors import InvalidManifest, parse
from ftm_operator.api.v1alpha1 import KIND, FineTunedModel
from ftm_operator.local.paths import absolute
from ftm_operator.local.yaml_file import read_documents

FILE_SCHEME = "file://"


def read_manifest(path: Path) -> FineTunedModel:
    """Returns the one FineTunedModel in a file. Raises InvalidManifest naming the file, or each wrong field."""
    documents = read_documents(path, f"a YAML file that holds a {KIND}")
    models = [each for each in documents if isinstance(each, dict) and each.get("kind") == KIND]
    if len(models) != 1:
        raise InvalidManifest([f"{path} holds {len(models)} objects of kind {KIND}; write exactly one"])
    return parse(FineTunedModel, _with_absolute_uris(models[0], absolute(path).parent))


def _with_absolute_uris(value: Any, folder: Path) -> Any:
    match value:
        case dict():
            return {
                key: _absolute(item, folder)
                if key == "uri" and isinstance(item, str)
                else _with_absolute_uris(item, folder)
                for key, item in value.items()
            }
        case list():
            return [_with_absolute_uris(item, folder) for item in value]
        case _:
            return value


def _absolute(uri: str, folder: Path) -> str:
    if not uri.startswith(FILE_SCHEME):
        return uri
    path = str(folder / file_path(uri))
    return uri if "\0" in path else absolute(path).as_uri()


def file_path(uri: str) -> Path:
    """Returns the path that a file:// URI names; %20 and the like are unquoted."""
    return Path(unquote(uri.removeprefix(FILE_SCHEME)))
