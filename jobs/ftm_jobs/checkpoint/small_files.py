"""Checks the small files beside weights that whoever loads the model must be able to read: config, tokenizer, template.

A pointer of Git LFS, an empty file or half a JSON file would be copied into the merged model, which then does not load.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ftm_jobs.checkpoint.configs import parse_json
from ftm_jobs.checkpoint.refusals.file_signatures import POINTER_SIZES, foreign_content, is_pointer
from ftm_jobs.checkpoint.weight_files import REQUESTS
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores import Store

LARGEST_PARSED_BYTES = 64 * 1024
"""A JSON file is parsed up to this size; the end of a larger one shows whether it was cut."""
END_BYTES = 64

_JSON = {
    "added_tokens.json",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
}
"""Files that transformers reads as JSON objects."""
_NEVER_EMPTY = {"merges.txt", "spiece.model", "tekken.json", "tokenizer.model", "vocab.txt"}


def refuse_broken_files(store: Store, files: Mapping[str, int], names: Iterable[str]) -> None:
    """Raises InvalidInput (CorruptSource) for the first of these files that is not what its name says.

    `files` are sizes by name.
    """
    with ThreadPoolExecutor(REQUESTS) as pool:
        for _ in pool.map(lambda name: _refuse_broken(store, name, files[name]), sorted(names)):
            pass


def _refuse_broken(store: Store, name: str, size: int) -> None:
    label = store.describe(name)
    if size in POINTER_SIZES:
        start = bytes(store.read(name, 0, size))
        if is_pointer(start):
            raise InvalidInput(Reason.CORRUPT_SOURCE, f"{label} {foreign_content(start, size)}")
    if size == 0 and name in _JSON | _NEVER_EMPTY:
        raise InvalidInput(Reason.CORRUPT_SOURCE, f"{label} {foreign_content(b'', 0)}")
    if name in _JSON and size <= LARGEST_PARSED_BYTES:
        parse_json(label, bytes(store.read(name, 0, size)), Reason.CORRUPT_SOURCE)
    elif name in _JSON and not bytes(store.read(name, size - END_BYTES, END_BYTES)).rstrip().endswith(b"}"):
        raise InvalidInput(Reason.CORRUPT_SOURCE, f"{label} does not end as JSON does, so it was cut: upload it again")
