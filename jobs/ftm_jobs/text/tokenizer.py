"""Reads a model's tokenizer.json with the library `tokenizers` alone.

transformers is not needed for it: the tokenizer class that a model names may be unknown to the version at hand.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ftm_jobs.errors import InvalidInput, Reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


class TextTokenizer(Protocol):
    """Turns text into tokens, whichever library does it."""

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text that holds its special tokens already."""

    def encode_text(self, text: str) -> list[int]:
        """Returns the tokens of a text, after those that begin one."""


def load_tokenizer(model: Path) -> "Tokenizer":
    """Returns the tokenizer of a model's folder. Raises InvalidInput (MissingFile, InvalidConfig)."""
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
    """Returns tokens with the special ones that the tokenizer adds, none of them twice after a chat template."""
    special = tokenizer.encode("", add_special_tokens=True).tokens
    written = bool(special) and text.startswith(special[0])
    ids: list[int] = tokenizer.encode(text, add_special_tokens=not written).ids
    return ids
