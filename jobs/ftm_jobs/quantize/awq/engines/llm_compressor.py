"""Quantizes by llm-compressor: newer architectures, in the compressed-tensors format that vLLM reads as well.

Its search runs block by block on an accelerator; the model itself is in main memory. What is mended:

- It scales layers of architectures that it does not know, and of some that it does, so that the scales do not cancel:
  it is told which to scale (scalings.py), in the language model alone; encoders stay as they are.
- It adds 1 to the weights of norms that are stored without, as Gemma's are, and takes it off again, in 16 bits, so
  that all of them lose digits: those that are not scaled are put back.
- It names experts in its own way, which no engine would look for: they get the names they had, and no file leaves
  here whose tensors are not those of the model.
- Without an accelerator it pins memory all the same, which raises: pinning is left out there.
- transformers saves config.json anew. Only its quantization_config is taken; the caller edits the model's own file.
- An MLP that must be padded is padded in a copy of the weight files, which is what is loaded.

Nothing is downloaded: the model is a folder, the calibration text is token numbers.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressed_tensors.offload import update_offload_parameter
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modeling.moe.linearize import linearize_moe
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQ_MAPPING_REGISTRY, AWQMapping, AWQModifier, default_mappings
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.core_model_loading import WeightRenaming

from ftm_jobs.checkpoint.configs import CONFIG_FILE
from ftm_jobs.checkpoint.output_layout import OutputTensor
from ftm_jobs.checkpoint.tensor_groups import is_beyond
from ftm_jobs.contract.facts import ENCODERS
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.awq.engines.engine_run import EngineRun
from ftm_jobs.quantize.awq.engines.llm_compressor_patches import errors_alone, without_pinned_memory
from ftm_jobs.quantize.awq.engines.tensor_files import PaddedWeights, TensorWriter
from ftm_jobs.quantize.awq.layout import AwqLayout
from ftm_jobs.quantize.awq.scalings import KNOWN, PROVEN, Scaling, proven_by_names
from ftm_jobs.quantize.awq.settings import BITS

IGNORED = [
    "lm_head",
    r"re:.*\.gate$",
    r"re:.*router$",
    r"re:.*shared_expert_gate$",
    rf"re:(?:.*\.)?(?:{'|'.join(ENCODERS)})[^.]*(?:\..*)?$",
]
PARTS = (".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape")
EXPERTS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
"""llm-compressor's names for the layers of an expert, by those that some checkpoints have."""


def quantize_weights(run: EngineRun) -> dict[str, Any]:
    """Writes the quantized weight files, and returns the quantization_config that belongs to them.

    Raises InvalidInput (UnsupportedModel) for an architecture that transformers or llm-compressor does not know, and
    where there is nothing to scale.
    """
    with tempfile.TemporaryDirectory(dir=run.out.parent) as temporary, errors_alone(), without_pinned_memory():
        folder = Path(temporary)
        source = _padded_copy(run, folder / "padded") if run.layout.padded else run.model
        loaded = load(source, run.config)
        quantize(loaded, run.model, run.layout.group_size, run.blocks, symmetric=not run.settings.zero_point)
        saved = folder / "saved"
        _name_experts(loaded, run.layout)
        loaded.save_pretrained(saved, save_compressed=True)
        _check_names(loaded, PaddedWeights(run.model, run.files, run.layout), saved, run.layout)
        for path in sorted(saved.glob("*.safetensors*")):
            shutil.move(path, run.out / path.name)
            (run.out / path.name).chmod(0o644)
        written: dict[str, Any] = json.loads((saved / CONFIG_FILE).read_text())["quantization_config"]
    return written


def quantize(model: Any, folder: Path, group_size: int, blocks: list[list[int]], *, symmetric: bool) -> None:
    """Scales and rounds the model in memory. Raises InvalidInput (UnsupportedModel)."""
    tokenizer: Any = PreTrainedTokenizerFast
    settings = {
        "num_bits": BITS,
        "type": "int",
        "symmetric": symmetric,
        "strategy": "group",
        "group_size": group_size,
        "dynamic": False,
    }
    groups = {"group_0": {"targets": ["Linear"], "weights": settings}}
    mappings = _mappings(model)
    vectors = {name: each.detach().clone() for name, each in model.named_parameters() if each.dim() == 1}
    recipe = [
        AWQModifier(duo_scaling="both", mappings=mappings),
        QuantizationModifier(config_groups=groups, ignore=IGNORED),
    ]
    try:
        oneshot(
            model=model,
            processor=tokenizer(tokenizer_file=str(folder / "tokenizer.json")),
            dataset=Dataset.from_dict({"input_ids": blocks, "attention_mask": [[1] * len(ids) for ids in blocks]}),
            recipe=recipe,
            num_calibration_samples=len(blocks),
            max_seq_length=max(map(len, blocks)),
            shuffle_calibration_samples=False,
        )
    except ValueError as error:
        raise _unsupported(f"llm-compressor cannot work on the model ({_line(error)})") from error
    scaled = [re.compile(each.smooth_layer.removeprefix("re:")) for each in mappings]
    for name, vector in vectors.items():
        module, _, parameter = name.rpartition(".")
        if not any(pattern.match(module) for pattern in scaled):
            update_offload_parameter(model.get_submodule(module), parameter, vector)


