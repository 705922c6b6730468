"""Renames weights as transformers does while it loads them (transformers/core_model_loading.py, rename_source_key).

A transform is a rename, or a conversion: operations that make other tensors of those that its patterns match. Pure.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache


@dataclass(frozen=True)
class Transform:
    sources: tuple[str, ...]
    """Patterns of names on disk."""
    targets: tuple[str, ...]
    """Names in memory. Several of a rename go with a source each; of a conversion, a tensor becomes all."""
    operations: tuple[str, ...] = ()
    """Those of a conversion, in order, such as `Chunk dim=0`; empty for a rename."""
    together: bool = False
    """The renames count only where a name matches the first of them (GroupWeightRename)."""
    scope: str | None = None
    """Path of the submodel whose names alone are renamed, without `prefix`; None: all names."""
    prefix: str = ""
    """The model's base_model_prefix, which may stand before `scope` or not."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        branches = (source.replace("*.", r".*\.") for source in self.sources)
        return re.compile("|".join(f"(?P<g{number}>{branch})" for number, branch in enumerate(branches)))

    def rename(self, name: str) -> tuple[str, int] | None:
        """Returns the name in memory, the first of several, and the number of the source; None where none matches."""
        before = self._before_scope(name)
        inside = name.removeprefix(before or "")
        match = None if before is None else self._pattern.search(inside)
        if match is None:
            return None
        number = next(number for number in range(len(self.sources)) if match[f"g{number}"] is not None)
        target = self.targets[number if self.together else 0]
        group = self._pattern.groupindex[f"g{number}"]
        target = re.sub(r"\\(\d)", lambda written: match[group + int(written[1])], target)
        return f"{before}{inside.replace(match[0], target, 1)}", number

    def _before_scope(self, name: str) -> str | None:
        """Returns the part of `name` that stands before what the patterns see; None where it is out of scope."""
        if self.scope is None:
            return ""
        scope = f"{self.scope}." if self.scope else ""
        whole = f"{self.prefix}.{scope}" if self.prefix else scope
        return next((before for before in (whole, scope) if name.startswith(before)), None)


@dataclass(frozen=True)
class Stored:
    """Says how a weight in memory lies on disk."""

    sources: tuple[tuple[str, ...], ...]
    """Tensors on disk of each source of `transform`, in its order; of a rename, the one tensor."""
    transform: Transform | None = None
    """The conversion that makes the weight; None: it is the tensor, whatever its name."""
    target: int = 0
    """Number of the target of `transform` that it is."""

    @property
    def tensor(self) -> str | None:
        """The tensor that is the weight; None where it is made of others, or of a part of one."""
        return self.sources[0][0] if self.transform is None else None

    @property
    def stacked_experts(self) -> str | None:
        """The tensor that holds all experts, as they are in memory or each transposed; None for other weights."""
        checked = "Transpose check_dims=True dim0=1 dim1=2"
        transposed = self.transform is not None and self.transform.operations == (checked,)
        return self.sources[0][0] if transposed else self.tensor

    @property
    def merged_experts(self) -> tuple[tuple[str, ...], ...]:
        """The tensors of each projection that it has one after another, an expert each; empty for other weights."""
        merged = ("MergeModulelist dim=0",), ("MergeModulelist dim=0", "Concatenate dim=1")
        return self.sources if self.transform and self.transform.operations in merged else ()


class WeightNames:
    """Knows the names in memory of tensors on disk."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._renames = [transform for transform in transforms if not transform.operations]
        self._conversions = [transform for transform in transforms if transform.operations]

    def renamed(self, name: str) -> str:
        """Returns the name that a weight gets in memory."""
        return self._in_memory(name, set())[0]

    def in_memory(self, names: Sequence[str]) -> dict[str, list[Stored]]:
        """Returns the weights in memory of all tensors on disk. More than one of a name: nobody can tell which it is.

        transformers goes through the tensors in natural order, which is also that of experts.
        """
        active: set[Transform] = set()
        weights: dict[str, list[Stored]] = {}
        parts: dict[tuple[str, Transform], list[list[str]]] = {}
        for name in sorted(names, key=_natural_key):
            renamed, conversion, source = self._in_memory(name, active)
            if conversion is None:
                weights.setdefault(renamed, []).append(Stored(((name,),)))
            else:
                empty: list[list[str]] = [[] for _ in conversion.sources]
                parts.setdefault((renamed, conversion), empty)[source].append(name)
        for (renamed, conversion), sources in parts.items():
            for number, target in enumerate(conversion.targets):
                stored = Stored(tuple(map(tuple, sources)), conversion, number)
                weights.setdefault(renamed.replace(conversion.targets[0], target, 1), []).append(stored)
        return weights

    def _in_memory(self, name: str, active: set[Transform]) -> tuple[str, Transform | None, int]:
        for rename in self._renames:
            if found := rename.rename(name):
                renamed, source = found
                if rename.together and source == 0:
                    active.add(rename)
                if not rename.together or rename in active:
                    name = renamed
        for conversion in self._conversions:
            if found := conversion.rename(name):
                return found[0], conversion, found[1]
        return name, None, 0


def _natural_key(name: str) -> list[tuple[int, str, int]]:
    """Orders as transformers' dot_natural_key does: numbers before words, and both by value."""
    return [_part_key(part) for part in name.split(".")]


@lru_cache(maxsize=4096)
def _part_key(part: str) -> tuple[int, str, int]:
    text = part.rstrip("0123456789")
    digits = part[len(text) :]
    return 0 if part.isdigit() else 1, text, int(digits) if digits else -1
