"""Maps tensors on disk to their places in transformers' modules."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class TensorPlaces:
    """The parameters in memory that tensors on disk become, with others or alone."""

    places: Mapping[str, str]
    """Names of parameters by names on disk."""
    unchanged: frozenset[str]
    """Tensors on disk that are a parameter as they are."""

    @cached_property
    def filled(self) -> frozenset[str]:
        """Returns the parameters that come from disk."""
        return frozenset(self.places.values())

    def below(self, modules: Iterable[str]) -> list[str]:
        """Returns the tensors on disk that make up these modules, given by name."""
        prefixes = tuple(f"{module}." for module in modules)
        return [name for name, place in self.places.items() if place.startswith(prefixes)]


def tensor_places(model: Any, conversions: Sequence[Any], names: Iterable[str]) -> TensorPlaces:
    """Maps tensors on disk by transformers' own conversions; those that the model does not have are left out."""
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in conversions if isinstance(entry, WeightConverter)]
    parameters = model.state_dict()
    prefix = model.base_model_prefix
    places: dict[str, str] = {}
    unchanged = set()
    for name in sorted(names, key=dot_natural_key):
        place, pattern = rename_source_key(name, renamings, converters, prefix, parameters)
        if place not in parameters and name in parameters:
            place, pattern = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=parameters)
        if place in parameters:
            places[name] = place
            if pattern is None:
                unchanged.add(name)
    return TensorPlaces(places, frozenset(unchanged))