def _mappings(model: Any) -> list[AWQMapping]:
    """Returns the layers that AWQ scales. Raises InvalidInput (UnsupportedModel) where there are none."""
    names = {module: name for name, module in model.named_modules()}
    decoder: str = names[model.get_decoder()]
    alone = type(model.get_decoder()).__name__.removesuffix("Model") + "ForCausalLM"
    scalings = _listed_scalings(type(model).__name__) or _listed_scalings(alone)
    if not scalings:
        inside = {name: module for module, name in names.items() if name.startswith(f"{decoder}." if decoder else "")}
        linears = {name: module for name, module in inside.items() if isinstance(module, nn.Linear)}
        shapes = {name: (each.out_features, each.in_features) for name, each in linears.items()}
        scalings = proven_by_names(shapes, inside.keys() - linears.keys())
    if not scalings:
        raise _unsupported(f"AWQ finds nothing to scale in a {type(model).__name__}, and would only round it")
    scoped = [scaling.within(decoder) for scaling in scalings]
    return [AWQMapping(each.smoothed, list(each.balanced)) for each in scoped]


def _listed_scalings(class_name: str) -> tuple[Scaling, ...]:
    """Returns the scalings that are listed for a class of transformers; none for a class that is not listed."""
    if class_name not in PROVEN:
        return KNOWN.get(class_name, ())
    theirs = AWQ_MAPPING_REGISTRY.get(class_name, default_mappings)
    return tuple(Scaling(each.smooth_layer, tuple(each.balance_layers)) for each in theirs)


def _name_experts(model: Any, layout: AwqLayout) -> None:
    """Saves experts under the names that the model's own files have for them."""
    roles = {linear.role for linear in layout.linears}
    model._weight_conversions = [
        *(getattr(model, "_weight_conversions", None) or []),
        *(
            WeightRenaming(rf"\.experts\.(\d+)\.{own}\.", rf".experts.\1.{name}.")
            for own, name in EXPERTS.items()
            if own in roles
        ),
    ]


def _check_names(loaded: Any, model: PaddedWeights, saved: Path, layout: AwqLayout) -> None:
    """Raises InvalidInput (UnsupportedModel) naming a tensor that was not written, or that the model does not have.

    transformers may leave out constants that old checkpoints hold, an output layer beside the embedding that it is
    tied to, and layers beyond the decoder's.
    """
    files = sorted(path.name for path in saved.glob("*.safetensors"))
    written = set(PaddedWeights(saved, files, layout).names())
    quantized = {f"{linear.name}{part}" for linear in layout.linears for part in PARTS[:2]}
    whole = {*model.names()} - {f"{linear.name}.weight" for linear in layout.linears}
    text = loaded.config.get_text_config()
    whole -= {
        name
        for name in whole - written
        if is_beyond(name, text.num_hidden_layers)
        or name.endswith(".rotary_emb.inv_freq")
        or (text.tie_word_embeddings and name.endswith("lm_head.weight"))
    }
    extra = {f"{linear.name}{part}" for linear in layout.linears for part in PARTS[2:]}
    wrong = sorted(((quantized | whole) - written) | (written - quantized - whole - extra))
    if wrong:
        raise _unsupported(f'llm-compressor gives the model other tensors than it has ("{wrong[0]}")')


def load(source: Path, config: Mapping[str, Any]) -> Any:
    """Returns the model in main memory, each expert as layers of its own. Raises InvalidInput (UnsupportedModel)."""
    auto: Any = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
    try:
        model, loading = auto.from_pretrained(
            source, dtype="auto", trust_remote_code=False, local_files_only=True, output_loading_info=True
        )
    except (ValueError, KeyError) as error:
        raise _unsupported(f"transformers beside llm-compressor cannot load the model ({_line(error)})") from error
    layers = model.config.get_text_config().num_hidden_layers
    unexpected = [name for name in loading["unexpected_keys"] if not is_beyond(name, layers)]
    wrong = [*loading["missing_keys"], *unexpected, *loading["mismatched_keys"]]
    if wrong:
        raise _unsupported(
            f'transformers beside llm-compressor knows a model of other tensors ("{min(map(str, wrong))}")'
        )
    linearize_moe(model)
    return model


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _unsupported(label: str) -> InvalidInput:
    return InvalidInput(Reason.UNSUPPORTED_MODEL, f"{label}: write quantization.method: GGUF or None")


def _padded_copy(run: EngineRun, folder: Path) -> Path:
    """Writes the model into `folder` with its MLP padded, and returns the folder."""
    folder.mkdir()
    weights = PaddedWeights(run.model, run.files, run.layout)
    planned = [OutputTensor(name, weights.dtype(name), weights.shape(name), None) for name in weights.names()]
    with TensorWriter(folder, planned) as files:
        for name in weights.names():
            files.write({name: weights.read(name)})
    (folder / CONFIG_FILE).write_text(json.dumps(dict(run.config)))
    return folder
