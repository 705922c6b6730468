"""Says that an adapter's tensor does not fit the base's, and what would. Pure."""

from ftm_jobs.adapters.base_tensors import BaseTensor
from ftm_jobs.checkpoint.embeddings import INPUT_EMBEDDINGS, OUTPUT_LAYERS, layer_of
from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.errors import InvalidInput, Reason


def adapter_mismatch(message: str) -> InvalidInput:
    return InvalidInput(Reason.ADAPTER_MISMATCH, message)


def unsupported_adapter(message: str) -> InvalidInput:
    return InvalidInput(Reason.UNSUPPORTED_ADAPTER, message)


def check_pair(target: BaseTensor, file: str, a: Tensor, b: Tensor, *, transposed: bool) -> None:
    """Checks that A (r, in) and B (out, r) make the weight, which is (out, in), or (in, out) if `transposed`."""
    outputs, inputs = reversed(target.tensor.shape) if transposed else target.tensor.shape
    wrong = None
    if a.shape[1] != inputs:
        wrong = f'"{a.name}" of shape {shape_of(a)} needs (r, {inputs})'
    elif b.shape[0] != outputs:
        wrong = f'"{b.name}" of shape {shape_of(b)} needs ({outputs}, r)'
    elif a.shape[0] != b.shape[1]:
        wrong = f'"{b.name}" of shape {shape_of(b)} needs (…, {a.shape[0]}), the rank of "{a.name}"'
    if wrong:
        remedy = "use the base that the adapter was trained on"
        if layer_of(target.tensor.name) in (*INPUT_EMBEDDINGS, *OUTPUT_LAYERS):
            remedy += ", or if its vocabulary was resized, save the adapter with save_embedding_layers=True"
        raise adapter_mismatch(
            f'{file} tensor {wrong} to fit "{target.tensor.name}" of shape {shape_of(target.tensor)} in '
            f"{target.file}: {remedy}"
        )


def check_shape(target: BaseTensor, file: str, tensor: Tensor, wanted: tuple[int, ...]) -> None:
    """Checks that an adapter's tensor has the shape that the base's `target` asks for."""
    if tensor.shape != wanted:
        raise adapter_mismatch(
            f'{file} tensor "{tensor.name}" of shape {shape_of(tensor)} needs {_written(wanted)} to fit '
            f'"{target.tensor.name}" of shape {shape_of(target.tensor)} in {target.file}: '
            "use the base that the adapter was trained on"
        )


def shape_of(tensor: Tensor) -> str:
    return _written(tensor.shape)


def _written(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
