"""The spec of a FineTunedModel: everything a user may write, and where each promise about it is made.

Defaults, bounds and rules live here once; the CRD, the reference page and `ftm run` all come from these models.
Nothing is decided here: what a field leaves open is the planner's.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import (
    ATOMIC_LIST,
    ATOMIC_MAP,
    MapList,
    Quantity,
    Resource,
    Rule,
    full_match,
    full_match_cel,
    matches,
)

HUGGING_FACE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
HUGGING_FACE = rf"hf://{HUGGING_FACE_NAME}/{HUGGING_FACE_NAME}(@[A-Za-z0-9](\.?[A-Za-z0-9_/-])*)?"
S3 = r"s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/\.*[^/,.\x00-\x20\x7f][^/,\x00-\x20\x7f]*)*/?"
DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_SUBDOMAIN = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
CLAIM = rf"pvc://{DNS_SUBDOMAIN}(/\.*[^/,.\x00-\x20\x7f][^/,\x00-\x20\x7f]*)*/?"
FILE = re.compile(r"file:///[^,\x00-\x20\x7f]*")
SOURCES = "hf://org/name, hf://org/name@revision, s3://bucket/prefix or pvc://claim/path"
STORES = "s3://bucket/prefix or pvc://claim/path"


def _uri(patterns: str, is_not_one: str, instead: str) -> tuple[Rule, Rule, Rule]:
    matched = full_match(patterns)
    return (
        Rule(
            "{value} can be read by `ftm run` alone: a Pod does not see your files; write " + instead,
            "!self.startsWith('file://')",
            None,
        ),
        Rule(
            "{value} is not an absolute path; write file:///path, with %20 for a space and %2C for a comma",
            None,
            lambda uri: not uri.startswith("file://") or FILE.fullmatch(uri) is not None,
        ),
        Rule(
            f"{{value}} {is_not_one}; write {instead}",
            f"self.startsWith('file://') || {full_match_cel(patterns)}",
            lambda uri: uri.startswith("file://") or matched(uri),
        ),
    )


URI = Field(min_length=1, max_length=1024)
SourceURI = Annotated[str, URI, *_uri(f"{HUGGING_FACE}|{S3}|{CLAIM}", "is not a source", SOURCES)]
StoreURI = Annotated[str, URI, *_uri(f"{S3}|{CLAIM}", "is not a store that can be written to", STORES)]
NO_SECRET_FOR_A_CLAIM = Rule(
    "a claim is mounted and needs no credentials; remove secretName",
    "!has(self.secretName) || !self.uri.startsWith('pvc://')",
    lambda source: source.secret_name is None or not source.uri.startswith("pvc://"),
)

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(
        DNS_SUBDOMAIN,
        "{value} cannot be an object's name; write lower-case letters, digits, '-' and '.', as in models-s3",
    ),
]
SecretKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(r"[-._A-Za-z0-9]+", "{value} cannot be a key of a Secret; write letters, digits, '-', '_' and '.'"),
]
LabelKey = Annotated[str, Field(max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]


class Base(Resource):
    """Where the base model is."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    uri: SourceURI
    """The base model's directory: hf://org/name, hf://org/name@revision, s3://bucket/prefix, or pvc://claim/path in a
    PersistentVolumeClaim of this namespace. What it points to is resolved once and pinned; change the annotation
    ftm.dev/refresh to take what it points to now."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, by their usual names: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_S3_ADDRESSING_STYLE (path or virtual),
    AWS_NO_SIGN_REQUEST (true: anonymous) and AWS_CA_BUNDLE (certificates), or HF_TOKEN, HF_ENDPOINT and SSL_CERT_FILE
    (certificates)."""


