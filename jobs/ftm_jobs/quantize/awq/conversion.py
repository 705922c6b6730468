"""A merged model as a 4-bit AWQ model for vLLM, by one of two engines, each in an image of its own.

engine autoawq          AutoAWQ 0.2.9's search; output "awq", version GEMM (engines/autoawq.py)
engine llm-compressor   llm-compressor's; output "compressed-tensors", pack-quantized (engines/llm_compressor.py)

Both give vLLM the merged model's own config.json with a quantization_config, and its other files byte for byte: what
another version of transformers writes anew loses what that version does not know. Calibration text comes in as
samples; nothing is downloaded.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_base_config, parse_json
from ftm_jobs.checkpoint.headers import Header, Tensor
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.stored_model import StoredModel
from ftm_jobs.checkpoint.weight_files import read_weight_files
from ftm_jobs.contract.awq import AUTOAWQ_MODEL_TYPES
from ftm_jobs.contract.keys import AWQ_RECIPE, awq_key
from ftm_jobs.contract.manifest import MANIFEST_NAME, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.quantize.artifact import Method, Quantized, quantize
from ftm_jobs.quantize.awq.configs import quantized_config, with_widths
from ftm_jobs.quantize.awq.layout import GROUP_SIZES, AwqLayout, block_of, plan_layout
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source
from ftm_jobs.text.calibration import BUNDLED_FILE, load_calibration
from ftm_jobs.text.chat_template import load_template, render
from ftm_jobs.text.token_blocks import token_blocks

BITS = 4
FP32_BYTES = 4
LIBRARIES_BYTES = 1_500_000_000
BLOCK_COPIES = 6
"""Of a block in fp32 while its scales are searched: the block, its originals, a candidate and its rounding."""


class AwqEngine(StrEnum):
    AUTOAWQ = "autoawq"
    LLM_COMPRESSOR = "llm-compressor"


PACKAGES = {AwqEngine.AUTOAWQ: "autoawq", AwqEngine.LLM_COMPRESSOR: "llmcompressor"}


@dataclass(frozen=True)
class AwqSettings:
    bits: int = BITS
    group_size: int = GROUP_SIZES[0]
    """The largest to use: it falls back where the model's shapes forbid it."""
    zero_point: bool = True
    engine: AwqEngine = AwqEngine.AUTOAWQ
    tensor_parallel: tuple[int, ...] = (1,)
    """Sizes that the result is to be served with."""
    apply_clip: bool = True
    """Also search for the largest magnitude of each group."""
    sequence_length: int = 512
    """Tokens of a block of calibration text."""
    sequences: int = 128
    """The most blocks to use."""


def awq(model: Source, artifacts: Source, settings: AwqSettings, calibration: Source | None = None) -> Report:
    """The model as an AWQ artifact. Raises InvalidInput and Failed; then nothing under the key looks complete."""
    _check_settings(settings)
    sampled = load_calibration(calibration)

    def convert(folder: Path, out: Path) -> Quantized:
        return quantize_awq(folder, out, settings, render(sampled.fitted, load_template(folder)))

    return quantize(
        model,
        artifacts,
        Method(
            recipe=AWQ_RECIPE,
            key=lambda key: awq_key(
                key,
                settings.bits,
                settings.group_size,
                settings.zero_point,
                settings.engine.value,
                sampled.digest,
                settings.tensor_parallel,
            ),
            convert=convert,
            check=lambda opened: _check_model(opened, settings),
            disk_bytes=lambda opened: (2 if settings.engine is AwqEngine.LLM_COMPRESSOR else 1) * opened.total_bytes,
            memory_bytes=lambda opened: memory_bytes(opened, settings),
            inputs=(ManifestInput(role="calibration", uri=sampled.uri or BUNDLED_FILE, digest=sampled.digest),),
            tools=tools(settings.engine),
        ),
    )


def _check_model(model: StoredModel, settings: AwqSettings) -> None:
    _check_engine(settings.engine, model.config.content)
    plan_layout(model.config.content, _shapes(model.headers), settings.group_size, settings.tensor_parallel)


def memory_bytes(model: StoredModel, settings: AwqSettings) -> int:
    """Roughly what quantizing needs at most, besides the files' pages that the system may drop."""
    if settings.engine is AwqEngine.LLM_COMPRESSOR:
        return LIBRARIES_BYTES + 2 * model.weight_bytes
    blocks = [sum(tensor.elements for tensor in group) for group in _blocks(model.headers).values()]
    config = model.config
    widths = 8 * config.hidden_size + 3 * (config.intermediate_size or 4 * config.hidden_size)
    activations = settings.sequences * settings.sequence_length * widths * FP32_BYTES
    return LIBRARIES_BYTES + BLOCK_COPIES * FP32_BYTES * max(blocks, default=0) + activations


