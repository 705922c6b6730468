"""Finds the tensor of a base that an adapter means: names in memory are not always names on disk.

transformers moves what a vision-language model calls `language_model.model.layers` on disk, or plain `model.layers`,
to `model.language_model.layers` in memory, and an adapter carries the names of the version it was trained with. Names
are the same weight if they differ only in leading words that mean "the language model itself"; where that leaves two
tensors of the base, nothing is guessed. Pure.
"""

from collections.abc import Iterable

_LEADING = {"model", "language_model", "text_model", "transformer"}
_RENAMED = (("mlp.experts", "block_sparse_moe.experts"), ("mlp.gate", "block_sparse_moe.gate"))
"""Mixtral's and its relatives' names in memory, since transformers 5, and on disk."""


class BaseNames:
    """Finds a base's tensors by the names that adapters have for them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self._by_core: dict[str, list[str]] = {}
        for name in self.names:
            self._by_core.setdefault(core(name), []).append(name)

    def find(self, name: str) -> str | None:
        """Returns the tensor that `name` means; None when there is none, or more than one."""
        if name in self.names:
            return name
        for spelling in _spellings(core(name)):
            same_core = self._by_core.get(spelling, [])
            if len(same_core) == 1:
                return same_core[0]
        return None


def core(name: str) -> str:
    """Returns a name without the leading words that mean the language model itself."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if part not in _LEADING), 0)
    return ".".join(parts[first:])


def _spellings(name: str) -> list[str]:
    return [name, *(name.replace(f".{new}.", f".{old}.") for new, old in _RENAMED if f".{new}." in name)]
