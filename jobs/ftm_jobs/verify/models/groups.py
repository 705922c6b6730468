"""Groups the models of a verification by the files that their tensors come from, and runs each group together."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.errors import Failed, Reason
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.runtime.caller import more_memory
from ftm_jobs.text.prompts import TokenizedQuestion
from ftm_jobs.verify.figures.model_names import ADAPTED, BASE, COARSE, MERGED, PLAIN, QUANTIZED, ROUNDED
from ftm_jobs.verify.model_folder import ModelFolder
from ftm_jobs.verify.models.adapted import (
    AdaptedModel,
    CoarselyMergedTensors,
    Compare,
    UnmergedLayers,
    UnmergedTensors,
    adapt,
)
from ftm_jobs.verify.models.answers import (
    MOST_TOKENS,
    MOST_TOKENS_LAYERWISE,
    Answer,
    WholeModel,
    answer,
    answer_layerwise,
)
from ftm_jobs.verify.models.bfloat16_products import multiply_in_fp32
from ftm_jobs.verify.models.devices import torch_device
from ftm_jobs.verify.models.layerwise import LayerwiseModel, Logits, NotStreamable, Tokens, WholeLogits, run
from ftm_jobs.verify.models.memory import free_memory, whole_bytes
from ftm_jobs.verify.models.plainly_rounded import GgufRounding, awq_rounding
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.awq_formats import DequantizedTensors, read_format
from ftm_jobs.verify.tensors.sources import SharedTensors, StoredTensors, TensorSource
from ftm_jobs.verify.yardsticks import gguf as gguf_yardsticks

OWN_ENGINE = "transformers, layer by layer, fp32"


@dataclass(frozen=True)
class ModelGroup:
    """Models whose tensors come from the same files."""

    stored: StoredTensors
    shared: SharedTensors
    """The same tensors, read once for all models."""
    models: Mapping[str, LayerwiseModel]

    @property
    def total_bytes(self) -> int:
        return sum(self.stored.bytes_by_name.values())

    def run(self, prompts: Sequence[Tokens], count: Callable[[int], None]) -> dict[str, Logits]:
        """Returns logits by model; `count` takes the bytes that are done with.

        A family that cannot be streamed is run with all weights in memory. Raises Failed (OutOfMemory) when it does
        not fit.
        """
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
                        f"{format_bytes(free)} are free: {more_memory()}",
                    ) from error
            return {name: WholeLogits(model, prompts) for name, model in self.models.items()}
        return dict(self.models)


@dataclass(frozen=True)
class BaseGroup:
    """The models that are made of the base's files: base, base+adapter and coarse."""

    group: ModelGroup
    adapters: AdaptedModel
    apart: frozenset[str]
    """Changed tensors that need none of the merge's formulae."""

    @property
    def through_merge(self) -> int:
        """Returns how many changed tensors go through the merge's formulae."""
        return len(self.adapters.changed) - len(self.apart)


@dataclass(frozen=True)
class QuantizedGroups:
    """The models that a quantized artifact adds, and how it is measured."""

    groups: tuple[ModelGroup, ...]
    """The merged model with its yardstick; the quantized model, unless llama.cpp runs it."""
    yardstick: str
    """The plain rounding that the quantized model is held against, in words."""
    engine: str
    """Runs the quantized model."""
    notes: tuple[str, ...] = ()


def base_group(
    inputs: Inputs, stored: StoredTensors, folder: Path, edited: Path, compare: Compare | None = None
) -> BaseGroup:
    """Groups what is made of the base's files.

    `folder` holds the base's config, `edited` the same as the adapters change it. `compare` sees each merged tensor
    as it is computed here.
    """
    adapters, shared = adapt(inputs), SharedTensors(stored)
    skeleton = _skeleton(edited, adapters.by_name)
    apart = adapters.apart(skeleton)
    coarse = CoarselyMergedTensors(shared, adapters, compare)
    models = {
        BASE: LayerwiseModel(_skeleton(folder, stored.names), shared),
        ADAPTED: LayerwiseModel(
            skeleton, UnmergedTensors(shared, adapters, apart), UnmergedLayers(adapters, apart).attach
        ),
        COARSE: LayerwiseModel(_skeleton(edited, coarse.names), coarse),
    }
    return BaseGroup(ModelGroup(stored, shared, models), adapters, apart)


