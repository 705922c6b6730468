"""Turns the sources that a person types into those of a Job's command line: plain paths become file:// URIs."""

import re
from pathlib import Path

OPTIONS = re.compile(r"((?:,(?:scale|digest|credentials)=[^,]*)*)$")
URI_HELP = "hf://org/name[@revision], s3://bucket/prefix or a path"
ADAPTER_METAVAR = "URI[,scale=S]"
ADAPTER_HELP = "A LoRA adapter; can be repeated, in the order to apply."


def source(text: str) -> str:
    """Returns a SOURCE of `python -m ftm_jobs`; its options, such as scale, stay behind the URI."""
    options = OPTIONS.search(text)
    assert options is not None
    uri = text[: options.start()]
    return text if "://" in uri else f"{Path(uri).expanduser().resolve().as_uri()}{options[0]}"


def source_flags(base: str, adapters: list[str]) -> list[str]:
    """Returns --base and a --adapter for each adapter, in their order."""
    return ["--base", source(base), *(word for adapter in adapters for word in ("--adapter", source(adapter)))]
