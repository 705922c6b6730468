"""Predicts the tensors that fall back to another storage, and tells people of them.

A weight whose rows are no multiple of 256 cannot be stored as a K type. It falls back to a type with blocks of 32, and
below that to F16; llama.cpp says so in one line of its log and goes on.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.gguf.file_types import STORAGE, TYPES, FileType, Weight
from ftm_jobs.quantize.gguf.mixture import EMBEDDINGS, OUTPUT

FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Types for rows that are no multiple of 256. Source: tensor_type_fallback."""
FALLBACK_BLOCK = 32


def fallback_storage(weight: Weight, asked: str) -> str:
    """Returns the storage of a tensor that should be stored as `asked`: that, or the one its rows fall back to."""
    if _suits(weight, asked):
        return asked
    smaller = FALLBACKS.get(asked, asked)
    return smaller if weight.columns % STORAGE[smaller].block == 0 else "F16"


def fallback_notes(type: FileType, weights: Mapping[str, Weight], asked: Mapping[str, str]) -> tuple[str, ...]:
    """Returns sentences on the tensors that the type cannot store as it should; none when it can."""
    fallen = [(each, asked[name]) for name, each in weights.items() if name in asked and not _suits(each, asked[name])]
    layers = [(each, storage) for each, storage in fallen if each.name not in (OUTPUT, *EMBEDDINGS)]
    ends = [(each, storage) for each, storage in fallen if each.name in (OUTPUT, *EMBEDDINGS)]
    notes = []
    if layers:
        kinds = Counter(f"{storage} to {fallback_storage(each, storage)}" for each, storage in layers)
        counts = " and ".join(f"{count} from {kind}" for kind, count in kinds.most_common())
        notes.append(
            f"{type.name}: {len(layers)} of {len(weights)} tensors fell back to another type, since "
            f"{_widths(each for each, _ in layers)}: {counts} ({_short_names(each.name for each, _ in layers)})"
        )
    notes += [
        f"{type.name}: {each.name} is {fallback_storage(each, storage)}, not {storage}, since {_widths([each])}"
        for each, storage in ends
    ]
    return tuple(notes)


def fallen_back(weights: Mapping[str, Weight], asked: Mapping[str, str]) -> int:
    """Counts the tensors of layers that the type cannot store as it should."""
    ends = (OUTPUT, *EMBEDDINGS)
    return sum(name in asked and name not in ends and not _suits(each, asked[name]) for name, each in weights.items())


def _suits(weight: Weight, asked: str) -> bool:
    return weight.columns % STORAGE[asked].block == 0


def _widths(weights: Iterable[Weight]) -> str:
    widths = sorted({each.columns for each in weights})
    shown = f"{', '.join(map(str, widths[:-1]))} and {widths[-1]}" if len(widths) > 1 else str(widths[0])
    small = all(columns % FALLBACK_BLOCK for columns in widths)
    multiple = f"multiple{'s' if len(widths) > 1 else ''} of {FALLBACK_BLOCK if small else 256}"
    return f"their {shown} columns are no {multiple}" if len(widths) > 1 else f"{shown} columns are no {multiple}"


def _short_names(names: Iterable[str]) -> str:
    """Returns names without blocks and suffix: `blk.7.attn_q.weight` is attn_q."""
    return ", ".join(sorted({name.removesuffix(".weight").split(".", 2)[-1] for name in names}))


_KEPT_IN_CHECKPOINTS = ("norm", "router", "mlp.gate.weight", "block_sparse_moe.gate.weight", "conv1d", "rotary")


def refuse_unsuitable(label: str, type: FileType, checkpoint: Iterable[Weight]) -> None:
    """Refuses, under strict, a checkpoint by its headers alone, before anything is converted.

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
        f"{label}: {type.name} cannot store {len(unsuitable)} of {len(weights)} weights as it should, since their rows "
        f"of {', '.join(map(str, widths[:6]))} numbers are no multiples of {block} ({', '.join(names[:8])}): write "
        f"type {' or '.join(fitting)}, or leave strict out to have them fall back to larger types",
    )
