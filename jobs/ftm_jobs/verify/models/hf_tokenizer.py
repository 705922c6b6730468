"""Loads a model folder's tokenizer by transformers, and never code that lies beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftm_jobs.errors import InvalidInput, Reason


class HfTokenizer:
    """Runs the tokenizer that transformers reads from a folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self.inner: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (ValueError, OSError, KeyError) as error:
            text = " ".join(str(error).split())[:300]
            raise InvalidInput(
                Reason.INVALID_CONFIG, f"the tokenizer cannot be loaded by transformers: {text}; correct its files"
            ) from error

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self.inner(text, add_special_tokens=False)["input_ids"]
        return tokens

    def encode_text(self, text: str) -> list[int]:
        """Returns the tokens of a text, after those that begin one."""
        tokens: list[int] = self.inner(text)["input_ids"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self.inner.decode(tokens, skip_special_tokens=True)
        return text

    @property
    def special(self) -> dict[str, int | None]:
        return {"bos_token": self.inner.bos_token_id, "eos_token": self.inner.eos_token_id}

    @property
    def special_spellings(self) -> list[str]:
        return sorted(token.content for token in self.inner.added_tokens_decoder.values() if token.special)

    @property
    def adds_first(self) -> bool:
        tokens = self.inner("a")["input_ids"]
        return bool(tokens) and tokens[0] == self.inner.bos_token_id and self.inner.bos_token_id is not None

    @property
    def chat_template(self) -> str | None:
        template = self.inner.chat_template
        return template if isinstance(template, str) else None