def merged_group(merged: ModelFolder) -> ModelGroup:
    """Groups the merged model with itself as engines round it."""
    group = _merged_alone(merged)
    return _with(group, ROUNDED, _as_engines_round(merged.local, group.shared))


def awq_groups(merged: ModelFolder, quantized: ModelFolder) -> QuantizedGroups:
    """Groups the merged model with its plain rounding, and the AWQ model, dequantized."""
    packing = read_format(quantized.uri, quantized.quantization)
    stored, shared = _tensors(quantized)
    source = DequantizedTensors(shared, packing)
    models = {
        QUANTIZED: LayerwiseModel(_skeleton(quantized.local, source.names), source),
        ROUNDED: _as_engines_round(quantized.local, source),
    }
    group = ModelGroup(stored, shared, models)
    of_merged = _merged_alone(merged)
    plain = awq_rounding(of_merged.shared, source.quantized, packing.bits, packing.group_size)
    width = f"groups of {packing.group_size}" if packing.group_size > 0 else "a group per row"
    rounded = LayerwiseModel(_skeleton(merged.local, plain.names), plain)
    return QuantizedGroups((_with(of_merged, PLAIN, rounded), group), f"{packing.bits} bit in {width}", OWN_ENGINE)


def gguf_groups(merged: ModelFolder, path: Path) -> QuantizedGroups:
    """Groups the merged model with its plain rounding; the GGUF model at `path` is llama.cpp's to run."""
    from ftm_jobs.verify.models.gguf import ENGINE, kinds_of, tensor_kinds

    of_merged = _merged_alone(merged)
    model = of_merged.models[MERGED]
    kinds = kinds_of(path, model.source.names, model.layers)
    rounding = GgufRounding(kinds, str(merged.config.get("model_type", "")))
    plain = rounding.tensors(of_merged.shared)
    rounded = LayerwiseModel(_skeleton(merged.local, plain.names), plain, rounding.attach)
    inputs = LayerwiseModel(
        _skeleton(merged.local, of_merged.shared.names), of_merged.shared, rounding.attach_as_engine
    )
    types = gguf_yardsticks.describe(tensor_kinds(path).values())
    return QuantizedGroups(
        (_with(_with(of_merged, PLAIN, rounded), ROUNDED, inputs),),
        f"tensor by tensor, {gguf_yardsticks.describe_yardsticks(kinds.values())}",
        ENGINE,
        (f"the GGUF file's tensors are {types}",),
    )


def answers_of(
    model: LayerwiseModel, shared: SharedTensors, asked: Sequence[TokenizedQuestion], ends: Collection[int]
) -> tuple[list[Answer], bool]:
    """Returns the model's answers, and whether it was whole in memory."""
    if whole_bytes(model) <= free_memory():
        with model.whole() as whole:
            return answer(WholeModel(whole, model.skeleton.device), asked, ends, MOST_TOKENS), True
    return answer_layerwise(model, shared, asked, ends, MOST_TOKENS_LAYERWISE), False


def _tensors(folder: ModelFolder) -> tuple[StoredTensors, SharedTensors]:
    assert folder.tensors
    return folder.tensors, SharedTensors(folder.tensors)


def _merged_alone(merged: ModelFolder) -> ModelGroup:
    stored, shared = _tensors(merged)
    return ModelGroup(stored, shared, {MERGED: LayerwiseModel(_skeleton(merged.local, shared.names), shared)})


def _as_engines_round(folder: Path, source: TensorSource) -> LayerwiseModel:
    """Returns the model computed in bfloat16, weights and all that passes between its modules."""
    skeleton = Skeleton(folder, source.names, torch_device(), torch.bfloat16)
    if skeleton.device == "cpu":
        multiply_in_fp32(skeleton.model)
    return LayerwiseModel(skeleton, source)


def _with(group: ModelGroup, name: str, model: LayerwiseModel) -> ModelGroup:
    return ModelGroup(group.stored, group.shared, {**group.models, name: model})


def _skeleton(folder: Path, names: Collection[str]) -> Skeleton:
    return Skeleton(folder, names, torch_device())
