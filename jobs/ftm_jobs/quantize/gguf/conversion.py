"""Quantizes a model to one GGUF file, model.gguf, with the tokenizer and the chat template inside.

Weights go through a file of the model's own precision, then through llama.cpp's quantizer. What config and headers
rule out is refused before anything is fetched: an architecture that the converter does not know, a tokenizer that is
code, and, under strict, widths that the type cannot store. The result's header is compared with the config before it
is published.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_base_config, parse_json
from ftm_jobs.checkpoint.stored_model import StoredModel
from ftm_jobs.checkpoint.weight_files import WeightFiles, read_weight_files
from ftm_jobs.contract.config import ModelConfig
from ftm_jobs.contract.keys import GGUF_RECIPE, gguf_key
from ftm_jobs.contract.manifest import ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.quantize.artifact import Method, Quantized, quantize
from ftm_jobs.quantize.gguf.config_check import disagreements
from ftm_jobs.quantize.gguf.fallbacks import fallback_notes, fallback_storage, fallen_back, refuse_unsuitable
from ftm_jobs.quantize.gguf.file_types import STORAGE, FileType, Weight, file_type
from ftm_jobs.quantize.gguf.header import GgufHeader, InvalidGguf, read_gguf
from ftm_jobs.quantize.gguf.llama_cpp import LARGEST_BUFFER_MIB, LlamaCpp, find_llama_cpp
from ftm_jobs.quantize.gguf.mixture import GgufArchitecture, asked_storage
from ftm_jobs.stores import Store
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.names import is_plain_path
from ftm_jobs.stores.source import Source
from ftm_jobs.text.calibration import CalibrationText, load_calibration
from ftm_jobs.text.chat_template import load_template, render

MODEL_FILE = "model.gguf"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
OUTTYPES = {"BF16": "bf16", "F16": "f16", "F32": "f32"}
"""The converter's name for a checkpoint's own precision."""
TOOLS_MEMORY_BYTES = 1_200_000_000
"""Bytes of the converter's libraries, and of the quantizer besides its buffer."""
_NOT_SHOWN = (".py", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Files that could run code when they are read."""


@dataclass(frozen=True)
class GgufSettings:
    type: FileType
    strict: bool = False
    """Refuse what cannot be stored as the type would store it."""
    texts: tuple[str, ...] = ()
    """Texts that an importance matrix is computed from."""


def gguf(
    model: Source, artifacts: Source, type: str, calibration: Source | None = None, *, strict: bool = False
) -> Report:
    """Quantizes a model into an artifact. Raises InvalidInput and Failed; then no artifact looks complete."""
    chosen, tools = file_type(type), find_llama_cpp()
    sampled = None if calibration is None else load_calibration(calibration)

    def check(opened: StoredModel) -> None:
        refuse_architecture(opened, tools)
        _refuse_code(opened.store, {file.path: file.size for file in opened.files})
        if strict and chosen.quantized:
            refuse_unsuitable(opened.store.uri, chosen, _checkpoint(opened))

    def convert(folder: Path, out: Path) -> Quantized:
        texts = tuple(render(sampled.fitted, load_template(folder))) if sampled else ()
        return quantize_gguf(folder, out, GgufSettings(chosen, strict, texts), tools)

    return quantize(
        model,
        artifacts,
        Method(
            recipe=GGUF_RECIPE,
            key=lambda key: gguf_key(key, chosen.name, sampled.digest if sampled else None),
            convert=convert,
            check=check,
            disk_bytes=lambda opened: disk_bytes(opened, chosen),
            memory_bytes=memory_bytes,
            inputs=(_calibration_input(sampled),) if sampled else (),
            tools={"llama.cpp": tools.version},
        ),
    )


def quantize_gguf(model: Path, out: Path, settings: GgufSettings, tools: LlamaCpp) -> Quantized:
    """Writes model.gguf into `out` from a local folder with a model.

    Raises InvalidInput (UnsupportedModel, UnsuitableWidths), and Failed: OutOfMemory, DiskFull, RuinedResult.
    """
    config, weights = _config(model), _weights(model)
    work = out.with_name("work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shown = without_code(model, work / "model")
    result = out / MODEL_FILE
    if not settings.type.quantized:
        size = sum(tensor.elements for tensor in weights.tensors) * STORAGE[settings.type.storage].block_bytes
        tools.convert(shown, result, settings.type.name.lower(), size)
        header = _checked(result, config, model)
        return Quantized({"method": "gguf", "type": settings.type.name}, (), _measurements(result, header, 0))
    full = work / "full.gguf"
    tools.convert(shown, full, OUTTYPES.get(weights.dtype, "auto"), weights.tensor_bytes)
    before = _checked(full, config, model)
    asked = asked_storage(
        before.weights.values(), _architecture(before, config), settings.type, importance=bool(settings.texts)
    )
    fallen = fallen_back(before.weights, asked)
    notes = fallback_notes(settings.type, before.weights, asked)
    if settings.strict and fallen:
        raise InvalidInput(Reason.UNSUITABLE_WIDTHS, f"{notes[0]}: leave strict out, or write type Q8_0")
    importances = _importances(full, work, settings.texts, tools) if settings.texts else None
    tools.quantize(full, result, settings.type.name, expected_bytes(before, asked), importances)
    header = _checked(result, config, model)
    quantization: dict[str, str | int | bool] = {"method": "gguf", "type": settings.type.name}
    if importances:
        quantization["importance"] = True
    shutil.rmtree(work)
    return Quantized(quantization, notes, _measurements(result, header, fallen))


def expected_bytes(full: GgufHeader, asked: dict[str, str]) -> int:
    """Returns the bytes that the quantizer writes, without the header, by the formats' arithmetic."""
    total = 0
    for name, tensor in full.tensors.items():
        storage = STORAGE[fallback_storage(tensor.weight, asked[name]) if name in asked else tensor.storage]
        total += tensor.weight.elements // storage.block * storage.block_bytes
    return total


def refuse_architecture(model: StoredModel, tools: LlamaCpp) -> None:
    """Raises InvalidInput (UnsupportedModel) when the converter does not know the architecture."""
    names, named = tools.known_architectures(), model.config.architecture
    if named in names:
        return
    close = get_close_matches(named or "", names, n=3) or [
        name for name in ("LlamaForCausalLM", "Qwen3ForCausalLM") if name in names
    ]
    raise InvalidInput(
        Reason.UNSUPPORTED_MODEL,
        f"{model.store.describe(CONFIG_FILE)}: architectures names {named or 'nothing'}, which is none of the "
        f"{len(names)} that llama.cpp's converter ({tools.version}) knows; the nearest are {', '.join(close)}: "
        "serve the model with vLLM, unquantized or as AWQ",
    )


def disk_bytes(model: StoredModel, type: FileType) -> int:
    """Returns the bytes of the file of full precision and of the result, and some for headers."""
    elements = sum(tensor.elements for tensor in model.weights.tensors)
    result = int(elements * STORAGE[type.storage].bits / 8 * 1.25)
    return result + (model.weight_bytes if type.quantized else 0) + 64 * 1024 * 1024


def memory_bytes(model: StoredModel) -> int:
    """Returns the bytes of the libraries, and of the largest tensor twice: as it is read and as it is written."""
    largest = max((tensor.size for tensor in model.weights.tensors), default=0)
    return TOOLS_MEMORY_BYTES + 2 * largest + LARGEST_BUFFER_MIB * 1024 * 1024


def _calibration_input(calibration: CalibrationText) -> ManifestInput:
    return ManifestInput(role="calibration", uri=calibration.uri or "", digest=calibration.digest)


def _importances(full: Path, work: Path, texts: Sequence[str], tools: LlamaCpp) -> Path:
    text, result = work / "calibration.txt", work / "importances.gguf"
    text.write_text("\n\n".join(texts), encoding="utf-8")
    tools.importances(full, text, result)
    return result


def _refuse_code(store: Store, sizes: dict[str, int]) -> None:
    """Raises InvalidInput (UnsupportedModel) when the tokenizer is code that would have to be run."""
    if TOKENIZER_CONFIG_FILE not in sizes:
        return
    label = store.describe(TOKENIZER_CONFIG_FILE)
    content = parse_json(label, bytes(store.read(TOKENIZER_CONFIG_FILE, 0, sizes[TOKENIZER_CONFIG_FILE])))
    if content.get("auto_map"):
        raise InvalidInput(
            Reason.UNSUPPORTED_MODEL,
            f"{label}: auto_map names code of the model's own ({json.dumps(content['auto_map'])[:100]}), which is "
            "never run here: save the tokenizer as tokenizer.json, and remove auto_map",
        )


def without_code(model: Path, folder: Path) -> Path:
    """Links to the model's files without those that could run, and its config without what would load them."""
    folder.mkdir()
    for path in model.rglob("*"):
        name = path.relative_to(model).as_posix()
        if not path.is_file() or not is_plain_path(name) or path.suffix in _NOT_SHOWN or name == CONFIG_FILE:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(path.resolve())
    content = json.loads((model / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(_stripped(content)))
    return folder


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items() if name != "auto_map"}
    return value


def _weights(model: Path) -> WeightFiles:
    store = FileStore(model)
    return read_weight_files(store, store.list())


def _config(model: Path) -> ModelConfig:
    path = model / CONFIG_FILE
    return parse_base_config(str(path), parse_json(str(path), path.read_bytes()))


def _checked(path: Path, config: ModelConfig, model: Path) -> GgufHeader:
    """Raises Failed (RuinedResult) when the file is not whole or does not say what the config says."""
    try:
        header = read_gguf(path)
    except InvalidGguf as error:
        raise Failed(Reason.RUINED_RESULT, f"llama.cpp wrote a file that cannot be read: {error}") from error
    if reasons := disagreements(header, config, has_template=_has_template(model)):
        raise InvalidInput(
            Reason.RUINED_RESULT,
            f"llama.cpp made another model of it: {'; '.join(reasons)}: correct {CONFIG_FILE}, or serve it with vLLM",
        )
    return header


def _has_template(model: Path) -> bool:
    if any((model / name).is_file() for name in TEMPLATE_FILES):
        return True
    path = model / TOKENIZER_CONFIG_FILE
    return path.is_file() and bool(json.loads(path.read_text("utf-8")).get("chat_template"))


def _architecture(header: GgufHeader, config: ModelConfig) -> GgufArchitecture:
    return GgufArchitecture(
        name=str(header.metadata.get("general.architecture")),
        layers=int(header.number("block_count") or config.layers or 0),
        heads=config.attention_heads or 0,
        key_value_heads=config.key_value_heads or 0,
        experts=int(header.number("expert_count") or 0),
    )


def _measurements(path: Path, header: GgufHeader, fallen: int) -> dict[str, int | float]:
    elements = sum(weight.elements for weight in header.weights.values())
    return {
        "parameters": elements,
        "bitsPerWeight": round(8 * path.stat().st_size / elements, 4),
        "tensors": len(header.tensors),
        "tensorsFallenBack": fallen,
    }


def _checkpoint(model: StoredModel) -> list[Weight]:
    return [Weight(tensor.name, tensor.shape) for tensor in model.weights.tensors]
