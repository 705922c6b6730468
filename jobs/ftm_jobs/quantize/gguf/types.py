"""GGUF types: what llama.cpp's quantizer stores each tensor as, what it falls back to, and what that weighs.

A file's type names a mixture: Q4_K_M stores most weights as Q4_K, and those that matter most as Q6_K. Rows are stored
in blocks, of 256 numbers for the K types and of 32 for the others, so a weight whose rows are no multiple of 256 falls
back to a type with blocks of 32, and below that to F16. llama.cpp says so in one line of its log and goes on.
The rules are those of src/llama-quant.cpp in the pinned release; a test holds them against its results.
Pure: names and shapes come in.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ftm_jobs.errors import InvalidInput, Reason


@dataclass(frozen=True)
class Storage:
    """How a tensor's numbers are stored; `id` is ggml's."""

    name: str
    id: int
    block: int
    """How many numbers share a block."""
    block_bytes: int

    @property
    def bits(self) -> float:
        """Per number."""
        return 8 * self.block_bytes / self.block


_STORAGES = (
    Storage("F32", 0, 1, 4),
    Storage("F16", 1, 1, 2),
    Storage("Q4_0", 2, 32, 18),
    Storage("Q4_1", 3, 32, 20),
    Storage("Q5_0", 6, 32, 22),
    Storage("Q5_1", 7, 32, 24),
    Storage("Q8_0", 8, 32, 34),
    Storage("Q2_K", 10, 256, 84),
    Storage("Q3_K", 11, 256, 110),
    Storage("Q4_K", 12, 256, 144),
    Storage("Q5_K", 13, 256, 176),
    Storage("Q6_K", 14, 256, 210),
    Storage("BF16", 30, 1, 2),
)
STORAGE = {storage.name: storage for storage in _STORAGES}
STORAGE_BY_ID = {storage.id: storage for storage in _STORAGES}
FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What is stored where rows are no multiple of 256. Source: tensor_type_fallback."""
FALLBACK_BLOCK = 32


@dataclass(frozen=True)
class FileType:
    name: str
    storage: str
    """Of most weights."""
    quantized: bool = True
    """By llama-quantize; the converter writes the others itself."""


TYPES = {
    found.name: found
    for found in (
        FileType("Q2_K", "Q2_K"),
        FileType("Q4_0", "Q4_0"),
        FileType("Q4_K_M", "Q4_K"),
        FileType("Q5_K_M", "Q5_K"),
        FileType("Q8_0", "Q8_0"),
        FileType("F16", "F16", quantized=False),
        FileType("BF16", "BF16", quantized=False),
    )
}
DEFAULT_TYPE = "Q4_K_M"


