"""Finds the tensor of a base that an adapter means: names in memory are not always names on disk.

An adapter carries names in memory, of the transformers and the class that it was trained with. A weight of the base is
looked for under the names of the base's class in transformers 5, as transformers' own table gives them; then as
transformers renames the names of older versions; then as classes without a head, or the language model alone, call it.
Where the first of these that finds anything finds two tensors, nothing is guessed. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from ftm_jobs.contract.config_fields import TEXT_OBJECTS
from ftm_jobs.transformers_tables.transforms import Stored, WeightNames
from ftm_jobs.transformers_tables.weight_names import (
    Submodel,
    base_class,
    class_of,
    classes_around,
    model_class,
    prefixes,
    submodels,
    transforms,
)


class BaseNames:
    """Finds a base's tensors by the names that adapters have for them."""

    def __init__(self, names: Iterable[str], config: Mapping[str, Any]) -> None:
        """`config` is config.json, whose class and model types count."""
        self.names = frozenset(names)
        self._architecture = class_of(config)
        self._config = config

    def find(self, name: str) -> str | None:
        """Returns the tensor that `name` means; None when there is none, more than one, or only a part of one."""
        stored = self.stored(name)
        return stored[0].tensor if len(stored) == 1 else None

    def stored(self, name: str) -> list[Stored]:
        """Returns how the weight that `name` means lies on disk: in more than one way, where nobody can tell."""
        for spellings in self._spellings(name):
            found: list[Stored] = []
            for spelling in spellings:
                found += [stored for stored in self._under(spelling) if stored not in found]
            if found:
                return found
        return []

    def is_of_class(self, name: str) -> bool:
        """Returns whether `name` is one of the base's own class, on disk or in memory, of this version or an older."""
        return bool(self._under(name) or self._under(self._names.renamed(name)))

    def is_parameter(self, name: str) -> bool:
        """Returns whether a tensor on disk is in memory no layer's weight: a router's, or a part of fused experts."""
        renamed = self._names.renamed(name)
        if any(name in source for weight in self._in_memory.get(renamed, ()) for source in weight.merged_experts):
            return True
        outer = model_class(self._architecture)
        return renamed.removesuffix(".weight").endswith(tuple(f".{end}" for end in outer.parameters) if outer else ())

    def _under(self, name: str) -> list[Stored]:
        found = list(self._in_memory.get(name, ()))
        on_disk = Stored(((name,),))
        if (
            name in self.names
            and on_disk not in found
            and not any(name in parts for part in found for parts in part.sources)
        ):
            found.append(on_disk)
        return found

    def _spellings(self, name: str) -> Iterator[list[str]]:
        """Yields names to look for, the likeliest first."""
        renamed = self._names.renamed(name)
        yield [name]
        yield [renamed]
        outer = model_class(self._architecture)
        bases = {outer.prefix} if outer else prefixes()
        yield [other for spelling in (name, renamed) for other in self._with_or_without(bases, spelling)]
        if text := self._text_model:
            inner = model_class(text.class_name)
            short = name.removeprefix(f"{inner.prefix}.") if inner else name
            yield [f"{text.path}.{name}", f"{text.path}.{short}"]
        yield list(self._without_outer(name))

    def _with_or_without(self, bases: Iterable[str], name: str) -> Iterator[str]:
        for base in filter(None, bases):
            longer = f"{base}.{name}"
            yield longer
            yield self._names.renamed(longer)
            if name.startswith(f"{base}."):
                yield name.removeprefix(f"{base}.")

    def _without_outer(self, name: str) -> Iterator[str]:
        """Yields the base's name of a weight that an adapter of a larger model has, with the base inside."""
        base = base_class(str(self._config.get("model_type"))) or ""
        inner = model_class(base)
        for outer in classes_around(base):
            renamed = WeightNames(transforms(outer, {})).renamed(name)
            for submodel in submodels(outer, {}):
                if submodel.class_name == base and renamed.startswith(f"{submodel.path}."):
                    short = renamed.removeprefix(f"{submodel.path}.")
                    yield f"{inner.prefix}.{short}" if inner and inner.prefix else short

    @cached_property
    def _names(self) -> WeightNames:
        return WeightNames(transforms(self._architecture, self._config))

    @cached_property
    def _in_memory(self) -> dict[str, list[Stored]]:
        return self._names.in_memory(list(self.names))

    @cached_property
    def _text_model(self) -> Submodel | None:
        """The language model inside a model that reads more than text."""
        inside = submodels(self._architecture, self._config)
        return next((sub for sub in inside if (sub.config or "").rpartition(".")[2] in TEXT_OBJECTS), None)
