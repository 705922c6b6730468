"""What an adapter can do to a tensor of the base, each as PEFT does it (peft/tuners/lora/layer.py and variants.py).

Pure: this says which tensors of which adapter are used and with what scaling; `arithmetic` computes it.
"""

from dataclasses import dataclass
from enum import StrEnum

from ftm_jobs.checkpoint.headers import Tensor
from ftm_jobs.checkpoint.output_layout import TensorChange

NF4_BLOCK = 64
"""How many consecutive numbers share a scale in 4-bit NormalFloat."""


class Form(StrEnum):
    """How B·A lies in the stored weight, with A (r, in) and B (out, r)."""

    LINEAR = "linear"
    """(out, in)."""
    TRANSPOSED = "transposed"
    """(in, out): Conv1D, embeddings and experts stored by input."""


@dataclass(frozen=True)
class Expert:
    """Whose share of A (experts·r, in) and B (out, r·experts) is used. B's last axis counts experts fastest."""

    count: int
    index: int | None
    """None: the stored weight holds all experts, one after the other."""
    first_output: int = 0
    """Of the fused output that this stored weight is a part of: up_proj follows gate_proj."""


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
    """The product is rounded to the weight's dtype before it is added: PEFT's Embedding and ParamWrapper."""
    magnitude: Tensor | None = None
    expert: Expert | None = None

    @property
    def whole(self) -> bool:
        """An output's norm needs the whole weight at once where outputs are not rows."""
        return self.magnitude is not None and self.form is Form.TRANSPOSED


@dataclass(frozen=True)
class AddBias(TensorChange):
    """Adds scaling·b to a bias (lora_bias)."""

    tensor: Tensor
    scaling: float


@dataclass(frozen=True)
class Replace(TensorChange):
    """The adapter's tensor instead of the base's (modules_to_save, saved embeddings, trained biases)."""

    tensor: Tensor


@dataclass(frozen=True)
class ReplaceRows(TensorChange):
    """The adapter's rows instead of the base's at these indices (trainable_token_indices)."""

    tensor: Tensor
    indices: tuple[int, ...]


@dataclass(frozen=True)
class RoundTrip(TensorChange):
    """What 4-bit NormalFloat (NF4) leaves of the base's weight: what a QLoRA adapter was trained on."""
