"""Holds a base's tensors by name, and knows its embedding and its output layer. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ftm_jobs.adapters.base_names import BaseNames
from ftm_jobs.checkpoint.embeddings import INPUT_EMBEDDINGS, OUTPUT_LAYERS, is_output_layer, layer_of
from ftm_jobs.checkpoint.headers import FLOATING_DTYPES, Header, Tensor
from ftm_jobs.errors import InvalidInput, Reason

_FLOATING = ", ".join(FLOATING_DTYPES)


@dataclass(frozen=True)
class BaseTensor:
    """A tensor of the base, and the file that holds it."""

    uri: str
    file_name: str
    tensor: Tensor

    @property
    def file(self) -> str:
        return f"{self.uri}/{self.file_name}"


@dataclass(frozen=True)
class BaseTensors:
    """A base's tensors, from its headers."""

    uri: str
    model_type: str
    tied_embeddings: bool
    headers: Sequence[Header]
    ties_differ: bool = False
    """config.json ties the embedding and the output layer, but the base holds two different tensors for them."""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All of config.json."""

    @cached_property
    def by_name(self) -> dict[str, BaseTensor]:
        return {
            name: BaseTensor(self.uri, header.file, tensor)
            for header in self.headers
            for name, tensor in header.tensors.items()
        }

    @cached_property
    def names(self) -> BaseNames:
        return BaseNames(self.by_name, {"model_type": self.model_type, **self.config})

    @cached_property
    def embedding(self) -> str | None:
        """The name of the input embedding; None where no tensor, or more than one, is named like one."""
        named = [name for name in self.by_name if layer_of(name) in INPUT_EMBEDDINGS]
        return named[0] if len(named) == 1 else None

    @cached_property
    def output_layer(self) -> str | None:
        """The name of the output layer's weight; None where the base has none of its own."""
        return next((name for name in self.by_name if is_output_layer(name)), None)

    def find(self, name: str) -> str | None:
        """Returns the tensor that an adapter calls `name`, which is the embedding for a tied output layer, or None."""
        stored = self.names.find(name)
        if stored is None and self.tied_embeddings and layer_of(name) in OUTPUT_LAYERS:
            return self.embedding
        return stored

    def floating(self, name: str) -> BaseTensor:
        """Returns a tensor by its name. Raises InvalidInput (UnsupportedBase) where its dtype cannot be added to."""
        tensor = self.by_name[name]
        if tensor.tensor.dtype not in FLOATING_DTYPES:
            raise InvalidInput(
                Reason.UNSUPPORTED_BASE,
                f'{tensor.file} tensor "{name}" is {tensor.tensor.dtype}: name a base in {_FLOATING}',
            )
        return tensor

    def new_output_layer(self, name: str) -> str:
        """Returns the name of a tied output layer, `name` in an adapter, once it has weights of its own."""
        inside = (self.embedding or "").startswith("language_model.model.")
        return f"language_model.{name}" if inside else name
