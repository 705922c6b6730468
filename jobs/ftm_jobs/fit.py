"""Does an adapter fit a base? Every adapter tensor must name a Linear weight of the base, with agreeing shapes.

Pure: names, dtypes and shapes come in, from headers. With A of shape (r, in) and B of shape (out, r) for each weight
of shape (out, in), merging adds scaling·B·A.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.configs import CONV1D_MODEL_TYPES, AdapterConfig
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.headers import FLOATING_DTYPES, Header, Tensor

PREFIX = "base_model.model."
_FACTOR = re.compile(re.escape(PREFIX) + r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_OTHER_KINDS = {
    "lora_magnitude_vector": "a DoRA magnitude: train the adapter with use_dora false",
    "lora_embedding_": "LoRA on an embedding: train the adapter on Linear layers only",
    "lora_B.bias": "a LoRA bias: train the adapter with lora_bias false",
    "modules_to_save": "a whole layer: train the adapter without modules_to_save",
    "token_adapter": "trained token rows: train the adapter without trainable_token_indices",
    "base_layer": "a weight of the base: save the adapter with save_embedding_layers=False if it was not trained",
}


@dataclass(frozen=True)
class Update:
    """One weight of the base and what an adapter adds to it."""

    weight: str
    module: str
    a: Tensor
    b: Tensor
    rank: int


@dataclass(frozen=True)
class BaseTensors:
    """What of a base matters here."""

    uri: str
    model_type: str
    tied_embeddings: bool
    headers: Sequence[Header]


def match(base: BaseTensors, adapter_file: str, header: Header, config: AdapterConfig) -> list[Update]:
    """The adapter's updates, sorted by weight. `adapter_file` is how messages name the adapter's tensors.

    Raises InvalidInput (AdapterMismatch, UnsupportedAdapter, UnsupportedBase) naming file and tensor.
    """
    if base.model_type in CONV1D_MODEL_TYPES:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f'{base.uri}/config.json: model_type "{base.model_type}" has Conv1D layers, which this merge does not '
            "support: use a base with Linear layers",
        )
    weights = {name: (found, tensor) for found in base.headers for name, tensor in found.tensors.items()}
    updates = [
        _update(base, weights, adapter_file, config, module, a, b)
        for module, (a, b) in _pairs(adapter_file, header).items()
    ]
    return sorted(updates, key=lambda update: update.weight)


def _pairs(file: str, header: Header) -> dict[str, tuple[Tensor, Tensor]]:
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in header.tensors.items():
        found = _FACTOR.fullmatch(name)
        if not found:
            raise _foreign(file, name)
        if tensor.dtype not in FLOATING_DTYPES:
            raise InvalidInput(
                Reason.UNSUPPORTED_ADAPTER,
                f'{file} tensor "{name}" is {tensor.dtype}: save the adapter as {", ".join(FLOATING_DTYPES)}',
            )
        sides.setdefault(found["module"], {})[found["side"]] = tensor
    for module, pair in sides.items():
        if len(pair) != 2:
            side, tensor = next(iter(pair.items()))
            other = tensor.name.replace(f"lora_{side}", f"lora_{'B' if side == 'A' else 'A'}")
            raise InvalidInput(
                Reason.ADAPTER_MISMATCH,
                f'{file} has tensor "{tensor.name}" but no "{other}": save the adapter of {module} again',
            )
    if not sides:
        raise InvalidInput(Reason.ADAPTER_MISMATCH, f"{file} holds no tensors: save the adapter again after training")
    return {module: (pair["A"], pair["B"]) for module, pair in sides.items()}


def _foreign(file: str, name: str) -> InvalidInput:
    for part, kind in _OTHER_KINDS.items():
        if part in name:
            return InvalidInput(
                Reason.UNSUPPORTED_ADAPTER,
                f'{file} tensor "{name}" is {kind} (plain LoRA on Linear layers is supported)',
            )
    if name.startswith(PREFIX) and "lora_" not in name:
        return InvalidInput(
            Reason.UNSUPPORTED_ADAPTER,
            f'{file} tensor "{name}" replaces a weight of the base: save the adapter with save_embedding_layers=False '
            "if it was not trained",
        )
    return InvalidInput(
        Reason.ADAPTER_MISMATCH,
        f'{file} tensor "{name}" is not named as PEFT names LoRA weights ({PREFIX}<layer>.lora_A.weight): '
        "save the adapter with PEFT's save_pretrained",
    )


def _update(
    base: BaseTensors,
    weights: Mapping[str, tuple[Header, Tensor]],
    file: str,
    config: AdapterConfig,
    module: str,
    a: Tensor,
    b: Tensor,
) -> Update:
    weight = f"{module}.weight"
    if module.rpartition(".")[2] == "lm_head" and base.tied_embeddings:
        raise InvalidInput(
            Reason.UNSUPPORTED_ADAPTER,
            f'{file} tensor "{a.name}" adapts lm_head, which {base.uri} ties to its embedding: '
            "train the adapter without lm_head",
        )
    if weight not in weights:
        raise InvalidInput(
            Reason.ADAPTER_MISMATCH,
            f'{file} tensor "{a.name}" adapts "{weight}", which {base.uri} does not have: '
            "use the base that the adapter was trained on",
        )
    header, target = weights[weight]
    if target.dtype not in FLOATING_DTYPES:
        raise InvalidInput(
            Reason.UNSUPPORTED_BASE,
            f'{base.uri}/{header.file} tensor "{weight}" is {target.dtype}: '
            f"name a base in {', '.join(FLOATING_DTYPES)}",
        )
    if len(target.shape) != 2 or len(a.shape) != 2 or len(b.shape) != 2:
        raise InvalidInput(
            Reason.UNSUPPORTED_ADAPTER,
            f'{file} tensor "{a.name}" of shape {_shape(a)} adapts "{weight}" of shape {_shape(target)} in '
            f"{base.uri}/{header.file}: only Linear layers, with two dimensions, are supported",
        )
    _check_shapes(base, header.file, target, file, a, b)
    rank = config.rank_of(module)
    if a.shape[0] != rank:
        raise InvalidInput(
            Reason.ADAPTER_MISMATCH,
            f'{file} tensor "{a.name}" has rank {a.shape[0]} but adapter_config.json says {rank}: '
            "upload the two files of one training",
        )
    return Update(weight, module, a, b, rank)


def _check_shapes(base: BaseTensors, base_file: str, target: Tensor, file: str, a: Tensor, b: Tensor) -> None:
    rows, columns = target.shape
    wrong = None
    if a.shape[1] != columns:
        wrong = f'"{a.name}" of shape {_shape(a)} needs (r, {columns})'
    elif b.shape[0] != rows:
        wrong = f'"{b.name}" of shape {_shape(b)} needs ({rows}, r)'
    elif a.shape[0] != b.shape[1]:
        wrong = f'"{b.name}" of shape {_shape(b)} needs (…, {a.shape[0]}), the rank of "{a.name}"'
    if wrong:
        raise InvalidInput(
            Reason.ADAPTER_MISMATCH,
            f'{file} tensor {wrong} to fit "{target.name}" of shape {_shape(target)} in {base.uri}/{base_file}: '
            "use the base that the adapter was trained on",
        )


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