class Adapter(Resource):
    """A LoRA adapter, as PEFT saves it."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        matches(DNS_LABEL, "{value} cannot be an adapter's name; write lower-case letters, digits and '-'"),
    ]
    """What the adapter is called in messages; each adapter has its own name."""
    uri: SourceURI
    """The adapter's directory, with adapter_config.json and adapter_model.safetensors in it: hf://org/name,
    hf://org/name@revision, s3://bucket/prefix or pvc://claim/path."""
    scale: Annotated[
        float,
        Field(strict=True, ge=-100, le=100, allow_inf_nan=False),
        Rule("0 leaves the adapter out; remove it from adapters", "self != 0.0", lambda scale: scale != 0),
    ] = 1
    """A factor on what the adapter changes, on top of its own alpha / rank; 1 is as it was trained."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, under the same keys as the base's."""


class ArtifactStore(Resource):
    """Where finished artifacts are kept."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    uri: StoreURI
    """A prefix that the operator's Jobs may write to: s3://bucket/prefix, or pvc://claim/path in a
    PersistentVolumeClaim of this namespace. Each artifact is a directory in it, named by its key; resources that build
    the same thing from the same inputs share it."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for the store, under the same keys as the base's."""


class SecretKeySelector(Resource):
    """One key of a Secret."""

    name: ObjectName
    """The Secret's name, in this namespace."""
    key: SecretKey
    """The key in the Secret."""


class EnvVarSource(Resource):
    """Where a variable's value comes from."""

    secret_key_ref: SecretKeySelector
    """A key of a Secret."""


class EnvVar(Resource):
    """An environment variable of the serving container."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a variable has exactly one source; write value or valueFrom.secretKeyRef",
            "has(self.value) != has(self.valueFrom)",
            lambda variable: (variable.value is None) != (variable.value_from is None),
        ),
    )
    name: Annotated[
        str,
        Field(min_length=1, max_length=253),
        matches(r"[A-Za-z_][A-Za-z0-9_]*", "{value} cannot be a variable's name; write letters, digits and '_'"),
    ]
    """The variable's name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """The variable's value."""
    value_from: EnvVarSource | None = None
    """Where the value comes from, instead of `value`."""


class Toleration(Resource):
    """A taint that Pods accept, as in a Pod's own spec."""

    key: LabelKey | None = None
    """The taint's key; absent with operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] | None = None
    """How the value is compared; Equal if absent."""
    value: LabelValue | None = None
    """The taint's value, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; absent: every effect."""
    toleration_seconds: Annotated[int, Field(strict=True)] | None = None
    """For how long a NoExecute taint is tolerated, in seconds; absent: for ever."""


class ResourceRequirements(Resource):
    """CPU and memory of a container, as in a Pod's own spec."""

    requests: Annotated[dict[str, Quantity], Field(max_length=64)] = Field(default_factory=dict)
    """What is reserved for the container."""
    limits: Annotated[dict[str, Quantity], Field(max_length=64)] = Field(default_factory=dict)
    """What the container may not exceed."""


class Calibration(Resource):
    """Text that a quantizer looks at, and that its result is measured on."""

    rules: ClassVar[tuple[Rule, ...]] = (NO_SECRET_FOR_A_CLAIM,)
    uri: Annotated[
        SourceURI,
        Rule("{value} is not a .jsonl file; name one", "self.endsWith('.jsonl')", lambda uri: uri.endswith(".jsonl")),
    ]
    """A .jsonl file in a store: a line for each sample, with a text or with the messages of a conversation."""
    secret_name: ObjectName | None = None
    """A Secret in this namespace with the credentials for this source, under the same keys as the base's."""


class AWQ(Resource):
    """How AWQ quantizes: 4 bits, with a zero point for each group of weights."""

    group_size: Literal[128, 64, 32] | None = None
    """How many weights share a scale; absent: the largest of 128, 64 and 32 that every layer's width divides by, on
    every accelerator of a replica."""
    engine: Literal["Auto", "AutoAWQ", "LLMCompressor"] = "Auto"
    """What quantizes; Auto: AutoAWQ for the architectures it knows, else LLMCompressor. vLLM serves what either
    makes."""