def _blocks(headers: Sequence[Header]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for header in headers:
        for name, tensor in header.tensors.items():
            if block := block_of(name):
                found.setdefault(block, []).append(tensor)
    return found


def _shapes(headers: Sequence[Header]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for header in headers for name, tensor in header.tensors.items()}


def quantize_awq(model: Path, out: Path, settings: AwqSettings, samples: Sequence[str]) -> Quantized:
    """Fill the folder `out` with the quantized model, but for a manifest.

    `model` holds config.json, safetensors files and tokenizer.json; `samples` are texts as the model sees them.
    Raises InvalidInput naming the setting, the file or the layer, and Failed (OutOfMemory).
    """
    _check_settings(settings)
    config_text = (model / CONFIG_FILE).read_bytes()
    config = parse_json(CONFIG_FILE, config_text)
    parse_base_config(CONFIG_FILE, config)
    store = FileStore(model)
    headers = read_weight_files(store, store.list()).headers
    _check_engine(settings.engine, config)
    layout = plan_layout(config, _shapes(headers), settings.group_size, settings.tensor_parallel)
    for note in layout.notes:
        print(f"quantize: {note}", file=sys.stderr, flush=True)
    blocks = token_blocks(model, samples, settings.sequence_length, settings.sequences)
    out.mkdir(parents=True, exist_ok=True)
    files = [header.file for header in headers]
    padded = with_widths(config, layout.widths)
    quantization = _run(settings, model, out, padded, files, layout, blocks, _in_blocks(headers))
    (out / CONFIG_FILE).write_bytes(quantized_config(config_text, quantization, layout.widths))
    _copy_others(model, out, set(files))
    return Quantized(
        {
            "method": "awq",
            "format": str(quantization["quant_method"]),
            "bits": settings.bits,
            "groupSize": layout.group_size,
            "zeroPoint": settings.zero_point,
            "engine": settings.engine.value,
        },
        layout.notes,
        {
            "calibrationTokens": sum(map(len, blocks)),
            "layersQuantized": len(layout.linears),
        },
    )


def _check_settings(settings: AwqSettings) -> None:
    if settings.bits != BITS:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"bits {settings.bits} are not supported: vLLM's AWQ kernels have 4; write bits: 4",
        )
    if settings.engine is AwqEngine.AUTOAWQ and not settings.zero_point:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            "zeroPoint: false is not supported by engine autoawq, whose format has zero points: "
            "leave it true, or write engine: llm-compressor",
        )


def _check_engine(engine: AwqEngine, config: Mapping[str, Any]) -> None:
    model_type = str(config.get("model_type"))
    if engine is AwqEngine.AUTOAWQ and model_type not in AUTOAWQ_MODEL_TYPES:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f'model_type "{model_type}" is not one that AutoAWQ knows ({", ".join(AUTOAWQ_MODEL_TYPES)}): '
            "write quantization.awq.engine: LLMCompressor",
        )


def _in_blocks(headers: Sequence[Header]) -> int:
    """Bytes of what is worked through block by block."""
    return sum(tensor.size for group in _blocks(headers).values() for tensor in group)


def _run(
    settings: AwqSettings,
    model: Path,
    out: Path,
    config: Mapping[str, Any],
    files: Sequence[str],
    layout: AwqLayout,
    blocks: list[list[int]],
    total_bytes: int,
) -> dict[str, Any]:
    """The engine's part; returns the quantization_config. What its libraries raise for want of memory is Failed."""
    progress = Progress("quantize", total_bytes)
    try:
        if settings.engine is AwqEngine.LLM_COMPRESSOR:
            from ftm_jobs.quantize.awq.engines import llm_compressor as awq_compressor

            found = awq_compressor.run(model, out, config, files, layout, blocks, symmetric=not settings.zero_point)
            progress.add(total_bytes)
        else:
            from ftm_jobs.quantize.awq.engines import autoawq as awq_autoawq
            from ftm_jobs.quantize.awq.engines.weight_files import PaddedWeights

            weights = PaddedWeights(model, files, layout)
            excluded = awq_autoawq.run(
                config, weights, out, layout, blocks, progress.add, apply_clip=settings.apply_clip
            )
            found = {
                "quant_method": "awq",
                "version": "gemm",
                "bits": settings.bits,
                "group_size": layout.group_size,
                "zero_point": settings.zero_point,
                "modules_to_not_convert": excluded or None,
            }
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise Failed(Reason.OUT_OF_MEMORY, f"memory ran out while quantizing ({error}): give the Job more") from error
    progress.close()
    return found


def tools(engine: AwqEngine) -> dict[str, str]:
    """Versions for the manifest. Raises InvalidInput where this image has another engine."""
    try:
        return {name: version(name).partition("+")[0] for name in (PACKAGES[engine], "torch", "transformers")}
    except PackageNotFoundError as error:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"engine {engine} is not in this image ({error}): run the image of that engine",
        ) from error


def _copy_others(model: Path, out: Path, weights: set[str]) -> None:
    """Tokenizer, chat template, generation settings, licence: all but weights, and what is written anew."""
    skipped = weights | {CONFIG_FILE, INDEX_FILE, MANIFEST_NAME}
    for path in sorted(model.iterdir()):
        if path.is_file() and path.name not in skipped and not path.name.startswith("."):
            shutil.copyfile(path, out / path.name)