@dataclass(frozen=True)
class Weight:
    """A tensor of a GGUF file or of a checkpoint; `shape` has the width of a row last."""

    name: str
    shape: tuple[int, ...]

    @property
    def columns(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class GgufArchitecture:
    """What the mixtures depend on, in GGUF's words."""

    name: str
    layers: int
    heads: int
    key_value_heads: int
    experts: int = 0

    @property
    def is_70b(self) -> bool:
        """Source: load_arch_hparams of the models in src/models; llama of 80 layers without groups is the 65B."""
        grouped = self.heads != self.key_value_heads
        return self.layers == 80 and (grouped or self.name != "llama") and self.name in _WITH_70B

    @property
    def queries_per_key(self) -> int:
        return self.heads // self.key_value_heads if self.key_value_heads else 0


_WITH_70B = {"llama", "qwen2", "deci", "olmo", "olmo2"}


def file_type(name: str) -> FileType:
    """Raises InvalidInput (UnknownType) that lists those there are."""
    if name not in TYPES:
        raise InvalidInput(
            Reason.UNKNOWN_TYPE, f'"{name[:100]}" is no GGUF type that is made here: write one of {", ".join(TYPES)}'
        )
    return TYPES[name]


def stored_bytes(weight: Weight, storage: Storage) -> int:
    """A tensor's size in the file, without what aligns it."""
    return weight.elements // storage.block * storage.block_bytes


def wanted(
    weights: Iterable[Weight], architecture: GgufArchitecture, type: FileType, *, importance: bool = False
) -> dict[str, str]:
    """What the type stores each quantized tensor of a GGUF file as, if its rows suit. Other tensors are left out."""
    quantized = sorted(
        (each for each in weights if is_quantized(each)), key=lambda each: (_layer(each.name), each.name)
    )
    mixture = _Mixture(architecture, type, importance, quantized)
    return {each.name: mixture.storage(each) for each in quantized}


def stored(weight: Weight, asked: str) -> str:
    """What becomes of a tensor that should be stored as `asked`: that, or what its rows fall back to."""
    if weight.columns % STORAGE[asked].block == 0:
        return asked
    found = FALLBACKS.get(asked, asked)
    return found if weight.columns % STORAGE[found].block == 0 else "F16"


def is_quantized(weight: Weight) -> bool:
    """Source: tensor_allows_quantization."""
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
_ATTENTION_VALUES = ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")
_OUTPUT = "output.weight"
_EMBEDDING = ("token_embd.weight", "per_layer_token_embd.weight")


class _Mixture:
    """Source: llama_tensor_get_type_impl."""

    def __init__(
        self, architecture: GgufArchitecture, type: FileType, importance: bool, quantized: Sequence[Weight]
    ) -> None:
        names = [each.name for each in quantized]
        self._architecture = architecture
        self._type = type
        self._importance = importance
        self._tied = _OUTPUT not in names
        self._values = [name for name in names if name.endswith(_ATTENTION_VALUES)]

    def storage(self, weight: Weight) -> str:
        name, asked, falcon = weight.name, self._type.storage, self._architecture.name == "falcon"
        if name == _OUTPUT or (self._tied and name in _EMBEDDING):
            return "Q8_0" if asked == "Q8_0" or falcon else "Q6_K"
        if name in _EMBEDDING:
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
        found = self._type.storage
        if self._type.name == "Q2_K":
            found = "Q4_K" if self._architecture.queries_per_key >= 4 else "Q3_K"
        elif self._type.name in ("Q4_K_M", "Q5_K_M") and _more_bits(self._values.index(name), len(self._values)):
            found = "Q6_K"
        return "Q5_K" if self._architecture.is_70b and found in ("Q3_K", "Q4_K") else found

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


def fallback_notes(type: FileType, weights: Mapping[str, Weight], asked: Mapping[str, str]) -> tuple[str, ...]:
    """Sentences on the tensors that the type cannot store as it should; none when it can."""
    fallen = [(each, asked[name]) for name, each in weights.items() if name in asked and not _suits(each, asked[name])]
    layers = [(each, storage) for each, storage in fallen if each.name not in (_OUTPUT, *_EMBEDDING)]
    ends = [(each, storage) for each, storage in fallen if each.name in (_OUTPUT, *_EMBEDDING)]
    notes = []
    if layers:
        kinds = Counter(f"{storage} to {stored(each, storage)}" for each, storage in layers)
        what = " and ".join(f"{count} from {kind}" for kind, count in kinds.most_common())
        notes.append(
            f"{type.name}: {len(layers)} of {len(weights)} tensors fell back to another type, since "
            f"{_widths(each for each, _ in layers)}: {what} ({_short_names(each.name for each, _ in layers)})"
        )
    notes += [
        f"{type.name}: {each.name} is {stored(each, storage)}, not {storage}, since {_widths([each])}"
        for each, storage in ends
    ]
    return tuple(notes)


def fallen_back(weights: Mapping[str, Weight], asked: Mapping[str, str]) -> int:
    """How many tensors of layers the type cannot store as it should."""
    ends = (_OUTPUT, *_EMBEDDING)
    return sum(name in asked and name not in ends and not _suits(each, asked[name]) for name, each in weights.items())


def _suits(weight: Weight, asked: str) -> bool:
    return weight.columns % STORAGE[asked].block == 0


def _widths(weights: Iterable[Weight]) -> str:
    found = sorted({each.columns for each in weights})
    shown = f"{', '.join(map(str, found[:-1]))} and {found[-1]}" if len(found) > 1 else str(found[0])
    small = all(columns % FALLBACK_BLOCK for columns in found)
    multiple = f"multiple{'s' if len(found) > 1 else ''} of {FALLBACK_BLOCK if small else 256}"
    return f"their {shown} columns are no {multiple}" if len(found) > 1 else f"{shown} columns are no {multiple}"


def _short_names(names: Iterable[str]) -> str:
    """`blk.7.attn_q.weight` is attn_q."""
    return ", ".join(sorted({name.removesuffix(".weight").split(".", 2)[-1] for name in names}))


_KEPT_IN_CHECKPOINTS = ("norm", "router", "mlp.gate.weight", "block_sparse_moe.gate.weight", "conv1d", "rotary")


def refuse_unsuitable(what: str, type: FileType, checkpoint: Iterable[Weight]) -> None:
    """Under strict, from a checkpoint's headers alone, before anything is converted.

    Raises InvalidInput (UnsuitableWidths) when weights have rows that the type cannot store in its own blocks.
    """
    block = STORAGE[type.storage].block
    weights = [
        each
        for each in checkpoint
        if len(each.shape) >= 2
        and each.name.endswith("weight")
        and not any(part in each.name for part in _KEPT_IN_CHECKPOINTS)
    ]
    unsuitable = [each for each in weights if each.columns % block]
    if not unsuitable:
        return
    names = sorted({each.name.removesuffix(".weight").rpartition(".")[2] for each in unsuitable})
    widths = sorted({each.columns for each in unsuitable})
    fitting = [
        name
        for name, other in TYPES.items()
        if not any(each.columns % STORAGE[other.storage].block for each in weights)
    ]
    raise InvalidInput(
        Reason.UNSUITABLE_WIDTHS,
        f"{what}: {type.name} cannot store {len(unsuitable)} of {len(weights)} weights as it should, since their rows "
        f"of {', '.join(map(str, widths[:6]))} numbers are no multiples of {block} ({', '.join(names[:8])}): write "
        f"type {' or '.join(fitting)}, or leave strict out to have them fall back to larger types",
    )
