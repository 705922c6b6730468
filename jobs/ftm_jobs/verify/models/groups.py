"""The models of a verification, and how each is run: from safetensors layer by layer, or by llama.cpp.

base       as it is stored
adapted    base+adapter as it was trained: the reference for the merge
coarse     merged, with a bit less per changed weight than a merge keeps: what rounding explains
merged     the merged artifact: the reference for what is quantized
plain      merged, plainly rounded as the quantized model is: the yardstick
quantized  the quantized artifact, dequantized or in its engine
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.errors import Failed, Reason
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.runtime.limits import processors
from ftm_jobs.text.prompts import TokenizedQuestion
from ftm_jobs.verify.model_folder import ModelFolder
from ftm_jobs.verify.models.adapted import (
    AdaptedModel,
    CoarselyMergedTensors,
    Compare,
    UnmergedLayers,
    UnmergedTensors,
    adapted,
)
from ftm_jobs.verify.models.answers import (
    MOST_TOKENS,
    MOST_TOKENS_LAYERWISE,
    Answer,
    WholeModel,
    answer,
    answer_layerwise,
    free_memory,
)
from ftm_jobs.verify.models.layerwise import LayerwiseModel, Logits, NotStreamable, Tokens, WholeLogits, run
from ftm_jobs.verify.models.plainly_rounded import GgufRounding, awq_rounding
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.awq_formats import DequantizedTensors, read_format
from ftm_jobs.verify.tensors.sources import SharedTensors, StoredTensors
from ftm_jobs.verify.yardsticks import gguf as gguf_yardsticks

BASE, ADAPTED, COARSE, MERGED, PLAIN, QUANTIZED = "base", "base+adapter", "coarse", "merged", "plain", "quantized"
WORKING_BYTES = 512 * 1024 * 1024
"""What running a model takes beside its weights, at least."""


@dataclass
class ModelGroup:
    """Models whose tensors come from the same files."""

    stored: StoredTensors
    models: dict[str, LayerwiseModel] = field(default_factory=dict)
    shared: SharedTensors = field(init=False)

    def __post_init__(self) -> None:
        self.shared = SharedTensors(self.stored)

    @property
    def total_bytes(self) -> int:
        return sum(self.stored.bytes_by_name.values())

    def run(self, prompts: Sequence[Tokens], count: Callable[[int], None]) -> dict[str, Logits]:
        """Logits by model; of a family that cannot be streamed, with all weights in memory if they fit."""
        sizes = self.stored.bytes_by_name
        try:
            run(
                list(self.models.values()),
                prompts,
                self.shared,
                lambda names: count(sum(sizes.get(name, 0) for name in names)),
            )
        except NotStreamable as error:
            for model in self.models.values():
                need, free = 2 * whole_bytes(model), free_memory()
                if need > free:
                    raise Failed(
                        Reason.OUT_OF_MEMORY,
                        f"{error.message}, which takes {format_bytes(need)} for two models beside each other, but "
                        f"{format_bytes(free)} are free: give the Job more (spec.jobs.resources)",
                    ) from error
            return {name: WholeLogits(model, prompts) for name, model in self.models.items()}
        return dict(self.models)


def torch_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def cores() -> int:
    """How many threads compute: OMP_NUM_THREADS, else the machine's or the container's share of it."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or processors()))


def of_base(
    inputs: Inputs, stored: StoredTensors, folder: Path, edited: Path, compare: Compare | None = None
) -> tuple[ModelGroup, AdaptedModel, frozenset[str]]:
    """`folder` holds the base's config, `edited` the same as the adapters change it. Also: what needs no merge code.

    `compare` sees each merged tensor as it is computed here.
    """
    group = ModelGroup(stored)
    adapters = adapted(inputs)
    skeleton = _skeleton(edited, adapters.by_name)
    apart = adapters.apart(skeleton)
    group.models[BASE] = LayerwiseModel(_skeleton(folder, stored.names), group.shared)
    group.models[ADAPTED] = LayerwiseModel(
        skeleton, UnmergedTensors(group.shared, adapters, apart), UnmergedLayers(adapters, apart).attach
    )
    coarse = CoarselyMergedTensors(group.shared, adapters, compare)
    group.models[COARSE] = LayerwiseModel(_skeleton(edited, coarse.names), coarse)
    return group, adapters, apart


def of_merged(merged: ModelFolder) -> ModelGroup:
    assert merged.tensors
    group = ModelGroup(merged.tensors)
    group.models[MERGED] = LayerwiseModel(_skeleton(merged.local, group.shared.names), group.shared)
    return group


def add_awq(merged: ModelFolder, merged_group: ModelGroup, quantized: ModelFolder) -> tuple[ModelGroup, str]:
    """The dequantized model's group; and in words, what plain rounding it is held against."""
    assert quantized.tensors
    found = read_format(quantized.uri, quantized.quantization)
    group = ModelGroup(quantized.tensors)
    source = DequantizedTensors(group.shared, found)
    group.models[QUANTIZED] = LayerwiseModel(_skeleton(quantized.local, source.names), source)
    plain = awq_rounding(merged_group.shared, source.quantized, found.bits, found.group_size)
    merged_group.models[PLAIN] = LayerwiseModel(_skeleton(merged.local, plain.names), plain)
    width = f"groups of {found.group_size}" if found.group_size > 0 else "a group per row"
    return group, f"{found.bits} bit in {width}"


def add_gguf(merged: ModelFolder, merged_group: ModelGroup, path: Path) -> tuple[str, str]:
    """In words: what plain rounding the GGUF model is held against, and what types its tensors have."""
    from ftm_jobs.verify.models.gguf import kinds_of, tensor_kinds

    model = merged_group.models[MERGED]
    kinds = kinds_of(path, model.source.names, model.layers)
    rule = GgufRounding(kinds, str(merged.config.get("model_type", "")))
    plain = rule.tensors(merged_group.shared)
    merged_group.models[PLAIN] = LayerwiseModel(_skeleton(merged.local, plain.names), plain, rule.attach)
    types = gguf_yardsticks.describe(tensor_kinds(path).values())
    return f"tensor by tensor, {gguf_yardsticks.describe_yardsticks(kinds.values())}", types


def whole_bytes(model: LayerwiseModel) -> int:
    """In fp32."""
    numbers: int = sum(parameter.numel() for parameter in model.skeleton.model.parameters())
    return 4 * numbers + WORKING_BYTES


def answers_of(
    model: LayerwiseModel, shared: SharedTensors, asked: Sequence[TokenizedQuestion], ends: Collection[int]
) -> tuple[list[Answer], bool]:
    """And whether the model was whole in memory."""
    if whole_bytes(model) <= free_memory():
        with model.whole() as whole:
            return answer(WholeModel(whole, model.skeleton.device), asked, ends, MOST_TOKENS), True
    return answer_layerwise(model, shared, asked, ends, MOST_TOKENS_LAYERWISE), False


@contextmanager
def gguf_logits(path: Path, prompts: Sequence[Tokens], room: int) -> Iterator[Any]:
    from ftm_jobs.verify.models.gguf import GgufModel

    model = GgufModel(path, prompts, cores(), room)
    try:
        yield model
    finally:
        model.close()


def _skeleton(folder: Path, names: Collection[str]) -> Skeleton:
    return Skeleton(folder, names, torch_device())
