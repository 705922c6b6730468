"""Does tests' tasks in an AWQ environment: a list of them on stdin as JSON, answers on the last line of stdout.

    {"do": "quantize", "model": DIR, "out": DIR, "settings": {…}, "texts": […], "aliasing": false}
    {"do": "scale", "model": DIR, "ids": [[…], …], "known": true}   by llm-compressor, without rounding
    {"do": "scale blocks", "model": DIR, "ids": [[…], …]}              by AutoAWQ, without rounding
    {"do": "logits", "model": DIR, "ids": […], "to": FILE, "translate": true}   of the model that AutoAWQ sees

"aliasing" puts AutoAWQ's own search back, whose copy of the weights is no copy on a CPU. A refusal is answered as
{"refused": …}. Runs beside ftm_jobs alone: this environment has no pytest.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ftm_jobs.errors import InvalidInput
from ftm_jobs.quantize.awq import configs


def main() -> None:
    answers = []
    for task in json.load(sys.stdin):
        started = time.monotonic()
        try:
            answer = DO[task.pop("do")](**task)
        except InvalidInput as refused:
            answer = {"refused": refused.message}
        answers.append({**answer, "seconds": time.monotonic() - started})
    print(json.dumps(answers))


def quantize(
    model: str, out: str, texts: list[str], settings: dict[str, Any] | None = None, aliasing: bool = False
) -> dict[str, Any]:
    from ftm_jobs.quantize.awq.conversion import quantize_awq
    from ftm_jobs.quantize.awq.settings import AwqEngine, AwqSettings

    given = dict(settings or {})
    if "engine" in given:
        given["engine"] = AwqEngine(given["engine"])
    if "tensor_parallel" in given:
        given["tensor_parallel"] = tuple(given["tensor_parallel"])
    if aliasing:
        leave_the_trap()
    found = quantize_awq(Path(model), Path(out), AwqSettings(**given), texts)
    return {
        "quantization": dict(found.quantization),
        "notes": list(found.notes),
        "measurements": dict(found.measurements),
    }


def leave_the_trap() -> None:
    """From here on this process ruins weights as AutoAWQ 0.2.9 does on a CPU."""
    from awq.quantize.quantizer import AwqQuantizer

    from ftm_jobs.quantize.awq.engines.autoawq_search import StreamedQuantizer

    setattr(StreamedQuantizer, "_compute_best_scale", AwqQuantizer._compute_best_scale)  # noqa: B010 - for mypy


def logits(model: str, ids: list[int], to: str, translate: bool = True) -> dict[str, Any]:
    import numpy
    import torch

    from ftm_jobs.quantize.awq.configs import loadable_config
    from ftm_jobs.quantize.awq.engines import autoawq
    from ftm_jobs.quantize.awq.engines.autoawq_search import set_parameter
    from ftm_jobs.quantize.awq.engines.tensor_files import PaddedWeights
    from ftm_jobs.quantize.awq.layout import AwqLayout

    config = json.loads(Path(model, "config.json").read_text())
    loaded = autoawq.empty_model(config["model_type"], loadable_config(config) if translate else config)
    weights = PaddedWeights(Path(model), ["model.safetensors"], AwqLayout(64, ()))
    for name, _ in list(loaded.named_parameters()):
        set_parameter(loaded, name, weights.read(name).float())
    loaded.tie_weights()
    with torch.no_grad():
        numpy.save(to, loaded(torch.tensor([ids])).logits[0].numpy())
    return {}


def scale(model: str, ids: list[list[int]], known: bool = True) -> dict[str, Any]:
    """Divergence that scaling makes, in fp32 and before rounding. Not known: llm-compressor chooses what to scale."""
    import torch
    from compressed_tensors.quantization import disable_quantization
    from llmcompressor.core import reset_session
    from llmcompressor.modifiers.transform.awq import get_layer_mappings_from_model

    from ftm_jobs.quantize.awq.engines import llm_compressor
    from ftm_jobs.quantize.awq.engines.llm_compressor_patches import errors_alone, without_pinned_memory

    loaded = llm_compressor.load(Path(model), json.loads(Path(model, "config.json").read_text())).float()
    loaded.config.use_cache = False
    given = torch.tensor(ids[:1])
    with torch.no_grad():
        before = loaded(given).logits.double().log_softmax(-1)
    chosen = llm_compressor._mappings if known else get_layer_mappings_from_model
    with patch.object(llm_compressor, "_mappings", chosen), errors_alone(), without_pinned_memory():
        llm_compressor.quantize(loaded, Path(model), 32, ids, symmetric=False)
    loaded.apply(disable_quantization)
    with torch.no_grad():
        after = loaded(given).logits.double().log_softmax(-1)
    reset_session()
    return {"divergence": float((before.exp() * (before - after)).sum(-1).mean())}


def scale_blocks(model: str, ids: list[list[int]]) -> dict[str, Any]:
    """Returns the furthest that scaling moves a block's output, in fp32 and before clipping and rounding."""
    import tempfile

    import torch

    from ftm_jobs.quantize.awq.engines import autoawq
    from ftm_jobs.quantize.awq.engines.autoawq_search import StreamedQuantizer
    from ftm_jobs.quantize.awq.engines.engine_run import EngineRun
    from ftm_jobs.quantize.awq.engines.tensor_files import PaddedWeights
    from ftm_jobs.quantize.awq.layout import AwqLayout, plan_layout
    from ftm_jobs.quantize.awq.settings import AwqSettings

    off = []

    class Witness(StreamedQuantizer):
        def _get_input_feat(self, block: Any, linears: Any) -> Any:
            self.given = self.inps
            found = super()._get_input_feat(block, linears)
            self.before = self.inps
            self.weights_before = [linear.weight.clone() for linear in linears.values()]
            return found

        def _write(self, prefix: str, block: Any, linears: Any) -> None:
            after = self._module_forward(self.given, block, self._sanitize_kwargs(self.module_kwargs, block))
            scaled = zip(self.weights_before, linears.values(), strict=True)
            moved = sum(not torch.equal(weight, linear.weight) for weight, linear in scaled)
            off.append((float((after - self.before).norm() / self.before.norm()), moved))
            super()._write(prefix, block, linears)

    config = json.loads(Path(model, "config.json").read_text())
    names = ("model.safetensors",)
    unpadded = PaddedWeights(Path(model), names, AwqLayout(32, ()))
    layout = plan_layout(config, {name: unpadded.shape(name) for name in unpadded.names()}, 32)
    config = configs.with_widths(config, layout.widths)
    with tempfile.TemporaryDirectory() as out:
        run = EngineRun(Path(model), Path(out), config, names, layout, ids, AwqSettings(apply_clip=False))
        autoawq.quantize_weights(run, lambda _: None, Witness)
    return {"off": max(far for far, _ in off), "scaled": min(moved for _, moved in off)}


DO: dict[str, Callable[..., dict[str, Any]]] = {
    "quantize": quantize,
    "scale": scale,
    "scale blocks": scale_blocks,
    "logits": logits,
}

if __name__ == "__main__":
    main()
