"""What the operator and its Jobs agree on: facts, reports, manifests and artifact keys.

This is the only module of `ftm_jobs` that the operator imports, so it imports no store, no torch and no client.
JSON uses camelCase, since facts and artifacts appear as they are in a FineTunedModel's status.

An artifact's key depends on what was read (digests of the sources) and on how it is combined (the recipe). It does
not depend on the tools' versions: a recipe is raised only when the bytes of its output would change.
"""

import base64
import hashlib
import json
import re
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

MERGE_RECIPE = 2
AWQ_RECIPE = 2
GGUF_RECIPE = 1
VERIFY_RECIPE = 2
AUTOAWQ_MODEL_TYPES = (
    "cohere",
    "gemma",
    "gemma2",
    "llama",
    "mistral",
    "phi3",
    "qwen2",
    "qwen3",
    "stablelm",
)
"""config.json's model_type where engine autoawq is known to work: AutoAWQ 0.2.9 knows it (awq/models/auto.py), its
transformers loads it and vLLM reads the result; for the others there is llm-compressor.

Fewer than AutoAWQ names: where it scales an activation (starcoder2, falcon, …) there would be a weight that no engine
reads, and of experts some would see no text."""
HELD_OUT_TOKENS = 1024
"""How much text a verification measures, at most: every model that is compared runs all of it, on CPUs if need be."""
MANIFEST_NAME = "manifest.json"
CLAIMS = "/pvc"
"""Where a pod mounts the claim of pvc://claim/path: /pvc/claim."""
PROGRESS_LINE = re.compile(r"[a-z]{1,20}: ([0-9.]+ [kMGT]?B of [0-9.]+ [kMGT]?B \([0-9]+ %\), [0-9a-zA-Z ,./]{3,60})")
"""A line of a step's log that tells how far it is: the step, a colon, and the words that status repeats."""
TERMINATION_MESSAGE_BYTES = 4096
"""Kubernetes keeps at most this much of a container's termination message."""
ARTIFACT_KEY = r"(?:merge|awq|gguf|verify)-[0-9a-f]{32}"
"""What every artifact's folder is named like."""
PACKED_FACTS = "factsPacked"
"""Facts as base64 of zlib of JSON: sixteen adapters do not fit a termination message otherwise."""
LARGEST_FACTS_BYTES = 1024 * 1024
TEXT_OBJECTS = ("text_config", "llm_config", "language_config")
"""Objects in a config.json that describe the language model, where it is not alone."""
CONFIG_OBJECTS = (*TEXT_OBJECTS, "vision_config", "quantization_config")
"""Objects in a config.json that describe a part of the architecture."""
ENCODERS = ("visual", "vision", "image", "multi_modal", "mm_", "audio", "connector")
"""How a part of a tensor's name begins that belongs to an encoder of images or sounds, or to what joins it on."""
_CONFIG_FIELDS = frozenset(
    re.findall(
        r"\w+",
        """
    model_type dtype torch_dtype tie_word_embeddings
    num_hidden_layers n_layer n_layers num_layers depth
    hidden_size n_embd d_model embed_dim
    intermediate_size n_inner ffn_dim ffn_hidden_size mlp_ratio intermediate_size_mlp
    num_attention_heads n_head n_heads num_heads head_dim
    num_key_value_heads n_head_kv num_kv_heads multi_query_group_num multi_query new_decoder_architecture
    vocab_size padded_vocab_size
    max_position_embeddings n_positions max_seq_len seq_length
    attention_bias qkv_bias add_qkv_bias mlp_bias bias use_qk_norm
    layer_types sliding_window sliding_window_pattern use_sliding_window max_window_layers
    attention_chunk_size no_rope_layers interleave_moe_layer_step moe_layers
    num_experts num_local_experts n_routed_experts moe_num_experts num_experts_per_tok moe_intermediate_size
    n_shared_experts shared_expert_intermediate_size shared_intermediate_size first_k_dense_replace moe_layer_freq
    decoder_sparse_step mlp_only_layers
    q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim num_nextn_predict_layers
    full_attention_interval linear_num_key_heads linear_num_value_heads linear_key_head_dim linear_value_head_dim
    linear_conv_kernel_dim attn_layer_period attn_layer_offset attn_layer_indices hybrid_override_pattern
    expert_layer_period expert_layer_offset
    mamba_d_state mamba_d_conv mamba_expand mamba_n_heads mamba_d_head mamba_n_groups
    ssm_state_size conv_kernel mamba_num_heads mamba_head_dim n_groups
    patch_size temporal_patch_size in_channels in_chans num_channels image_size out_hidden_size spatial_merge_size
    quant_method bits w_bit group_size q_group_size zero_point sym weight_block_size format
    num_bits strategy symmetric type
    """,
    )
)
_LONGEST_CONFIG_LIST = 512
_DEEPEST_CONFIG = 4
BEYOND = "+"
"""In a tensor group's name, what comes after the decoder and only speculation loads: a layer's number, or mtp."""


