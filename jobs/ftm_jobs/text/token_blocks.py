"""Cuts calibration text into blocks of tokens, all of the same length, by the model's own tokenizer.json.

A sample that is longer than a block is spread over several; nothing is discarded but a remainder of fewer tokens than
there are blocks.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.text.tokenizer import TOKENIZER_FILE, encode, load_tokenizer

SMALLEST_TOKENS = 128
"""Fewer say nothing of what a layer's inputs are like."""


def token_blocks(model: Path, samples: Sequence[str], length: int, most: int) -> list[list[int]]:
    """Returns at most `most` blocks of at most `length` tokens, all of one length, from all over the samples.

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
    """Returns `wanted` tokens of samples from all over the file, in its order."""
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
