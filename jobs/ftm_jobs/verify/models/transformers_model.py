"""Builds transformers' modules of a model on the meta device: all shapes, no weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftm_jobs.errors import InvalidInput, Reason


def empty_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Returns the model of a folder's config.json, without weights. Raises InvalidInput (UnsupportedBase)."""
    from transformers import AutoConfig

    config = _config(AutoConfig, folder)
    config.use_cache = False
    with torch.device("meta"):
        model: Any = model_class(config)._from_config(config, dtype=dtype).eval()
    model.requires_grad_(False)
    return model


def model_class(config: Any) -> Any:
    """Returns transformers' class of the model, and never code that lies beside it."""
    import transformers

    for name in config.architectures or ():
        if (architecture := getattr(transformers, name, None)) is not None:
            return architecture
    raise InvalidInput(
        Reason.UNSUPPORTED_BASE,
        f"config.json names the architecture {config.architectures}, which transformers {transformers.__version__} "
        "does not have: verification cannot compute its logits",
    )


def decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Returns the decoder's list of layers, by its name in the model. Raises InvalidInput where there is none."""
    decoder, count = model.get_decoder(), model.config.get_text_config().num_hidden_layers
    lists = [
        (name, module)
        for name, module in decoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if not lists:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f"{type(model).__name__} has no list of {count} decoder layers: verification cannot run it",
        )
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    name, module = min(lists, key=lambda named: named[0].count("."))
    return (f"{prefix}.{name}" if prefix else name), module


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing a bar each time that a layer gets its weights: a Job's log has lines."""
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


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