Notes = Annotated[tuple[str, ...], Field(exclude_if=lambda notes: not notes)]
"""Sentences for people; JSON has none where there are none."""


class Contract(BaseModel):
    """Frozen, camelCase in JSON; fields that a newer peer added are ignored. Docstrings of fields are in the CRD."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", use_attribute_docstrings=True
    )

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Step(StrEnum):
    INSPECT = "inspect"
    MERGE = "merge"
    QUANTIZE = "quantize"
    VERIFY = "verify"
    FETCH = "fetch"
    ARTIFACTS = "artifacts"
    """What a person does with a store; no part of a build."""


class ExitCode(IntEnum):
    DONE = 0
    RETRY = 1
    INVALID_INPUT = 2


class Outcome(StrEnum):
    DONE = "Done"
    INVALID_INPUT = "InvalidInput"
    """The input is wrong: a retry without a change is useless."""
    FAILED = "Failed"
    """Something else went wrong: a retry may help."""


EXIT_CODES = {
    Outcome.DONE: ExitCode.DONE,
    Outcome.INVALID_INPUT: ExitCode.INVALID_INPUT,
    Outcome.FAILED: ExitCode.RETRY,
}


class QuantizedBase(StrEnum):
    """What a QLoRA adapter is added to."""

    FULL_PRECISION = "FullPrecision"
    """The base as it is stored."""
    NF4_ROUND_TRIP = "NF4RoundTrip"
    """The base as 4-bit NormalFloat leaves it, which is what the adapter was trained on."""


class TensorGroup(Contract):
    """Tensors that are alike: one per layer, or one per layer and expert."""

    name: str
    """Their name, with `*` for each number in it: model.layers.*.self_attn.q_proj.weight."""
    shape: tuple[int, ...]
    """The shape of each."""
    dtype: str
    """safetensors' name of the dtype of each: BF16."""
    count: int
    """How many there are."""


class BaseFacts(Contract):
    """What configs and safetensors headers say of a base model; no weights are read."""

    uri: str
    """Resolved: an hf:// URI carries the commit."""
    digest: str
    """`sha256:…` over names, sizes and content identities of the files that a merge reads or copies."""
    architecture: str
    """The class that config.json names: LlamaForCausalLM."""
    model_type: str
    """The family that config.json names: llama."""
    dtype: str
    """safetensors' name of the dtype that holds most bytes: BF16, F16, F32."""
    parameters: int
    """How many numbers the weights hold, tied ones once."""
    weight_bytes: int
    """Bytes of all tensors."""
    layers: int
    """How many decoder layers there are."""
    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int | None = None
    """Width inside an MLP; absent if config.json does not say."""
    attention_heads: int
    """Query heads per layer."""
    key_value_heads: int
    """Key and value heads per layer; fewer than query heads with grouped-query attention."""
    head_size: int
    """Width of one head."""
    vocabulary_size: int
    """Rows of the embedding."""
    max_position_embeddings: int
    """The longest context that the model was made for, in tokens."""
    tied_embeddings: bool
    """Whether the output layer shares the embedding's weights."""
    tensors: tuple[TensorGroup, ...] | None = None
    """All tensors of the weight files, alike ones together; absent if an older version looked."""
    config: dict[str, str] | None = None
    """What config.json says of the architecture: JSON by dotted name, as in text_config.num_hidden_layers. Absent if
    an older version looked."""


class AdapterFacts(Contract):
    """What adapter_config.json and the adapter's safetensors header say."""

    uri: str
    """Resolved: an hf:// URI carries the commit."""
    digest: str
    """`sha256:…` over names, sizes and content identities of the files that a merge reads."""
    rank: int
    """The inner width of the low-rank matrices."""
    alpha: float
    """What PEFT calls lora_alpha."""
    scaling: float
    """alpha / rank, or alpha / sqrt(rank) with rsLoRA; a source's scale is not included."""
    target_modules: tuple[str, ...]
    """Last components of the names of the adapted layers, sorted: q_proj, v_proj, …"""
    layers_adapted: int
    """How many weight matrices the adapter changes."""
    dtype: str
    """safetensors' name of the dtype that holds most bytes."""
    weight_bytes: int
    """Bytes of all tensors."""
    kinds: tuple[str, ...] | None = None
    """What the adapter consists of: LoRA, DoRA, Bias, Embedding, Experts, Modules, Tokens."""
    dynamic_objections: tuple[str, ...] | None = None
    """Why vLLM cannot serve the adapter unmerged; empty if it can."""


