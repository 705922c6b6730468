"""Calibration text as blocks of tokens, all of the same length, by the model's own tokenizer.json.

A sample that is longer than a block is spread over several; nothing is discarded but a remainder of fewer tokens than
there are blocks. No tokenizer class is loaded, since the class that a file names may be unknown to the libraries
beside this. Imports no torch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftm_jobs.errors import InvalidInput, Reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
SMALLEST_TOKENS = 128
"""Fewer say nothing of what a layer's inputs are like."""


def load_tokenizer(model: Path) -> "Tokenizer":
    """Raises InvalidInput (MissingFile, InvalidConfig)."""
    from tokenizers import Tokenizer

    path = model / TOKENIZER_FILE
    if not path.is_file():
        raise InvalidInput(
            Reason.MISSING_FILE,
            f"the model has no {TOKENIZER_FILE}: load its tokenizer with transformers, save it and upload the file",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise InvalidInput(Reason.INVALID_CONFIG, f"the model's {TOKENIZER_FILE} cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer: "Tokenizer", text: str) -> list[int]:
    """With the special tokens that the tokenizer adds, but no second one where a chat template wrote it already."""
    special = tokenizer.encode("", add_special_tokens=True).tokens
    written = bool(special) and text.startswith(special[0])
    ids: list[int] = tokenizer.encode(text, add_special_tokens=not written).ids
    return ids


def token_blocks(model: Path, samples: Sequence[str], length: int, most: int) -> list[list[int]]:
    """At most `most` blocks of at most `length` tokens, all of one length, from all over the samples.

    Raises InvalidInput when there is too little text, or a token is not one of the model's.
    """
    tokenizer = load_tokenizer(model)
    encoded = [encode(tokenizer, sample) for sample in samples]
    total = sum(map(len, encoded))
    if total < SMALLEST_TOKENS:
        raise InvalidInput(
            Reason.INVALID_CALIBRATION,
            f"the calibration text has {total} tokens: at least {SMALLEST_TOKENS} are needed; some 10,000 are good",
        )
    vocabulary = _vocabulary(model)
    largest = max(max(ids, default=0) for ids in encoded)
    if vocabulary is not None and largest >= vocabulary:
        raise InvalidInput(
            Reason.INVALID_CONFIG,
            f"the model's {TOKENIZER_FILE} has token {largest}, but config.json's vocab_size is {vocabulary}: "
            "upload the tokenizer that belongs to the model",
        )
    if total > most * length:
        encoded = _evenly(encoded, most * length)
        total = sum(map(len, encoded))
    stream = [token for ids in encoded for token in ids]
    blocks = min(most, -(-total // length))
    size = total // blocks
    return [stream[number * size : (number + 1) * size] for number in range(blocks)]


def _evenly(encoded: list[list[int]], wanted: int) -> list[list[int]]:
    """About `wanted` tokens in samples from all over the file, in its order, never fewer."""
    count = max(1, -(-wanted * len(encoded) // sum(map(len, encoded))))
    while True:
        chosen = [encoded[place * len(encoded) // count] for place in range(count)]
        if sum(map(len, chosen)) >= wanted:
            break
        count += 1
    kept, left = [], wanted
    for ids in chosen:
        kept.append(ids[:left])
        left -= len(kept[-1])
    return kept


def _vocabulary(model: Path) -> int | None:
    config = json.loads((model / "config.json").read_text("utf-8"))
    size = config.get("vocab_size")
    return size if isinstance(size, int) else None
