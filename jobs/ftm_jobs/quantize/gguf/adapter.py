"""Converts a LoRA adapter to the GGUF file that llama.cpp applies beside its base, by llama.cpp's own converter.

The file holds A and B of each layer and one alpha: llama.cpp scales a layer's product by alpha / rank of its B
(src/llama-adapter.h, get_scale). rsLoRA and patterns of ranks and alphas are kept where one alpha says them all.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from ftm_jobs.checkpoint.adapter_config import ADAPTER_CONFIG_FILE
from ftm_jobs.checkpoint.sources import ADAPTER_FILE
from ftm_jobs.errors import Failed, Reason
from ftm_jobs.quantize.gguf.conversion import without_code
from ftm_jobs.quantize.gguf.header import GgufHeader, InvalidGguf, read_gguf
from ftm_jobs.quantize.gguf.llama_cpp import LlamaCpp

GGUF_ADAPTER_FILE = "adapter.gguf"
_ALPHA = "adapter.lora.alpha"
_RELATIVE_ERROR = 1e-6
"""The file holds alpha in 32 bits."""


def convert_adapter(base: Path, adapter: Path, out: Path, alpha: float, layers: int, tools: LlamaCpp) -> Path:
    """Writes adapter.gguf into `out`, in 32 bits, and returns it.

    `base` is a folder with config.json and the tokenizer, `adapter` one with the adapter's two files; `layers` is the
    number of layers that it adapts. Raises InvalidInput (UnsupportedModel) in the converter's words, and Failed
    (RuinedResult) where the file lacks a layer or says another alpha.
    """
    shown = out.with_name("shown")
    shutil.rmtree(shown, ignore_errors=True)
    shown.mkdir()
    without_code(base, shown / "base")
    (shown / "adapter").mkdir()
    (shown / "adapter" / ADAPTER_FILE).symlink_to((adapter / ADAPTER_FILE).resolve())
    config = json.loads((adapter / ADAPTER_CONFIG_FILE).read_bytes())
    (shown / "adapter" / ADAPTER_CONFIG_FILE).write_text(json.dumps(config | {"lora_alpha": alpha}))
    result = out / GGUF_ADAPTER_FILE
    tools.convert_adapter(shown / "base", shown / "adapter", result, (adapter / ADAPTER_FILE).stat().st_size)
    _check(result, alpha, layers)
    return result


def _check(path: Path, alpha: float, layers: int) -> None:
    try:
        header = read_gguf(path)
    except InvalidGguf as error:
        raise Failed(Reason.RUINED_RESULT, f"llama.cpp wrote a file that cannot be read: {error}") from error
    if reasons := _disagreements(header, alpha, layers):
        raise Failed(Reason.RUINED_RESULT, f"llama.cpp made another adapter of it: {'; '.join(reasons)}")


def _disagreements(header: GgufHeader, alpha: float, layers: int) -> Sequence[str]:
    kind, written = header.metadata.get("adapter.type"), header.metadata.get(_ALPHA)
    reasons = [] if kind == "lora" else [f"adapter.type is {kind}, not lora"]
    if not isinstance(written, float) or abs(written - alpha) > _RELATIVE_ERROR * abs(alpha):
        reasons.append(f"{_ALPHA} is {written}, not {alpha:g}")
    pairs = [name.removesuffix(".lora_a") for name in header.tensors if name.endswith(".lora_a")]
    whole = [name for name in pairs if f"{name}.lora_b" in header.tensors]
    if len(whole) < layers or 2 * len(whole) != len(header.tensors):
        reasons.append(f"it has {len(whole)} pairs among {len(header.tensors)} tensors, not {layers}")
    return reasons
