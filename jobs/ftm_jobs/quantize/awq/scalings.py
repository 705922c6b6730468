"""Lists the layers that AWQ may scale against each other: pairs whose scales cancel, so that only rounding changes.

AWQ divides what a layer puts out by s, channel by channel, and multiplies the inputs of the layers that read it by s.
That changes nothing as long as nothing else reads it and nothing lies between them that is not linear. llm-compressor
has patterns for some architectures and takes Llama's for all others; of experts they forget routers and shared
experts' gates, and of unlike layers they raise. A model that was scaled so is another model: before anything is
rounded, small random models of Mixtral and PhiMoE diverge by 0.3 nats per token, of OLMoE and Qwen2-MoE by 0.09, where
1e-11 is what fp32 makes of it. So they are taken for the classes in PROVEN alone, and others are written here for those
in KNOWN. Everywhere else there are pairs that the names of layers prove:

    v_proj -> o_proj       attention mixes values over positions, not over channels; with grouped heads the widths
                           differ, and there is no such pair
    up_proj -> down_proj   of act(gate(x)) · up(x), in a layer that has a gate; in each expert by itself

Pure: names and shapes come in.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scaling:
    """Names modules as llm-compressor matches them: a regular expression after "re:"."""

    smoothed: str
    balanced: tuple[str, ...]

    def within(self, decoder: str) -> "Scaling":
        """Returns the scaling for this part of the model alone: encoders have layers of the same names."""
        return Scaling(_within(self.smoothed, decoder), tuple(_within(each, decoder) for each in self.balanced))


PROVEN = frozenset(
    {
        "CohereForCausalLM",
        "Cohere2ForCausalLM",
        "Ernie4_5ForCausalLM",
        "Exaone4ForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3ForConditionalGeneration",
        "GemmaForCausalLM",
        "GraniteForCausalLM",
        "HeliumForCausalLM",
        "HunYuanDenseV1ForCausalLM",
        "LlamaForCausalLM",
        "Ministral3ForCausalLM",
        "MinistralForCausalLM",
        "Mistral3ForConditionalGeneration",
        "MistralForCausalLM",
        "Olmo3ForCausalLM",
        "OlmoForCausalLM",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3VLForConditionalGeneration",
        "SeedOssForCausalLM",
        "SmolLM3ForCausalLM",
        "StableLmForCausalLM",
    }
)
"""transformers' classes where llm-compressor's own patterns change nothing but rounding."""


def _experts(*gates: str) -> Scaling:
    """Returns the scaling of a norm before a layer of experts: it feeds each of them and all gates."""
    experts = (rf"re:.*mlp\.experts\.\d+\.{name}$" for name in ("gate_proj", "up_proj"))
    return Scaling(r"re:.*post_attention_layernorm$", (*(rf"re:.*mlp\.{gate}$" for gate in gates), *experts))


_ATTENTION = Scaling(r"re:.*input_layernorm$", (r"re:.*q_proj$", r"re:.*k_proj$", r"re:.*v_proj$"))
_VALUES = Scaling(r"re:.*v_proj$", (r"re:.*o_proj$",))
_UP = Scaling(r"re:.*up_proj$", (r"re:.*down_proj$",))
_BOTH_IN_ONE = (
    Scaling(r"re:.*post_attention_layernorm$", (r"re:.*gate_up_proj$",)),
    Scaling(r"re:.*gate_up_proj$", (r"re:.*down_proj$",)),
)
_SHARED = ("gate", "shared_expert_gate", r"shared_expert\.gate_proj", r"shared_expert\.up_proj")
KNOWN: Mapping[str, tuple[Scaling, ...]] = {
    "Glm4ForCausalLM": (_ATTENTION, _VALUES, *_BOTH_IN_ONE),
    "GlmForCausalLM": (_ATTENTION, _VALUES, *_BOTH_IN_ONE),
    "MixtralForCausalLM": (_ATTENTION, _VALUES, _experts("gate"), _UP),
    "OlmoeForCausalLM": (_ATTENTION, _VALUES, _experts("gate"), _UP),
    "PhimoeForCausalLM": (_ATTENTION, _VALUES, _experts("router"), _UP),
    "Qwen2MoeForCausalLM": (_ATTENTION, _VALUES, _experts(*_SHARED), _UP),
}
"""Scalings by transformers' class, where llm-compressor has no pattern that holds; experts in its own names."""
_PAIRS = (
    ("v_proj", "o_proj", None),
    ("v_proj", "out_proj", None),
    ("up_proj", "down_proj", "gate_proj"),
    ("w3", "w2", "w1"),
)
"""A layer, the one that alone reads it, and the gate that it needs to be linear."""


def proven_by_names(linears: Mapping[str, tuple[int, int]], others: Iterable[str]) -> tuple[Scaling, ...]:
    """Returns the scalings that names prove, of linear layers by name with (out, in) and of other modules' names.

    A pair is taken where all layers of both names are such pairs.
    """
    names = {*linears, *others}

    def holds(smoothed: str, balanced: str, gate: str | None) -> bool:
        parents = {name.rpartition(".")[0] for name in linears if name.rpartition(".")[2] in (smoothed, balanced)}
        return bool(parents) and all(
            (first := linears.get(f"{parent}.{smoothed}")) is not None
            and (second := linears.get(f"{parent}.{balanced}")) is not None
            and first[0] == second[1]
            and (gate is None or f"{parent}.{gate}" in names)
            and f"{parent}.v_norm" not in names
            for parent in parents
        )

    return tuple(
        Scaling(rf"re:.*\.{smoothed}$", (rf"re:.*\.{balanced}$",))
        for smoothed, balanced, gate in _PAIRS
        if holds(smoothed, balanced, gate)
    )


def _within(pattern: str, decoder: str) -> str:
    if not decoder or not pattern.startswith("re:.*") or decoder.rpartition(".")[2] in pattern:
        return pattern
    return rf"re:{re.escape(decoder)}\.{pattern.removeprefix('re:')}"
