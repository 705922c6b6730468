"""Quantizes a merged model to a 4-bit AWQ model for vLLM, by one of two engines, each in an image of its own.

engine autoawq          AutoAWQ 0.2.9's search; output "awq", version GEMM (engines/autoawq.py)
engine llm-compressor   llm-compressor's; output "compressed-tensors", pack-quantized (engines/llm_compressor.py)

Both give vLLM the merged model's own config.json with a quantization_config, and its other files byte for byte: what
another version of transformers writes anew loses what that version does not know. Nothing is downloaded.
"""

import logging
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_base_config, parse_json
from ftm_jobs.checkpoint.headers import Header, Tensor
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.stored_model import StoredModel
from ftm_jobs.checkpoint.weight_files import read_weight_files
from ftm_jobs.contract.config import lacks
from ftm_jobs.contract.keys import AWQ_RECIPE, awq_key
from ftm_jobs.contract.manifest import MANIFEST_NAME, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.quantize.artifact import Method, Quantized, quantize
from ftm_jobs.quantize.awq.configs import quantized_config, with_widths
from ftm_jobs.quantize.awq.engines.engine_run import EngineRun
from ftm_jobs.quantize.awq.engines.offline import offline_libraries, without_import_warnings
from ftm_jobs.quantize.awq.layout import block_of, plan_layout
from ftm_jobs.quantize.awq.settings import AwqEngine, AwqSettings, check_engine, check_settings
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.names import is_plain_path
from ftm_jobs.stores.source import Source
from ftm_jobs.text.calibration import BUNDLED_FILE, load_calibration
from ftm_jobs.text.chat_template import load_template, render
from ftm_jobs.text.token_blocks import token_blocks

_LOG = logging.getLogger(__name__)

FP32_BYTES = 4
LIBRARIES_BYTES = 1_500_000_000
BLOCK_COPIES = 6
"""Copies of a block in fp32 while scales are searched: the block, its originals, a candidate and its rounding."""


PACKAGES = {AwqEngine.AUTOAWQ: "autoawq", AwqEngine.LLM_COMPRESSOR: "llmcompressor"}


def awq(model: Source, artifacts: Source, settings: AwqSettings, calibration: Source | None = None) -> Report:
    """Quantizes a model into an artifact. Raises InvalidInput and Failed; then nothing under the key looks complete."""
    check_settings(settings)
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
    check_engine(settings.engine, model.config.content)
    plan_layout(model.config.content, _shapes(model.headers), settings.group_size, settings.tensor_parallel)


def memory_bytes(model: StoredModel, settings: AwqSettings) -> int:
    """Returns roughly what quantizing needs at most, besides pages of files that the system may drop."""
    if settings.engine is AwqEngine.LLM_COMPRESSOR:
        return LIBRARIES_BYTES + 2 * model.weight_bytes
    blocks = [sum(tensor.elements for tensor in group) for group in _blocks(model.headers).values()]
    config = model.config
    if not config.hidden_size:
        path = model.store.describe(CONFIG_FILE)
        raise InvalidInput(Reason.INVALID_CONFIG, f"{path} {lacks('hidden_size', 'quantizing')}")
    widths = 8 * config.hidden_size + 3 * (config.intermediate_size or 4 * config.hidden_size)
    activations = settings.sequences * settings.sequence_length * widths * FP32_BYTES
    return LIBRARIES_BYTES + BLOCK_COPIES * FP32_BYTES * max(blocks, default=0) + activations


def _blocks(headers: Sequence[Header]) -> dict[str, list[Tensor]]:
    """Returns the tensors of each numbered block, by its name."""
    blocks: dict[str, list[Tensor]] = {}
    for header in headers:
        for name, tensor in header.tensors.items():
            if block := block_of(name):
                blocks.setdefault(block, []).append(tensor)
    return blocks


def _shapes(headers: Sequence[Header]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for header in headers for name, tensor in header.tensors.items()}


def quantize_awq(model: Path, out: Path, settings: AwqSettings, samples: Sequence[str]) -> Quantized:
    """Fills the folder `out` with the quantized model, but for a manifest.

    `model` holds config.json, safetensors files and tokenizer.json; `samples` are texts as the model sees them.
    Raises InvalidInput naming the setting, the file or the layer, and what the engine raises when memory runs out.
    """
    check_settings(settings)
    config_text = (model / CONFIG_FILE).read_bytes()
    config = parse_json(CONFIG_FILE, config_text)
    parse_base_config(CONFIG_FILE, config)
    store = FileStore(model)
    headers = read_weight_files(store, store.list()).headers
    check_engine(settings.engine, config)
    layout = plan_layout(config, _shapes(headers), settings.group_size, settings.tensor_parallel)
    for note in layout.notes:
        _LOG.info("quantize: %s", note)
    blocks = token_blocks(model, samples, settings.sequence_length, settings.sequences)
    out.mkdir(parents=True, exist_ok=True)
    files = tuple(header.file for header in headers)
    run = EngineRun(model, out, with_widths(config, layout.widths), files, layout, blocks, settings)
    quantization = _run(run, _block_bytes(headers))
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


def _block_bytes(headers: Sequence[Header]) -> int:
    """Returns the bytes that are worked through block by block."""
    return sum(tensor.size for group in _blocks(headers).values() for tensor in group)


def _run(run: EngineRun, total_bytes: int) -> dict[str, Any]:
    """Runs the engine, and returns the quantization_config that belongs to the weight files it wrote."""
    progress = Progress("quantize", total_bytes)
    with offline_libraries():
        if run.settings.engine is AwqEngine.LLM_COMPRESSOR:
            from ftm_jobs.quantize.awq.engines import llm_compressor

            quantization = llm_compressor.quantize_weights(run)
            progress.add(total_bytes)
        else:
            with without_import_warnings():
                from ftm_jobs.quantize.awq.engines import autoawq

            quantization = autoawq.quantize_weights(run, progress.add)
    progress.close()
    return quantization


def tools(engine: AwqEngine) -> dict[str, str]:
    """Returns versions for the manifest. Raises InvalidInput where this image has another engine."""
    try:
        return {name: version(name).partition("+")[0] for name in (PACKAGES[engine], "torch", "transformers")}
    except PackageNotFoundError as error:
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"engine {engine} is not in this image ({error}): run the image of that engine",
        ) from error


def _copy_others(model: Path, out: Path, weights: set[str]) -> None:
    """Copies tokenizer, chat template, generation settings, licence: all that is not written anew."""
    skipped = weights | {CONFIG_FILE, INDEX_FILE, MANIFEST_NAME}
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model).as_posix()
        if path.is_file() and is_plain_path(name) and name not in skipped:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name)