class Facts(Contract):
    """What the inspect step learned of all sources."""

    base: BaseFacts
    """The base model."""
    adapters: tuple[AdapterFacts, ...]
    """The adapters, in the order they are applied."""


class Artifact(Contract):
    """A complete artifact in a store."""

    key: str
    """Its name in the store, derived from its inputs and recipe."""
    uri: str
    """Where it is."""
    digest: str
    """`sha256:…` of its manifest.json."""
    total_bytes: int
    """Bytes of all its files."""
    files: int
    """How many files it has."""


class Check(Contract):
    """One thing that was measured, beside what it may be."""

    name: str
    """MergeAgrees, AdapterEffect, QuantizedDivergence, …"""
    value: float
    """The figure; 1e308 where it is not finite."""
    bound: float
    """What the figure is compared with: the largest that passes, or the smallest for AdapterEffect."""
    unit: str
    """nats/token, differences, answers."""
    passed: bool
    """Whether the figure is within its bound."""


class Verification(Contract):
    """Whether what would be served says what was trained; verification.json in the artifact has more."""

    passed: bool
    """All checks are."""
    checks: Annotated[tuple[Check, ...], Field(max_length=64)]
    """What was measured."""


class Report(Contract):
    """How a step ended: the last line of its stdout and its termination message."""

    step: Step
    outcome: Outcome
    reason: str
    """CamelCase; becomes the condition's reason and the Event's."""
    message: str
    """One sentence naming the file or field, the value and what to do."""
    facts: Facts | None = None
    artifact: Artifact | None = None
    notes: Notes = ()
    """What people should know of the result; the manifest has all of them."""
    verification: Verification | None = None
    """Of the verify step, which is Done whatever it finds."""
    reused: bool = False
    """The artifact was complete before the step began."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        return EXIT_CODES[self.outcome]

    @model_validator(mode="before")
    @classmethod
    def _unpack_facts(cls, data: Any) -> Any:
        if not isinstance(data, dict) or PACKED_FACTS not in data:
            return data
        rest = {name: value for name, value in data.items() if name != PACKED_FACTS}
        packed = zlib.decompressobj().decompress(base64.b64decode(data[PACKED_FACTS]), LARGEST_FACTS_BYTES)
        return {**rest, "facts": json.loads(packed)}

    def termination_message(self) -> str:
        """One line of JSON, at most TERMINATION_MESSAGE_BYTES, that `model_validate_json` reads.

        Facts that make it longer are packed, then notes are left out from the end, then the message is cut; never the
        JSON.
        """
        content = self.to_json()
        if len(_line(content)) > TERMINATION_MESSAGE_BYTES and self.facts:
            facts = zlib.compress(_line(content.pop("facts")).encode(), 9)
            content[PACKED_FACTS] = base64.b64encode(facts).decode()
        while len(_line(content)) > TERMINATION_MESSAGE_BYTES and content.get("notes"):
            content["notes"] = content["notes"][:-1]
        excess = len(_line(content)) - TERMINATION_MESSAGE_BYTES
        if excess > 0:
            room = len(_line(self.message)) - excess
            kept = (
                bisect_right(range(len(self.message)), room, key=lambda end: len(_line(self.message[:end] + "…"))) - 1
            )
            content["message"] = self.message[: max(0, kept)] + "…"
        return _line(content)


class ManifestFile(Contract):
    path: str
    size: int
    sha256: str


class ManifestInput(Contract):
    """A source as it was read."""

    role: str
    """base or adapter; merged: the artifact that was quantized, with its manifest's digest; calibration."""
    uri: str
    digest: str
    scale: float | None = None


class Manifest(Contract):
    """The last file written: what an artifact holds and where it came from. Equal inputs give equal bytes."""

    schema_version: int = 1
    key: str
    step: Step
    recipe: int
    inputs: tuple[ManifestInput, ...]
    quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION
    max_shard_size: int | None = None
    """In bytes; absent where the weight files are the base's."""
    quantization: dict[str, bool | int | str] | None = None
    """method (gguf or awq), and what it was asked: type, or bits, groupSize, zeroPoint and engine."""
    files: tuple[ManifestFile, ...]
    tools: dict[str, str] = Field(default_factory=dict)
    measurements: dict[str, int | float] = Field(default_factory=dict)
    notes: Notes = ()
    """What people should know of the result: tensors that fell back to another type, widths that were padded."""


class StoredArtifact(Contract):
    """A folder of a store that is named like an artifact, whether complete or not."""

    key: str
    complete: bool
    """Its manifest is there and can be read, and so are its files, in their sizes."""
    total_bytes: int
    files: int
    written: AwareDatetime | None = None
    """When something in it was last written."""
    inputs: tuple[ManifestInput, ...] = ()
    notes: tuple[str, ...] = ()
    """Why it is not complete, not as it was written, or to be removed."""


