"""Sorts an adapter's tensors by the layer they belong to and the part they play, from PEFT's names for them.

Pure: names, dtypes and shapes come in, from the header. A tensor that is not understood is refused by name, so that
nothing an adapter learned is dropped in silence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ftm_jobs.adapters.saved_modules import without_copies
from ftm_jobs.adapters.tensor_names import plain_names
from ftm_jobs.checkpoint.adapter_config import AdapterConfig
from ftm_jobs.checkpoint.headers import FLOATING_DTYPES, Header, Tensor
from ftm_jobs.contract.keys import ClassifierTask
from ftm_jobs.errors import InvalidInput, Reason

PREFIX = "base_model.model."
A, B, EMBEDDING_A, EMBEDDING_B = "lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"
BIAS = "lora_B.bias"
MAGNITUDE = "lora_magnitude_vector"
ROWS = "token_adapter.trainable_tokens_delta"
_PART = re.compile(
    re.escape(PREFIX) + r"(?P<module>.+)\.(?P<part>lora_[AB]\.weight|lora_B\.bias|lora_embedding_[AB]|"
    r"lora_magnitude_vector|token_adapter\.trainable_tokens_delta)(?P<weight>(?<=vector)\.weight)?"
)
_TRAINING_ONLY = re.compile(re.escape(PREFIX) + r".+\.(lora_velora_embed|lora_monteclora_sampler\..+)")
"""State of VeLoRA's backward pass and MonteCLoRA's sampler, which PEFT reads in training alone (lora/variants.py)."""
_PAIRS = {A: B, B: A, EMBEDDING_A: EMBEDDING_B, EMBEDDING_B: EMBEDDING_A}
_WRAPPERS = (".token_adapter.base_layer.", ".base_layer.")
_FOREIGN = {
    "lora_": "belongs to a kind of LoRA that this merge does not know: convert the adapter to plain LoRA",
    "modules_to_save": "is named as an unfinished training names it: save the adapter with PEFT's save_pretrained",
    "original_module": "is the base's own, without the trained one that takes its place: save the adapter again",
    "token_adapter": "is not what PEFT saves of trained token rows: save the adapter with PEFT's save_pretrained",
}
_PROGRAMS = (
    (
        re.compile(
            r"lora_(unet|te\d?|transformer)_.*|(unet|text_encoder(_2)?)\..*|transformer\.(single_)?transformer_blocks\..*"
        ),
        "is named as LoRA of image models is (kohya, Diffusers): only adapters of language models are merged",
    ),
    (
        re.compile(r".*\.lora_[ab]"),
        "is named as MLX names LoRA: fuse it with mlx_lm.fuse, and name the fused model as the base",
    ),
)
"""Other programs' names, which do not begin as PEFT's."""


@dataclass(frozen=True)
class AppliedAdapter:
    """An adapter as one of those that are applied to a base, in order."""

    number: int
    """Its place in the order, from 0."""
    file: str
    """Its weight file, as messages name it."""
    config: AdapterConfig
    scale: float
    task: ClassifierTask | None = None
    """The classifier that the merged model is to be; None: it is of the base's class."""


@dataclass(frozen=True)
class AdaptedLayer:
    """One layer that an adapter adapts: A and B, and what may come with them."""

    module: str
    a: Tensor
    b: Tensor
    embedding: bool
    bias: Tensor | None
    magnitude: Tensor | None


@dataclass(frozen=True)
class AdapterTensors:
    layers: list[AdaptedLayer] = field(default_factory=list)
    rows: dict[str, Tensor] = field(default_factory=dict)
    """Trained token rows, by embedding."""
    whole: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that replace the base's, by PEFT's name of those."""


def sort_tensors(file: str, header: Header) -> AdapterTensors:
    """Sorts the tensors of one file.

    Raises InvalidInput (AdapterMismatch, UnsupportedAdapter) naming file and tensor.
    """
    sorted_tensors = AdapterTensors()
    parts: dict[str, dict[str, Tensor]] = {}
    stored = {plain: name for name, plain in plain_names(file, header.tensors).items()}
    for name, replaced in without_copies(stored).items():
        if _TRAINING_ONLY.fullmatch(name):
            continue
        tensor = header.tensors[stored[name]]
        if tensor.dtype not in FLOATING_DTYPES:
            raise InvalidInput(
                Reason.UNSUPPORTED_ADAPTER,
                f'{file} tensor "{tensor.name}" is {tensor.dtype}: save the adapter as {", ".join(FLOATING_DTYPES)}',
            )
        match = _PART.fullmatch(name)
        if match is None:
            sorted_tensors.whole[_replaced(file, tensor.name, replaced)] = tensor
        elif match["part"] == ROWS:
            sorted_tensors.rows[match["module"]] = tensor
        else:
            parts.setdefault(match["module"], {})[match["part"]] = tensor
    sorted_tensors.layers.extend(_layers(file, parts))
    if not header.tensors:
        raise InvalidInput(Reason.ADAPTER_MISMATCH, f"{file} holds no tensors: save the adapter again after training")
    return sorted_tensors


def _layers(file: str, parts: dict[str, dict[str, Tensor]]) -> Iterator[AdaptedLayer]:
    for module, tensors in parts.items():
        for part, tensor in tensors.items():
            other = _PAIRS.get(part) or (EMBEDDING_A if EMBEDDING_B in tensors else A)
            if other not in tensors:
                raise InvalidInput(
                    Reason.ADAPTER_MISMATCH,
                    f'{file} has tensor "{tensor.name}" but no "{PREFIX}{module}.{other}": '
                    f"save the adapter of {module} again",
                )
        if A in tensors and EMBEDDING_A in tensors:
            raise InvalidInput(
                Reason.ADAPTER_MISMATCH,
                f'{file} adapts {module} twice, by "{tensors[A].name}" and "{tensors[EMBEDDING_A].name}": '
                "save the adapter again",
            )
        embedding = EMBEDDING_A in tensors
        a, b = (tensors[EMBEDDING_A], tensors[EMBEDDING_B]) if embedding else (tensors[A], tensors[B])
        yield AdaptedLayer(module, a, b, embedding, tensors.get(BIAS), tensors.get(MAGNITUDE))


def _replaced(file: str, stored: str, name: str) -> str:
    """Returns PEFT's name of the base's tensor that a trained module's `name` replaces; it is `stored` in the file."""
    replaced = name.removeprefix(PREFIX)
    for wrapper in _WRAPPERS:
        replaced = replaced.replace(wrapper, ".")
    for part, reason in _FOREIGN.items():
        if part in replaced and name.startswith(PREFIX):
            raise InvalidInput(Reason.UNSUPPORTED_ADAPTER, f'{file} tensor "{stored}" {reason}')
    if not name.startswith(PREFIX):
        for names, reason in _PROGRAMS:
            if names.fullmatch(stored):
                raise InvalidInput(Reason.UNSUPPORTED_ADAPTER, f'{file} tensor "{stored}" {reason}')
        raise InvalidInput(
            Reason.ADAPTER_MISMATCH,
            f'{file} tensor "{stored}" is not named as PEFT names LoRA weights ({PREFIX}<layer>.lora_A.weight): '
            "save the adapter with PEFT's save_pretrained",
        )
    return replaced
