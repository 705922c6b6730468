"""vLLM's own model of a config.json, as one rank of several would make it, without its numbers.

The model is built on torch's meta device, so that Llama-3.1-405B takes no memory, in a process that tells vLLM it is
one of `tp` ranks and `pp` stages. Whatever vLLM checks of sizes when it starts, it checks here.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.fused_moe import unquantized_fused_moe_method
from vllm.model_executor.layers.fused_moe.oracle.unquantized import UnquantizedMoeBackend, backend_to_kernel_cls
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models import registry
from vllm.usage.usage_lib import UsageContext
from vllm.utils.torch_utils import set_default_torch_dtype

from tests.engine.stand_ins import replace_what_needs_a_gpu
from tests.unit.operator.planning.catalogue import MODELS, config, model_of

NAMES = list(MODELS)
UNCACHED = {"kimi-linear-48b-a3b"}
"""vLLM's CPU build refuses its own block size for the states whose prefixes are cached."""
BATCHED_TOKENS = 2048
BLOCK_TOKENS = 32
"""The block size of the CPU's attention; 16 on a GPU."""


@dataclass(frozen=True)
class Rank:
    """One rank of a model as vLLM makes it."""

    model: nn.Module
    config: VllmConfig

    @property
    def weight_bytes(self) -> int:
        return sum(each.numel() * each.element_size() for each in self.model.parameters())


def build(
    name: str,
    tp: int = 1,
    pp: int = 1,
    stage: int = 0,
    context: int = 2048,
    quantization: Mapping[str, Any] | None = None,
) -> Rank:
    """Raises what vLLM raises. A stored quantization that the CPU build has no kernel for is left out."""
    _prepare()
    content = {key: value for key, value in config(name).items() if key != "quantization_config"}
    if quantization:
        content["quantization_config"] = dict(quantization)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(content))
        found = EngineArgs(
            model=folder,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=min(context, model_of(name).max_context),
            max_num_batched_tokens=BATCHED_TOKENS,
            max_num_seqs=256,
            block_size=BLOCK_TOKENS,
            enforce_eager=True,
            load_format="dummy",
            async_scheduling=True,
            enable_prefix_caching=False if name in UNCACHED else None,
        ).create_engine_config(UsageContext.OPENAI_API_SERVER)
        found.parallel_config.tensor_parallel_size = tp
        found.parallel_config.pipeline_parallel_size = pp
        with set_current_vllm_config(found), as_rank(tp, pp, stage):
            found.model_config.verify_with_parallel_config(found.parallel_config)
            with set_default_torch_dtype(torch.bfloat16), torch.device("meta"):
                return Rank(initialize_model(vllm_config=found), found)


@cache
def _prepare() -> None:
    """A group of one process; a model's class is looked at here and not in a process of its own.

    The CPU's kernel for experts takes fewer widths than those of GPUs, so it is not asked.
    """
    replace_what_needs_a_gpu()
    registry._run_in_subprocess = lambda fn: fn()
    experts = backend_to_kernel_cls(UnquantizedMoeBackend.CPU)[0]
    chosen = (UnquantizedMoeBackend.CPU, experts)
    setattr(unquantized_fused_moe_method, "select_unquantized_moe_backend", lambda *_, **__: chosen)  # noqa: B010
    with set_current_vllm_config(VllmConfig()):
        store = Path(tempfile.mkdtemp()) / "store"
        parallel_state.init_distributed_environment(1, 0, store.as_uri(), 0, "gloo")
        parallel_state.initialize_model_parallel(1, 1)
    parallel_state._EP = parallel_state._DP


@contextmanager
def as_rank(tp: int, pp: int, stage: int) -> Iterator[None]:
    tensor, pipeline = parallel_state._TP, parallel_state._PP
    assert tensor is not None
    assert pipeline is not None
    tensor.world_size = tp
    pipeline.world_size, pipeline.ranks, pipeline.rank, pipeline.rank_in_group = pp, list(range(pp)), stage, stage
    try:
        yield
    finally:
        tensor.world_size = pipeline.world_size = 1
        pipeline.ranks, pipeline.rank, pipeline.rank_in_group = [0], 0, 0
