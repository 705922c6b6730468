"""Stand-ins for what the classes of some models ask of a GPU, or import, before any number is computed."""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
import transformers.image_utils  # noqa: F401 - looks for the real torchvision
from transformers import AutoConfig, PretrainedConfig
from vllm.platforms import current_platform
from vllm.v1.worker.workspace import init_workspace_manager

SPARSE = "vllm.v1.attention.backends.mla.flashmla_sparse.FlashMLASparseBackend"
"""The attention that a GPU has for the latents that an index chooses; the CPU has none."""


def replace_what_needs_a_gpu() -> None:
    """Models of sparse attention (DeepSeek-V3.2, GLM-5), Kimi Linear, and those that read images can then be built."""
    os.environ["VLLM_KIMI_K3_GEMM_AR"] = "0"
    for name in ("Stream", "Event"):
        setattr(torch.cuda, name, _OnNoDevice)
    init_workspace_manager(torch.device("meta"))
    platform: Any = type(current_platform)
    chosen = platform.get_attn_backend_cls

    def backend(selected_backend: Any, attn_selector_config: Any, num_heads: int | None = None) -> str:
        if attn_selector_config.use_sparse:
            return SPARSE
        return str(chosen(selected_backend, attn_selector_config, num_heads))

    platform.get_attn_backend_cls = staticmethod(backend)
    sys.meta_path.insert(0, _TorchVision())
    AutoConfig.register("phi4mm", _Phi4MM)


class _Phi4MM(PretrainedConfig):  # type: ignore[no-untyped-call]
    """Its class is in the model's repository, not in transformers."""

    model_type = "phi4mm"


class _OnNoDevice:
    """A stream or an event of no device."""

    def __init__(self, *_: object, **__: object) -> None:
        """Nothing is asked of a driver."""


class _TorchVision(MetaPathFinder):
    """Finds torchvision, which classes of vision models import: vLLM's CPU build breaks where another build of it is.

    transformers has looked for the real one before, and goes on without.
    """

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Empty(), is_package=True) if fullname.split(".")[0] == "torchvision" else None


class _Empty(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _AnyName(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


class _AnyName(ModuleType):
    """A module of which any name can be imported."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