class GGUF(Resource):
    """How llama.cpp's converter and quantizer are called."""

    type: Literal["Q2_K", "Q4_0", "Q4_K_M", "Q5_K_M", "Q8_0", "F16", "BF16"] = "Q4_K_M"
    """How weights are stored; smaller numbers are smaller files and larger errors. F16 and BF16 quantize nothing."""
    strict: Annotated[bool, Field(strict=True)] = False
    """Refuse a type that cannot store every weight as it should, where widths make llama.cpp fall back to others."""
    importance_matrix: Annotated[bool, Field(strict=True)] = False
    """Weigh errors by what quantization.calibration activates; it takes as long as reading that text on a CPU."""


class Quantization(Resource):
    """How the merged weights are made smaller."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "gguf.importanceMatrix is computed from text; set calibration.uri",
            "!has(self.gguf) || !self.gguf.importanceMatrix || has(self.calibration)",
            lambda quantization: not quantization.gguf.importance_matrix or quantization.calibration is not None,
        ),
    )
    method: Literal["Auto", "None", "AWQ", "GGUF"] = "Auto"
    """Auto: GGUF for llama.cpp; for vLLM AWQ under objective Throughput, and None under Quality. None: the weights are
    served as they were merged."""
    awq: AWQ = AWQ()
    """How AWQ quantizes, if it does."""
    gguf: GGUF = GGUF()
    """How GGUF files are made, if they are."""
    calibration: Calibration | None = None
    """The text for calibration, and, its last quarter, for measuring; absent: a small set that comes with the
    operator."""


class Accelerator(Resource):
    """What kind of device each replica asks for."""

    resource: Annotated[
        str,
        Field(min_length=1, max_length=317),
        matches(
            rf"{DNS_SUBDOMAIN}/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
            "{value} is not an extended resource; write domain/name, as in nvidia.com/gpu",
        ),
    ] = "nvidia.com/gpu"
    """The extended resource that a device plugin offers."""
    allocation: Literal["DevicePlugin", "DynamicResources"] = "DevicePlugin"
    """How pods get their GPUs. DevicePlugin: as that extended resource. DynamicResources: by a ResourceClaim, from what
    a driver publishes in ResourceSlices; any GPU with the memory that the plan needs will do."""


NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=64), ATOMIC_MAP]
Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=64), ATOMIC_LIST]

MANAGED_FLAGS = {
    "--model": "the artifact is served",
    "--host": "probes and the Service need it",
    "--port": "probes and the Service need it",
    "--uds": "probes and the Service need the port",
    "--api-key": "set spec.serving.apiKeySecretName",
    "--served-model-name": "set spec.serving.servedModelName",
    "--max-model-len": "set spec.serving.maxModelLen",
    "--dtype": "set spec.serving.dtype",
    "--tensor-parallel-size": "set spec.serving.tensorParallelSize",
    "-tp": "set spec.serving.tensorParallelSize",
    "--gpu-memory-utilization": "set spec.serving.gpuMemoryUtilization",
    "-m": "the artifact is served",
    "--alias": "set spec.serving.servedModelName",
    "-a": "set spec.serving.servedModelName",
    "--ctx-size": "set spec.serving.maxModelLen",
    "-c": "set spec.serving.maxModelLen",
    "--parallel": "set spec.serving.concurrency",
    "-np": "set spec.serving.concurrency",
    "--threads": "set spec.serving.resources.limits.cpu",
    "-t": "set spec.serving.resources.limits.cpu",
    "--shutdown-timeout": "a Pod is given as long as it has to finish what it answers",
}
"""vLLM's and llama-server's flags that the operator sets, and what to do instead of writing them in extraArgs."""


def _managed_flag(flag: str, instead: str) -> Rule:
    """vLLM takes _ for - in a flag's name, and --flag=value for --flag value."""
    written = flag.replace("-", "[-_]") + r"(=(.|\n)*)?"
    holds = full_match(written)
    return Rule(
        f"{flag} is the operator's to set: {instead}",
        f"!self.exists(argument, {full_match_cel(written, 'argument')})",
        lambda arguments: not any(holds(argument) for argument in arguments),
    )


EXTRA_ARGS_RULES = tuple(_managed_flag(flag, instead) for flag, instead in MANAGED_FLAGS.items())