class Catalogue(Contract):
    """What `artifacts list|show|verify|gc` found or did: the last line of its stdout."""

    outcome: Outcome
    reason: str
    message: str
    artifacts: tuple[StoredArtifact, ...] = ()
    manifest: Manifest | None = None


def of_encoder(tensor: str) -> bool:
    """Whether a tensor, by its name, is outside of the language model: those are neither quantized nor padded."""
    return any(part.startswith(ENCODERS) for part in tensor.split("."))


def holds_experts(tensor: str, shape: Sequence[int]) -> bool:
    """Whether one tensor, by its name, is a matrix of each expert of a layer: engines of AWQ do not read those."""
    return len(shape) == 3 and any(part.endswith(("experts", "moe")) for part in tensor.split("."))


def progress_in(log_line: str) -> str | None:
    """The progress that a step wrote to its log: `3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left`; None: none."""
    found = PROGRESS_LINE.fullmatch(log_line.strip())
    return found[1] if found else None


def merge_key(
    base_digest: str,
    adapters: list[tuple[str, float]],
    quantized_base: QuantizedBase = QuantizedBase.FULL_PRECISION,
    max_shard_size: int | None = None,
) -> str:
    """The key of a merged model: adapters are (digest, scale), in the order they are applied."""
    content: dict[str, Any] = {
        "step": Step.MERGE,
        "recipe": MERGE_RECIPE,
        "base": base_digest,
        "adapters": [{"digest": digest, "scale": float(scale)} for digest, scale in adapters],
    }
    if quantized_base is not QuantizedBase.FULL_PRECISION:
        content["quantizedBase"] = quantized_base
    if max_shard_size is not None:
        content["maxShardSize"] = max_shard_size
    return "merge-" + _digest(content)


def awq_key(
    merged_key: str,
    bits: int,
    group_size: int,
    zero_point: bool,
    engine: str,
    calibration_digest: str,
    tensor_parallel: tuple[int, ...] = (1,),
) -> str:
    """The key of an AWQ model. `merged_key` is the merged artifact's, or the digest of a model that is none.

    `tensor_parallel` are the sizes that it is to be served with: they decide the group size and an MLP's padding.
    """
    content: dict[str, Any] = {
        "step": Step.QUANTIZE,
        "recipe": AWQ_RECIPE,
        "model": merged_key,
        "bits": bits,
        "groupSize": group_size,
        "zeroPoint": zero_point,
        "engine": engine,
        "calibration": calibration_digest,
    }
    sizes = sorted({1, *tensor_parallel})
    if sizes != [1]:
        content["tensorParallel"] = sizes
    return "awq-" + _digest(content)


def gguf_key(merged_key: str, type: str, importance_digest: str | None = None) -> str:
    """The key of a GGUF model. `importance_digest` is of the text that an importance matrix was computed from."""
    content = {"step": Step.QUANTIZE, "recipe": GGUF_RECIPE, "model": merged_key, "type": type}
    if importance_digest is not None:
        content["importance"] = importance_digest
    return "gguf-" + _digest(content)


def verify_key(inputs: list[tuple[str, str, float | None]], settings: dict[str, Any]) -> str:
    """The key of a verification. Inputs are (role, digest, scale) in order; settings are what a verdict depends on."""
    return "verify-" + _digest(
        {
            "step": Step.VERIFY,
            "recipe": VERIFY_RECIPE,
            "inputs": [{"role": role, "digest": digest, "scale": scale} for role, digest, scale in inputs],
            "settings": settings,
        }
    )


def architecture_config(config: Mapping[str, Any]) -> dict[str, str]:
    """What planning reads of a config.json, small enough for a termination message: JSON by dotted name.

    Numbers, words, truth values and lists of them; what is null is left out.
    """
    found = dict(_config_fields(config, ()))
    for name in CONFIG_OBJECTS:
        if isinstance(config.get(name), Mapping):
            found |= _config_fields(config[name], (name,))
    return found


def _config_fields(config: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in config.items():
        if name in _CONFIG_FIELDS and _is_plain(value):
            found[".".join((*path, name))] = json.dumps(value, separators=(",", ":"))
        elif path[:1] == ("quantization_config",) and isinstance(value, Mapping) and len(path) < _DEEPEST_CONFIG:
            found |= _config_fields(value, (*path, name))
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _LONGEST_CONFIG_LIST and all(isinstance(item, bool | int | float | str) for item in value)
    return isinstance(value, bool | int | float | str)


def _line(content: dict[str, Any] | str) -> str:
    return json.dumps(content, ensure_ascii=True, separators=(",", ":"))


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
