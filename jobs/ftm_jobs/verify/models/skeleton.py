"""transformers' own modules of a model, without weights; parts of it get theirs when they are needed.

The model is built on the meta device. `load` puts the tensors of one part into it through transformers' conversion
from names and layouts on disk to those in memory (fused experts, renamed prefixes), in fp32; `drop` takes them out
again. Buffers that are computed from the config (rotary frequencies) are made once.
"""

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.verify.tensors.sources import TensorSource

if TYPE_CHECKING:
    from collections.abc import Iterator


def model_class(config: Any) -> Any:
    """transformers' class of the model; never code that lies beside it."""
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found is not None:
            return found
    raise InvalidInput(
        Reason.UNSUPPORTED_BASE,
        f"config.json names the architecture {config.architectures}, which transformers {transformers.__version__} "
        "does not have: verification cannot compute its logits",
    )


class Skeleton:
    """A model whose tensors are on the meta device except for the parts that are loaded."""

    def __init__(self, folder: Path, names: Iterable[str], device: str = "cpu") -> None:
        """`folder` holds config.json; `names` are the tensors on disk. Raises InvalidInput."""
        from transformers import AutoConfig
        from transformers.conversion_mapping import get_model_conversion_mapping

        _quiet()
        config = _config(AutoConfig, folder)
        config.use_cache = False
        self.device = device
        with torch.device("meta"):
            self.model: Any = model_class(config)._from_config(config, dtype=torch.float32).eval()
        self.model.requires_grad_(False)
        self.decoder: Any = self.model.get_decoder()
        self._modules = dict(self.model.named_modules())
        self._conversions: Any = get_model_conversion_mapping(self.model)
        self._make_buffers()
        self._places = self._place(sorted(names))
        self._filled = frozenset(self._places.values())
        self.layers_name, self.layers = self._find_layers()
        self._check_complete()

    def tensors_below(self, modules: Iterable[str]) -> list[str]:
        """The tensors on disk that make up these modules, given by name."""
        prefixes = tuple(f"{module}." for module in modules)
        return [name for name, place in self._places.items() if place.startswith(prefixes)]

    def module_of(self, weight: str) -> str | None:
        """The Linear module in memory whose weight this tensor on disk is, as it is; None where it is not."""
        module, _, part = self._places.get(weight, "").rpartition(".")
        found = self._modules.get(module)
        return module if part == "weight" and isinstance(found, nn.Linear) and weight in self._plain else None

    def tied_head(self, weight: str) -> str | None:
        """The output layer, if this tensor on disk is its weight by being tied to it."""
        place = self._places.get(weight)
        head = self.head[-1:]
        return head[0] if place and head and self._origin(f"{head[0]}.weight") == place else None

    def layer_name(self, layer: int) -> str:
        return f"{self.layers_name}.{layer}"

    @property
    def embedding(self) -> list[str]:
        """The modules that turn tokens into vectors."""
        return [self._name_of(self.model.get_input_embeddings())]

    @property
    def head(self) -> list[str]:
        """The modules that turn vectors into logits; with a tied output layer, the embedding too."""
        found = self.model.get_output_embeddings()
        if found is None:
            return []
        name = self._name_of(found)
        tied = [*self.embedding] if self._origin(f"{name}.weight") else []
        return [*tied, name]

    @property
    def rest(self) -> list[str]:
        """What else the decoder has: norms, positions."""
        prefix = self._name_of(self.decoder)
        children = [f"{prefix}.{name}" if prefix else name for name, _ in self.decoder.named_children()]
        return [name for name in children if name not in {self.layers_name, *self.embedding, *self.head}]

    def load(self, modules: Sequence[str], source: TensorSource) -> None:
        """Give these modules their weights. Raises Failed when some have none or another shape."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        tensors = {name: source.read(name) for name in self.tensors_below(modules)}
        settings = LoadStateDictConfig(
            dtype=torch.float32, weight_mapping=self._conversions, device_map={"": self.device}
        )
        found, _ = convert_and_load_state_dict_in_model(self.model, tensors, settings)
        for problem in (found.conversion_errors, found.mismatched_keys, found.error_msgs):
            if problem:
                raise Failed(Reason.INTERNAL_ERROR, f"transformers cannot load {', '.join(modules)}: {problem}")
        self._tie()
        for module in modules:
            empty = [name for name, tensor in self._modules[module].named_parameters() if tensor.is_meta]
            if empty:
                raise Failed(Reason.INTERNAL_ERROR, f"no tensor on disk became {module}.{empty[0]}")

    def drop(self, modules: Iterable[str]) -> None:
        """Back to the meta device, all but the buffers that come from the config."""
        for name in modules:
            for module in self._modules[name].modules():
                for key, parameter in list(module._parameters.items()):
                    if parameter is not None:
                        module._parameters[key] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    @contextmanager
    def loaded(self, modules: Sequence[str], source: TensorSource) -> "Iterator[None]":
        try:
            self.load(modules, source)
            yield
        finally:
            self.drop(modules)

    def _name_of(self, module: nn.Module) -> str:
        names: dict[nn.Module, str] = {found: name for name, found in self._modules.items()}
        return names[module]

    def _make_buffers(self) -> None:
        """Those that no file holds, as transformers makes them when it loads a model."""
        owners = set()
        for key, buffer in self.model.named_non_persistent_buffers():
            owner, _, name = key.rpartition(".")
            module = self.model.get_submodule(owner)
            module._buffers[name] = torch.empty_like(buffer, device=self.device)
            owners.add(owner)
        for owner in owners:
            self.model._init_weights(self.model.get_submodule(owner))

    def _place(self, names: Sequence[str]) -> dict[str, str]:
        """Where each tensor on disk goes in memory; those that the model does not have are left out."""
        from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

        renamings = [entry for entry in self._conversions if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self._conversions if isinstance(entry, WeightConverter)]
        known = self.model.state_dict()
        prefix = self.model.base_model_prefix
        places: dict[str, str] = {}
        self._plain: set[str] = set()
        for name in sorted(names, key=dot_natural_key):
            place, pattern = rename_source_key(name, renamings, converters, prefix, known)
            if place not in known and name in known:
                place, pattern = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=known)
            if place in known:
                places[name] = place
                if pattern is None:
                    self._plain.add(name)
        return places

    def _find_layers(self) -> tuple[str, nn.ModuleList]:
        count = self.model.config.get_text_config().num_hidden_layers
        found = [
            (name, module)
            for name, module in self.decoder.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == count
        ]
        if not found:
            raise InvalidInput(
                Reason.UNSUPPORTED_BASE,
                f"{type(self.model).__name__} has no list of {count} decoder layers: verification cannot run it",
            )
        prefix = self._name_of(self.decoder)
        name, module = min(found, key=lambda each: each[0].count("."))
        return (f"{prefix}.{name}" if prefix else name), module

    def _check_complete(self) -> None:
        """Every parameter of the decoder comes from disk, or is tied to one that does."""
        missing = [
            name
            for module in [*self.embedding, *self.rest, *self.head]
            for name in (f"{module}.{key}" for key, _ in self._modules[module].named_parameters())
            if name not in self._filled and self._origin(name) is None
        ]
        if missing:
            raise InvalidInput(
                Reason.INVALID_SAFETENSORS,
                f'no tensor of the model is "{missing[0]}", which {type(self.model).__name__} needs: '
                "the weights are not those of its config.json",
            )

    def _origin(self, target: str) -> str | None:
        """The parameter that this one is tied to, if it is not on disk itself."""
        return None if target in self._filled else self.model.all_tied_weights_keys.get(target)

    def _tie(self) -> None:
        for target in self.model.all_tied_weights_keys:
            origin = self._origin(target)
            if origin and not self.model.get_parameter(origin).is_meta:
                owner, _, name = target.rpartition(".")
                self.model.get_submodule(owner)._parameters[name] = self.model.get_parameter(origin)


def _quiet() -> None:
    from transformers.utils import logging

    hide: Any = logging.disable_progress_bar
    hide()


def _config(auto: Any, folder: Path) -> Any:
    try:
        config = auto.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        text = " ".join(str(error).split())[:300]
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE, f"config.json cannot be read by transformers ({text}): verification needs that"
        ) from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config
