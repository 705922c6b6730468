"""Reads YAML files that people write, and refuses what YAML would take in silence or in endless time.

A key that is there twice would win or lose by its place; an alias can stand for more than memory holds.
"""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ftm_operator.api.errors import InvalidManifest

MOST_VALUES = 100_000
"""Values of a document, each alias counted by what it stands for."""
MOST_LEVELS = 100
_MERGE = "tag:yaml.org,2002:merge"
_NOT_YAML = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors of PyYAML's own, and of its constructors: of a date with a 13th month, of `!!bool x`, of a long number."""


def read_documents(path: Path, wanted: str) -> list[Any]:
    """Returns the documents of a file; `wanted` says what a person should name instead.

    Raises InvalidManifest naming the file and, where there is one, the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidManifest([f"{path}: {error.strerror}; name {wanted}"]) from None
    except UnicodeDecodeError as error:
        raise InvalidManifest([f"{path} is not UTF-8 ({error.reason} at byte {error.start}); name {wanted}"]) from None
    try:
        loader = yaml.SafeLoader(text)
        documents = []
        while loader.check_node():
            if node := loader.get_node():
                _check_document(path, node)
                documents.append(loader.construct_document(node))
    except RecursionError:
        raise InvalidManifest([f"{path} is nested deeper than {MOST_LEVELS} levels; write it flatter"]) from None
    except _NOT_YAML as error:
        raise InvalidManifest([f"{path} is not YAML: {_words(error)}"]) from None
    return documents


def _check_document(path: Path, document: yaml.Node) -> None:
    """Raises InvalidManifest for a key that is there twice, too many levels, and aliases that stand for too much."""
    pending = [(document, 0)]
    count = 0
    while pending:
        node, level = pending.pop()
        count += 1
        if count > MOST_VALUES:
            raise InvalidManifest([f"{path} holds more than {MOST_VALUES} values with its aliases; write fewer"])
        if level > MOST_LEVELS:
            raise InvalidManifest([f"{_place(path, node)}: nested deeper than {MOST_LEVELS} levels; write it flatter"])
        if isinstance(node, yaml.ScalarNode):
            _join_surrogates(path, node)
        if isinstance(node, yaml.MappingNode):
            _check_keys(path, node)
        pending += [(inner, level + 1) for inner in _inner(node)]


def _join_surrogates(path: Path, scalar: yaml.ScalarNode) -> None:
    """Makes one character of two halves, as JSON writes it and YAML reads it. Raises InvalidManifest for one half."""
    try:
        scalar.value = scalar.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise InvalidManifest([f"{_place(path, scalar)}: a \\ud800 to \\udfff stands alone; write UTF-8"]) from None


def _check_keys(path: Path, mapping: yaml.MappingNode) -> None:
    first: dict[Hashable, yaml.Node] = {}
    for key, _ in mapping.value:
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
        if name is None or key.tag == _MERGE:
            continue
        if name in first:
            before = first[name].start_mark.line + 1
            raise InvalidManifest(
                [f'{_place(path, key)}: "{key.value}" is there twice, first on line {before}; keep one of the two']
            )
        first[name] = key


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path} line {node.start_mark.line + 1}"


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, yaml.YAMLError | ValueError) else f"a value is not what its tag says ({text})"
