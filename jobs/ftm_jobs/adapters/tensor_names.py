"""Gives an adapter's tensors the names that PEFT's save_pretrained would have given them.

A state dict that was saved by hand has more in its names: what wraps a module while it is trained (torch.compile, FSDP,
activation checkpointing, data parallelism), and the adapter's own name. PEFT writes neither. Pure.
"""

import re
from collections.abc import Iterable

from ftm_jobs.errors import InvalidInput, Reason

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_PARALLEL = re.compile(r"^(?:module\.)*(base_model\.model\.)(?:module\.)*")
"""DistributedDataParallel and DeepSpeed keep what they train as `module`, which is a name inside of models, too."""
_NAMED = re.compile(
    r"(?P<part>\.(?:lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|trainable_tokens_delta))"
    r"\.(?P<adapter>(?!(?:weight|bias)$)[^.]+)(?P<rest>\.weight|\.bias)?$"
)


def plain_names(file: str, names: Iterable[str]) -> dict[str, str]:
    """Returns PEFT's name of each tensor, by the name that it has in `file`.

    Raises InvalidInput (UnsupportedAdapter) where the names are those of two adapters, or two tensors get one name.
    """
    plain: dict[str, str] = {}
    first_of: dict[str, str] = {}
    adapters: dict[str, str] = {}
    for name in names:
        plain[name], adapter = _plain(name)
        if adapter is not None:
            adapters.setdefault(adapter, name)
        if len(adapters) > 1:
            (one, of_one), (other, of_other) = adapters.items()
            raise InvalidInput(
                Reason.UNSUPPORTED_ADAPTER,
                f'{file} holds two adapters, "{one}" (tensor "{of_one}") and "{other}" (tensor "{of_other}"): '
                "save each to a folder of its own with PEFT's save_pretrained(selected_adapters=[…])",
            )
        if (first := first_of.setdefault(plain[name], name)) != name:
            raise InvalidInput(
                Reason.UNSUPPORTED_ADAPTER,
                f'{file} tensors "{first}" and "{name}" are both "{plain[name]}" to PEFT: '
                "save the adapter with PEFT's save_pretrained",
            )
    return plain


def is_plain(name: str) -> bool:
    """Returns whether a tensor has the name that PEFT's save_pretrained gives it."""
    return _plain(name)[0] == name


def _plain(name: str) -> tuple[str, str | None]:
    """Returns PEFT's name of a tensor, and the name of the adapter that was in it."""
    unwrapped = _PARALLEL.sub(r"\1", ".".join(part for part in name.split(".") if part not in _WRAPPERS))
    match = _NAMED.search(unwrapped)
    if match is None:
        return unwrapped, None
    return f"{unwrapped[: match.start()]}{match['part']}{match['rest'] or ''}", match["adapter"]
