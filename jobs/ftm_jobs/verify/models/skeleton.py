"""Holds transformers' own modules of a model without weights, and loads parts when they are needed.

The model is built on the meta device. `load` puts the tensors of one part into it through transformers' conversion
from names and layouts on disk to those in memory (fused experts, renamed prefixes); `drop` takes them out
again. Buffers that are computed from the config (rotary frequencies) are made once.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.verify.models.tensor_places import tensor_places
from ftm_jobs.verify.models.transformers_model import decoder_layers, empty_model, without_progress_bars
from ftm_jobs.verify.tensors.sources import TensorSource


class Skeleton:
    """Holds a model whose tensors are on the meta device except for the parts that are loaded."""

    def __init__(
        self, folder: Path, names: Iterable[str], device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """Builds the modules, which compute in `dtype`.

        `folder` holds config.json, `names` are the tensors on disk. Raises InvalidInput.
        """
        from transformers.conversion_mapping import get_model_conversion_mapping

        self.device = device
        self.dtype = dtype
        self.model = empty_model(folder, dtype)
        self.decoder: Any = self.model.get_decoder()
        self._modules = dict(self.model.named_modules())
        self._conversions: Any = get_model_conversion_mapping(self.model)
        self._make_buffers()
        self._places = tensor_places(self.model, self._conversions, sorted(names))
        self.layers_name, self.layers = decoder_layers(self.model)
        self._check_complete()

    def tensors_below(self, modules: Iterable[str]) -> list[str]:
        """Returns the tensors on disk that make up these modules, given by name."""
        return self._places.below(modules)

    def module_of(self, weight: str) -> str | None:
        """Returns the Linear module whose weight this tensor on disk is, unchanged; None where it is none."""
        module, _, part = self._places.places.get(weight, "").rpartition(".")
        layer = self._modules.get(module)
        return (
            module if part == "weight" and isinstance(layer, nn.Linear) and weight in self._places.unchanged else None
        )

    def tied_head(self, weight: str) -> str | None:
        """Returns the output layer, if its weight is tied to this tensor on disk."""
        place = self._places.places.get(weight)
        head = self.head[-1:]
        return head[0] if place and head and self._origin(f"{head[0]}.weight") == place else None

    def layer_name(self, layer: int) -> str:
        return f"{self.layers_name}.{layer}"

    @property
    def embedding(self) -> list[str]:
        """Returns the modules that turn tokens into vectors."""
        return [self._name_of(self.model.get_input_embeddings())]

    @property
    def head(self) -> list[str]:
        """Returns the modules that turn vectors into logits; with a tied output layer, the embedding too."""
        output = self.model.get_output_embeddings()
        if output is None:
            return []
        name = self._name_of(output)
        tied = [*self.embedding] if self._origin(f"{name}.weight") else []
        return [*tied, name]

    @property
    def rest(self) -> list[str]:
        """Returns the decoder's other modules: norms, positions."""
        prefix = self._name_of(self.decoder)
        children = [f"{prefix}.{name}" if prefix else name for name, _ in self.decoder.named_children()]
        return [name for name in children if name not in {self.layers_name, *self.embedding, *self.head}]

    def load(self, modules: Sequence[str], source: TensorSource) -> None:
        """Gives these modules their weights. Raises Failed when some have none or another shape."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        tensors = {name: source.read(name) for name in self.tensors_below(modules)}
        settings = LoadStateDictConfig(dtype=self.dtype, weight_mapping=self._conversions, device_map={"": self.device})
        with without_progress_bars():
            loading, _ = convert_and_load_state_dict_in_model(self.model, tensors, settings)
        for problem in (loading.conversion_errors, loading.mismatched_keys, loading.error_msgs):
            if problem:
                raise Failed(Reason.INTERNAL_ERROR, f"transformers cannot load {', '.join(modules)}: {problem}")
        self._tie()
        for module in modules:
            empty = [name for name, tensor in self._modules[module].named_parameters() if tensor.is_meta]
            if empty:
                raise Failed(Reason.INTERNAL_ERROR, f"no tensor on disk became {module}.{empty[0]}")

    def drop(self, modules: Iterable[str]) -> None:
        """Puts modules back on the meta device, all but the buffers that come from the config."""
        for name in modules:
            for module in self._modules[name].modules():
                for key, parameter in list(module._parameters.items()):
                    if parameter is not None:
                        module._parameters[key] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    @contextmanager
    def loaded(self, modules: Sequence[str], source: TensorSource) -> Iterator[None]:
        """Loads modules, and drops them at the end."""
        try:
            self.load(modules, source)
            yield
        finally:
            self.drop(modules)

    def _name_of(self, module: nn.Module) -> str:
        names: dict[nn.Module, str] = {found: name for name, found in self._modules.items()}
        return names[module]

    def _make_buffers(self) -> None:
        """Makes the buffers that no file holds, as transformers does when it loads a model."""
        owners = set()
        for key, buffer in self.model.named_non_persistent_buffers():
            owner, _, name = key.rpartition(".")
            module = self.model.get_submodule(owner)
            module._buffers[name] = torch.empty_like(buffer, device=self.device)
            owners.add(owner)
        for owner in owners:
            self.model._init_weights(self.model.get_submodule(owner))

    def _check_complete(self) -> None:
        """Raises InvalidInput unless every parameter of the decoder comes from disk or is tied to one that does."""
        missing = [
            name
            for module in [*self.embedding, *self.rest, *self.head]
            for name in (f"{module}.{key}" for key, _ in self._modules[module].named_parameters())
            if name not in self._places.filled and self._origin(name) is None
        ]
        if missing:
            raise InvalidInput(
                Reason.INVALID_SAFETENSORS,
                f'no tensor of the model is "{missing[0]}", which {type(self.model).__name__} needs: '
                "the weights are not those of its config.json",
            )

    def _origin(self, target: str) -> str | None:
        """Returns the parameter that this one is tied to, if it is not on disk itself."""
        return None if target in self._places.filled else self.model.all_tied_weights_keys.get(target)

    def _tie(self) -> None:
        for target in self.model.all_tied_weights_keys:
            origin = self._origin(target)
            if origin and not self.model.get_parameter(origin).is_meta:
                owner, _, name = target.rpartition(".")
                self.model.get_submodule(owner)._parameters[name] = self.model.get_parameter(origin)