class Serving(Resource):
    """How the model is served."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "apiKeySecretName sets VLLM_API_KEY already; remove VLLM_API_KEY from env",
            "!has(self.apiKeySecretName) || !has(self.env) || !self.env.exists(e, e.name == 'VLLM_API_KEY')",
            lambda serving: (
                serving.api_key_secret_name is None or all(each.name != "VLLM_API_KEY" for each in serving.env)
            ),
        ),
    )
    engine: Literal["Auto", "vLLM", "LlamaCpp"] = "Auto"
    """What serves the model; Auto: llama.cpp for GGUF and on CPUs, else vLLM."""
    device: Literal["Auto", "GPU", "CPU"] = "Auto"
    """Where the model is served; Auto: on CPUs with llama.cpp, else on GPUs."""
    concurrency: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """How many requests of the whole context a replica holds at once: llama.cpp's slots, absent: 4; of vLLM, whose
    cache is shared among as many as fit, what GPUs are chosen for, absent: 8."""
    replicas: Annotated[int, Field(strict=True, ge=0, le=1000)] = 1
    """How many serving Pods there are; `kubectl scale` and autoscalers set it. 0 keeps the artifact and serves
    nothing."""
    max_model_len: Annotated[int, Field(strict=True, ge=1, le=100_000_000)] | None = None
    """The longest context, prompt and answer together, in tokens; absent: what the model was made for."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the engine computes in; auto: as the merged weights are stored."""
    tensor_parallel_size: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """Over how many accelerators each replica is split; absent: 1. The model's attention heads must divide by it."""
    accelerator: Accelerator = Accelerator()
    """What kind of device each replica asks for."""
    gpu_memory_utilization: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] | None = None
    """The share of each accelerator's memory that the engine may fill; absent: the engine's own default."""
    served_model_name: (
        Annotated[
            str,
            Field(min_length=1, max_length=128),
            matches(
                r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*",
                "{value} cannot be a served model's name; write letters, digits and . _ : / @ + -, without spaces",
            ),
        ]
        | None
    ) = None
    """What requests call the model, in their field `model`; absent: the resource's name."""
    api_key_secret_name: ObjectName | None = None
    """A Secret in this namespace whose key VLLM_API_KEY every request must carry as its bearer token; absent: no key
    is asked for."""
    extra_args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...],
        Field(max_length=64),
        ATOMIC_LIST,
        *EXTRA_ARGS_RULES,
    ] = ()
    """More arguments for the engine, one per item: --enforce-eager, --max-num-seqs=64. What another field sets is
    refused."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), MapList("name")] = ()
    """Environment variables of the serving container."""
    resources: ResourceRequirements | None = None
    """CPU and memory of the serving container; absent: worked out from the model's size."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a node must have to run serving Pods."""
    tolerations: Tolerations = ()
    """Taints of nodes that serving Pods may run on all the same."""


class Jobs(Resource):
    """How the steps that build artifacts run."""

    service_account_name: ObjectName | None = None
    """The ServiceAccount of the Jobs' Pods, for stores that trust one (workload identity); absent: the namespace's
    default. The Pods are not given its Kubernetes token."""
    active_deadline_seconds: Annotated[int, Field(strict=True, ge=60, le=31_536_000)] | None = None
    """How long one Job may take, with its retries, in seconds; absent: as long as it needs."""
    resources: ResourceRequirements | None = None
    """CPU and memory of a step's container; absent: worked out from the model's size."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels that a node must have to run Jobs."""
    tolerations: Tolerations = ()
    """Taints of nodes that Jobs may run on all the same."""


