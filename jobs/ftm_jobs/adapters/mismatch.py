"""Says that an adapter's tensor does not fit the base's, and what would. Pure."""

from collections.abc import Collection

from ftm_jobs.adapters.base_tensors import BaseTensor, BaseTensors
from ftm_jobs.checkpoint.adapter_config import AdapterConfig
from ftm_jobs.checkpoint.embeddings import INPUT_EMBEDDINGS, OUTPUT_LAYERS, layer_of
from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.errors import InvalidInput, Reason


class AnotherBase(InvalidInput):
    """A tensor would fit another base; `match` adds which, from what the whole adapter says."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.ADAPTER_MISMATCH, message)


def adapter_mismatch(message: str) -> InvalidInput:
    return InvalidInput(Reason.ADAPTER_MISMATCH, message)


def unsupported_adapter(message: str) -> InvalidInput:
    return InvalidInput(Reason.UNSUPPORTED_ADAPTER, message)


def not_found(base: BaseTensors, file: str, does: str, name: str) -> InvalidInput:
    """Returns why no tensor of the base is the weight that an adapter calls `name`.

    `does` begins with the adapter's tensor, as in `tensor "….lora_A.weight" adapts`.
    """
    stored = base.names.stored(name)
    if not stored:
        return AnotherBase(f'{file} {does} "{name}", which {base.uri} does not have')
    tensors = [base.by_name[part.sources[0][0]] for part in stored if part.sources[0]]
    if len(stored) > 1 or not stored[0].transform:
        both = " and ".join(f'"{tensor.tensor.name}"' for tensor in tensors)
        return unsupported_adapter(
            f'{file} {does} "{name}", which {both} of {base.uri} are both in memory: name a base that has one of them'
        )
    return unsupported_adapter(
        f'{file} {does} "{name}", which transformers makes of "{tensors[0].tensor.name}" in {tensors[0].file} by '
        f"{', '.join(operation.partition(' ')[0] for operation in stored[0].transform.operations)}: "
        "this merge cannot undo that; merge the adapter with PEFT"
    )


def check_pair(target: BaseTensor, file: str, a: Tensor, b: Tensor, *, transposed: bool) -> None:
    """Checks that A (r, in) and B (out, r) make the weight, which is (out, in), or (in, out) if `transposed`."""
    outputs, inputs = reversed(target.tensor.shape) if transposed else target.tensor.shape
    wrong = None
    if a.shape[1] != inputs:
        wrong = f'"{a.name}" of shape {shape_of(a)} needs (r, {inputs})'
    elif b.shape[0] != outputs:
        wrong = f'"{b.name}" of shape {shape_of(b)} needs ({outputs}, r)'
    elif a.shape[0] != b.shape[1]:
        raise adapter_mismatch(
            f'{file} tensor "{b.name}" of shape {shape_of(b)} needs (…, {a.shape[0]}), the rank of "{a.name}": the two '
            "are of different trainings; save the adapter again"
        )
    if wrong:
        resized = layer_of(target.tensor.name) in (*INPUT_EMBEDDINGS, *OUTPUT_LAYERS)
        raise AnotherBase(
            f'{file} tensor {wrong} to fit "{target.tensor.name}" of shape {shape_of(target.tensor)} in {target.file}'
            + ("; if its vocabulary was resized, save the adapter with save_embedding_layers=True" if resized else "")
        )


def check_shape(target: BaseTensor, file: str, tensor: Tensor, wanted: tuple[int, ...]) -> None:
    """Checks that an adapter's tensor has the shape that the base's `target` asks for."""
    if tensor.shape != wanted:
        raise AnotherBase(
            f'{file} tensor "{tensor.name}" of shape {shape_of(tensor)} needs {_written(wanted)} to fit '
            f'"{target.tensor.name}" of shape {shape_of(target.tensor)} in {target.file}'
        )


def which_base(base: BaseTensors, config: AdapterConfig, modules: Collection[str]) -> str:
    """Returns which base an adapter of these layers wants instead, as far as it says so."""
    fitting = sum(base.find(f"{module}.weight") is not None for module in modules)
    some = f"{fitting} of its {len(modules)} adapted layers are in this base; " if fitting < len(modules) else ""
    named = config.base_name
    if not named:
        return f"{some}use the base that the adapter was trained on"
    if _plain_name(named) == _plain_name(base.uri):
        return (
            f"{some}adapter_config.json names {named} as its base, as this one is called: use the version of it that "
            "the adapter was trained on"
        )
    return f"{some}use the base that the adapter was trained on, which adapter_config.json says is {named}"


def _plain_name(name: str) -> str:
    """Returns the last part of a repository, a path or a URI, without a revision."""
    return name.rstrip("/").rpartition("/")[2].partition("@")[0].lower()


def shape_of(tensor: Tensor) -> str:
    return _written(tensor.shape)


def _written(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
