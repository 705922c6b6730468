"""Predicts the storage that a file's type asks for, tensor by tensor.

The rules are those of src/llama-quant.cpp in the pinned release; a test holds them against its results.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ftm_jobs.quantize.gguf.file_types import FileType, Weight

OUTPUT = "output.weight"
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_ATTENTION_VALUES = ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")


@dataclass(frozen=True)
class GgufArchitecture:
    """The facts that mixtures depend on, in GGUF's words."""

    name: str
    layers: int
    heads: int
    key_value_heads: int
    experts: int = 0

    @property
    def is_70b(self) -> bool:
        """Says whether llama.cpp counts it as a 70B: llama without groups is the 65B. Source: load_arch_hparams."""
        grouped = self.heads != self.key_value_heads
        return self.layers == 80 and (grouped or self.name != "llama") and self.name in _WITH_70B

    @property
    def queries_per_key(self) -> int:
        return self.heads // self.key_value_heads if self.key_value_heads else 0


_WITH_70B = {"llama", "qwen2", "deci", "olmo", "olmo2"}


def asked_storage(
    weights: Iterable[Weight], architecture: GgufArchitecture, type: FileType, *, importance: bool = False
) -> dict[str, str]:
    """Returns the storage that the type asks for, by the name of each quantized tensor of a GGUF file."""
    quantized = sorted(
        (each for each in weights if is_quantized(each)), key=lambda each: (_layer(each.name), each.name)
    )
    mixture = _Mixture(architecture, type, importance, quantized)
    return {each.name: mixture.storage(each) for each in quantized}


def is_quantized(weight: Weight) -> bool:
    """Says whether the quantizer touches a tensor. Source: tensor_allows_quantization."""
    name = weight.name
    return len(weight.shape) >= 2 and name.endswith("weight") and not any(part in name for part in _KEPT)


_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_",
    "attn_rel_b.weight",
)


class _Mixture:
    """Chooses a storage for each tensor. Source: llama_tensor_get_type_impl."""

    def __init__(
        self, architecture: GgufArchitecture, type: FileType, importance: bool, quantized: Sequence[Weight]
    ) -> None:
        names = [each.name for each in quantized]
        self._architecture = architecture
        self._type = type
        self._importance = importance
        self._tied = OUTPUT not in names
        self._values = [name for name in names if name.endswith(_ATTENTION_VALUES)]

    def storage(self, weight: Weight) -> str:
        name, asked, falcon = weight.name, self._type.storage, self._architecture.name == "falcon"
        if name == OUTPUT or (self._tied and name in EMBEDDINGS):
            return "Q8_0" if asked == "Q8_0" or falcon else "Q6_K"
        if name in EMBEDDINGS:
            return asked
        if name.endswith(_ATTENTION_VALUES):
            return self._attention_values(name)
        if name.endswith("attn_k.weight") and self._architecture.experts == 8:
            return "Q8_0"
        if "ffn_down" in name:
            return self._down(_layer(name), falcon)
        if name.endswith("attn_output.weight") and not falcon:
            if self._architecture.experts == 8:
                return "Q5_K" if self._type.name in ("Q2_K", "Q4_K_M") else asked
            return "Q3_K" if self._type.name == "Q2_K" else asked
        return asked

    def _attention_values(self, name: str) -> str:
        if self._architecture.experts == 8:
            return "Q8_0"
        storage = self._type.storage
        if self._type.name == "Q2_K":
            storage = "Q4_K" if self._architecture.queries_per_key >= 4 else "Q3_K"
        elif self._type.name in ("Q4_K_M", "Q5_K_M") and _more_bits(self._values.index(name), len(self._values)):
            storage = "Q6_K"
        return "Q5_K" if self._architecture.is_70b and storage in ("Q3_K", "Q4_K") else storage

    def _down(self, layer: int, falcon: bool) -> str:
        layers = self._architecture.layers
        match self._type.name:
            case "Q2_K":
                return "Q3_K"
            case "Q4_K_M" if falcon:
                if layer < layers // 16:
                    return "Q6_K"
                return "Q5_K" if _more_bits(layer, layers) else "Q4_K"
            case "Q4_K_M" | "Q5_K_M" if _more_bits(layer, layers):
                return "Q6_K"
            case "Q4_0" if self._importance and layer < layers // 8:
                return "Q4_1"
        return self._type.storage


def _more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "blk" and len(parts) > 2 and parts[1].isdigit() else -1
