"""Lists the changes that adapters make to a base's tensors, as PEFT does (peft/tuners/lora/layer.py, variants.py).

A change names the tensors of the adapter that it uses, and its scaling; merge/arithmetic computes it. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.output_layout import TensorChange

NF4_BLOCK = 64
"""Consecutive numbers that share a scale in 4-bit NormalFloat."""


class Form(StrEnum):
    """Says how B·A lies in the stored weight, with A (r, in) and B (out, r)."""

    LINEAR = "linear"
    """(out, in)."""
    TRANSPOSED = "transposed"
    """(in, out): Conv1D, embeddings and experts stored by input."""


@dataclass(frozen=True)
class Expert:
    """Names the expert whose share of A (experts·r, in) and B (out, r·experts) is used.

    B's last axis counts experts fastest.
    """

    count: int
    index: int | None
    """None: the stored weight holds all experts, one after the other."""
    first_output: int = 0
    """Place of its first output in the fused weight that it is a part of: up_proj follows gate_proj."""


@dataclass(frozen=True)
class LowRank(TensorChange):
    """Adds scaling·B·A, or with a magnitude m makes m/‖W + scaling·B·A‖ · (W + scaling·B·A) of each output (DoRA)."""

    module: str
    """PEFT's name of the layer."""
    form: Form
    a: Tensor
    b: Tensor
    rank: int
    scaling: float
    rounded: bool = False
    """The product is rounded to the weight's dtype before it is added: PEFT's Embedding, ParamWrapper, MiCA."""
    magnitude: Tensor | None = None
    expert: Expert | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.a, self.b, *([self.magnitude] if self.magnitude else []))

    @property
    def whole(self) -> bool:
        """An output's norm needs the whole weight at once where outputs are not rows."""
        return self.magnitude is not None and self.form is Form.TRANSPOSED


@dataclass(frozen=True)
class AddBias(TensorChange):
    """Adds scaling·b to a bias (lora_bias)."""

    tensor: Tensor
    scaling: float

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.tensor,)


@dataclass(frozen=True)
class Replace(TensorChange):
    """Puts the adapter's tensor in the place of the base's (modules_to_save, saved embeddings, trained biases)."""

    tensor: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.tensor,)


@dataclass(frozen=True)
class ReplaceRows(TensorChange):
    """Puts the adapter's rows in the place of the base's at these indices (trainable_token_indices)."""

    tensor: Tensor
    indices: tuple[int, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.tensor,)


@dataclass(frozen=True)
class RoundTrip(TensorChange):
    """Rounds the base's weight to 4-bit NormalFloat (NF4) and back: a QLoRA adapter was trained on the result."""


@dataclass(frozen=True)
class Update:
    """Changes one tensor of the merged model."""

    weight: str
    """Its name in the base, or in the merged model where the base has none."""
    change: TensorChange
    in_module: bool = False
    """It replaces a module of its own (modules_to_save), so that it is tied to no other."""

    @property
    def low_rank(self) -> LowRank | None:
        return self.change if isinstance(self.change, LowRank) else None
