"""What vLLM logged when it started models of vllm_logs.yaml, beside what the planner predicts of the same start."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ftm_jobs.contract.byte_counts import GIB, MIB
from ftm_operator.planning.gpus.accelerators import accelerator_class
from ftm_operator.planning.memory.engine_setup import EngineSetup, version_of_image
from ftm_operator.planning.memory.rank_memory import RankMemory
from ftm_operator.planning.memory.reserves import Batch
from ftm_operator.planning.model.architecture import Architecture, architecture
from ftm_operator.planning.model.config_facts import facts_of_config
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.placement import Candidate, first_broken
from ftm_operator.planning.sizing.request import Request
from ftm_operator.planning.sizing.search import Search


@dataclass(frozen=True)
class Log:
    """One start of vLLM, and the plan for it."""

    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.fields["id"])

    @property
    def logged(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self.fields["logged"]
        return found

    @property
    def started(self) -> bool:
        return bool(self.fields["outcome"] == "started")

    @property
    def tokens(self) -> float:
        """Tokens of whole sequences that the cache held: kv_tokens counts other blocks where layers differ."""
        several_kinds = len(set(self.model.attention)) > 1
        if several_kinds or "kv_tokens" not in self.logged:
            return self.logged["max_concurrency"] * float(self.fields["max_model_len"])
        return self.logged["kv_tokens"]

    @cached_property
    def model(self) -> Architecture:
        return architecture(facts_of_config("hf://models/logged", "sha256:0", self.fields["config"]))

    @cached_property
    def memory(self) -> RankMemory:
        """The predicted memory of a rank, with the layout, the batch and the share of the GPU that the log has."""
        fields = self.fields
        batch = Batch(fields["max_num_batched_tokens"], fields["max_num_seqs"])
        request = Request(
            context=fields["max_model_len"],
            concurrency=1,
            utilization=fields["gpu_memory_utilization"],
            batched_tokens=batch.tokens,
            batched_sequences=batch.sequences,
            engine=EngineSetup(version_of_image(f":{fields['vllm_version']}"), fields["enforce_eager"]),
            expert_parallel=fields["expert_parallel"],
        )
        search = Search(self.model, request)
        return search.option(self._gpu, self._layout, fields["dtype"], batch, fields["max_model_len"]).memory

    @property
    def starts(self) -> bool:
        """Whether the plan says that it starts: no rule is broken, and one sequence fits."""
        model = Search(self.model, Request(expert_parallel=self.fields["expert_parallel"])).model
        candidate = Candidate(model, self._layout, self._gpu, self.fields["dtype"], self.model.quantization)
        return first_broken(candidate) is None and self.memory.fits(1, self.fields["max_model_len"])

    @property
    def _layout(self) -> Layout:
        return Layout(self.fields["tp"], self.fields["pp"], 1)

    @property
    def _gpu(self) -> Any:
        return accelerator_class(self.fields["gpu"], self.fields["gpu_memory_mib"] * MIB, 8, 1)

    def error(self, item: str) -> float:
        """Returns how far the prediction is above what was logged, as a share of it; of a verdict, 1: it is wrong."""
        context = self.fields["max_model_len"]
        if item == "weights":
            return self.memory.loaded / GIB / self.logged["weights_gib"] - 1
        if item == "kv_bytes":
            return self.tokens / self.memory.cache.tokens(int(self.logged["kv_gib"] * GIB), context) - 1
        if item == "kv_tokens":
            return self.memory.cache.tokens(self.memory.left, context) / self.tokens - 1
        return float(self.starts != self.started)


LOGS = [Log(each) for each in yaml.safe_load((Path(__file__).parent / "vllm_logs.yaml").read_text())]