GGUF_NEEDS_LLAMA_CPP = Rule(
    "vLLM does not read GGUF; set serving.engine to LlamaCpp, or quantization.method to AWQ or None",
    "self.quantization.method != 'GGUF' || self.serving.engine != 'vLLM'",
    lambda spec: spec.quantization.method != "GGUF" or spec.serving.engine != "vLLM",
)
LLAMA_CPP_NEEDS_GGUF = Rule(
    "llama.cpp reads GGUF alone; set quantization.method to GGUF, with gguf.type BF16 for weights that are not "
    "quantized, or serving.engine to vLLM",
    "self.serving.engine != 'LlamaCpp' || self.quantization.method in ['Auto', 'GGUF']",
    lambda spec: spec.serving.engine != "LlamaCpp" or spec.quantization.method in ("Auto", "GGUF"),
)
LLAMA_CPP_NEEDS_CPU = Rule(
    "llama.cpp is served on CPUs here; set serving.device to CPU, or serving.engine to vLLM with quantization.method "
    "AWQ or None",
    "self.serving.device != 'GPU' || (self.serving.engine != 'LlamaCpp' && self.quantization.method != 'GGUF')",
    lambda spec: (
        spec.serving.device != "GPU" or (spec.serving.engine != "LlamaCpp" and spec.quantization.method != "GGUF")
    ),
)
VLLM_NEEDS_GPU = Rule(
    "vLLM is served on GPUs here; set serving.device to GPU, or serving.engine to LlamaCpp with quantization.method "
    "GGUF",
    "self.serving.device != 'CPU' || (self.serving.engine != 'vLLM' && self.quantization.method in ['Auto', 'GGUF'])",
    lambda spec: (
        spec.serving.device != "CPU" or (spec.serving.engine != "vLLM" and spec.quantization.method in ("Auto", "GGUF"))
    ),
)


class Message(Resource):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """Who says it."""
    content: Annotated[str, Field(min_length=1, max_length=8192)]
    """What is said."""


class Prompt(Resource):
    """A question to the models, and what the answer must hold."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a question is asked in one way; write prompt or messages",
            "has(self.prompt) != has(self.messages)",
            lambda prompt: (prompt.prompt is None) != (prompt.messages is None),
        ),
    )
    prompt: Annotated[str, Field(min_length=1, max_length=8192)] | None = None
    """Text that is continued as it stands."""
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=16), ATOMIC_LIST] | None = None
    """A conversation, written with the model's own chat template and answered."""
    expect: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(max_length=16), ATOMIC_LIST
    ] = ()
    """What the greedy answer of the model that is served must hold, each of them."""


class Verification(Resource):
    """How it is proven that what is served is what was trained, and what happens when it is not."""

    prompts: Annotated[tuple[Prompt, ...], Field(max_length=32), ATOMIC_LIST] = ()
    """Questions whose answers the report shows side by side."""
    max_divergence: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] | None = None
    """The largest mean Kullback-Leibler divergence of the quantized model from the merged one, in nats per token;
    absent: what plain rounding to as many bits would give."""
    policy: Literal["Block", "Warn"] = "Block"
    """Block: a model that fails a check is not rolled out. Warn: it is, and the condition Verified says so."""


class FineTunedModelSpec(Resource):
    """What to build and how to serve it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        GGUF_NEEDS_LLAMA_CPP,
        LLAMA_CPP_NEEDS_GGUF,
        LLAMA_CPP_NEEDS_CPU,
        VLLM_NEEDS_GPU,
    )
    base: Base
    """The base model."""
    adapters: Annotated[tuple[Adapter, ...], Field(min_length=1, max_length=16), MapList("name")]
    """The adapters, merged into the base in this order."""
    quantized_base: Literal["FullPrecision", "NF4RoundTrip"] = "FullPrecision"
    """What an adapter that was trained on a 4-bit base (QLoRA) is added to. FullPrecision: the base as it is stored.
    NF4RoundTrip: the base as 4-bit NormalFloat leaves it, which is what such an adapter was trained on."""
    objective: Literal["Quality", "Throughput"] = "Quality"
    """What Auto leans on where both cannot be had. Quality: the weights as they were merged. Throughput: 4-bit weights,
    which answer faster on fewer GPUs and say almost the same."""
    quantization: Quantization = Quantization()
    """How the merged weights are made smaller."""
    verification: Verification = Verification()
    """How it is proven that what is served is what was trained."""
    artifacts: ArtifactStore | None = None
    """Where what is built is kept; absent: the store the operator was installed with."""
    serving: Serving = Serving()
    """How the model is served."""
    jobs: Jobs = Jobs()
    """How the steps that build artifacts run."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """Stop building and rolling out; what serves goes on serving."""
