"""Refuses weights that DeepSpeed's ZeRO-3 left without numbers: each process holds a part, and a save gathers none.

Such a tensor has the shape (0,). Pure: tensors come in, from headers.
"""

from collections.abc import Iterable

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.errors import InvalidInput, Reason

_EMPTY = (0,)


def refuse_empty_adapter(file: str, tensors: Iterable[Tensor]) -> None:
    """Raises InvalidInput (AdapterMismatch) where a tensor of the adapter is empty."""
    tensors = list(tensors)
    if empty := [tensor.name for tensor in tensors if tensor.shape == _EMPTY]:
        raise InvalidInput(Reason.ADAPTER_MISMATCH, _sentence(file, empty, len(tensors)))


def refuse_empty_base(uri: str, tensors: Iterable[Tensor]) -> None:
    """Raises InvalidInput (UnsupportedBase) where half of the base's tensors or more are empty."""
    tensors = list(tensors)
    empty = [tensor.name for tensor in tensors if tensor.shape == _EMPTY]
    if empty and 2 * len(empty) >= len(tensors):
        raise InvalidInput(Reason.UNSUPPORTED_BASE, _sentence(uri, empty, len(tensors)))


def _sentence(label: str, empty: list[str], count: int) -> str:
    return (
        f'{label} has no numbers in {len(empty)} of {count} tensors, such as "{empty[0]}" of shape (0,), as a save '
        "under DeepSpeed ZeRO-3 leaves them: save again with stage3_gather_16bit_weights_on_model_save true "
        "(zero3_save_16bit_model in Accelerate), or run zero_to_fp32.py on the training's checkpoint"
    )
