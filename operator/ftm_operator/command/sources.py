"""Turns the sources that a person types into those of a Job's command line: plain paths become file:// URIs."""

import re

from ftm_operator.local.errors import WrongUse
from ftm_operator.local.paths import absolute, exists

OPTIONS = re.compile(r"((?:,\w+=[^,]*)*)$")
HUB_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
URI_HELP = "hf://org/name[@revision], s3://bucket/prefix or a path"
ADAPTER_METAVAR = "URI[,scale=S]"
ADAPTER_HELP = "A LoRA adapter; can be repeated, in the order to apply."


def source(text: str) -> str:
    """Returns a SOURCE of `python -m ftm_jobs`; its options, such as scale, stay behind the URI."""
    path, options = _split(text)
    return text if "://" in path else f"{absolute(path).as_uri()}{options}"


def existing_source(text: str) -> str:
    """Returns a SOURCE to read. Raises WrongUse where it is no folder here, but would be a repository on the Hub."""
    path, _ = _split(text)
    if HUB_REPOSITORY.fullmatch(path) and not exists(path):
        raise WrongUse(f"there is no folder {path} here; the Hub's repository is hf://{text}")
    return source(text)


def source_flags(base: str, adapters: list[str]) -> list[str]:
    """Returns --base and a --adapter for each adapter, in their order. Raises as `existing_source`."""
    named = [("--base", base), *(("--adapter", adapter) for adapter in adapters)]
    return [word for flag, text in named for word in (flag, existing_source(text))]


def _split(text: str) -> tuple[str, str]:
    """Returns a URI or path, and its options with their commas; a folder's name may hold what looks like an option."""
    options = OPTIONS.search(text)
    begin = options.start() if options else len(text)
    if "://" not in text:
        commas = [begin + place for place, character in enumerate(text[begin:]) if character == ","]
        ends = (end for end in (len(text), *reversed(commas)) if exists(text[:end]))
        begin = next(ends, begin)
    return text[:begin], text[begin:]
