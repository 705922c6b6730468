"""Holds the settings of serving, with the flags that the operator sets itself."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, MapList, Quantity, Resource, Rule, full_match, full_match_cel, matches
from ftm_operator.api.spec.autoscaling import Autoscaling
from ftm_operator.api.spec.canary import Canary
from ftm_operator.api.spec.gateway import Gateway
from ftm_operator.api.spec.kubernetes_fields import (
    DNS_SUBDOMAIN,
    ObjectName,
    ResourceRequirements,
)
from ftm_operator.api.spec.pod_fields import PodFields
from ftm_operator.api.spec.pod_names import STEP_CONTAINERS
from ftm_operator.api.spec.pod_template import elsewhere
from ftm_operator.api.spec.served_names import ServedName
from ftm_operator.api.spec.serving_children import DisruptionBudget, Fetch, NodeCache, Probes, ServingService

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


class Accelerator(Resource):
    """The kind of device that each replica asks for."""

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
    """The way that Pods get their GPUs. DevicePlugin: as that extended resource. DynamicResources: by a ResourceClaim,
    from the ResourceSlices that a driver publishes; any GPU with the planned memory will do."""


LORA_FLAG = (
    r"--((no-)?enable-lora|lora-modules|max-loras|max-lora-rank|max-cpu-loras)".replace("-", "[-_]") + r"(=(.|\n)*)?"
)
"""vLLM's flags that mode Dynamic sets."""


class Dynamic(Resource):
    """The adapters that an engine holds beside the base, in mode Dynamic; what is absent follows the adapters."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "an adapter in a batch is in the host's memory too; set cpuSlots to slots or more",
            "!has(self.slots) || !has(self.cpuSlots) || self.slots <= self.cpuSlots",
            lambda dynamic: not (dynamic.slots and dynamic.cpu_slots) or dynamic.slots <= dynamic.cpu_slots,
        ),
    )
    max_rank: Annotated[int, Field(strict=True, ge=1, le=512)] | None = None
    """The largest rank of an adapter, for which memory is kept; absent: the largest of the adapters that there are, 16
    at least. An adapter of a larger rank starts the engines anew with more."""
    slots: Annotated[int, Field(strict=True, ge=1, le=256)] | None = None
    """The adapters that one batch may mix, each with memory of its own on the GPU; absent: as many as there are, from 4
    to 8, as far as they fit."""
    cpu_slots: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None
    """The adapters that are kept in the host's memory; absent: as many as there are, 32 at least. Others are read from
    the Pod's disk when they are asked."""
    disk: Quantity | None = None
    """The disk of each Pod for adapters; absent: 20Gi."""
    resources: ResourceRequirements | None = None
    """CPU and memory of the container that fetches and loads adapters. A resource that is in neither requests nor
    limits is the operator's: cpu 50m, memory 128Mi and at most 1Gi."""


class ServingSpec(PodFields):
    """The engine that serves the model, its Pods and their hardware."""

    rules: ClassVar[tuple[Rule, ...]] = (
        elsewhere(STEP_CONTAINERS, "podTemplate has a container of a step; write it in spec.jobs.podTemplate"),
        Rule(
            "apiKeySecretName sets VLLM_API_KEY already; remove VLLM_API_KEY from env",
            "!has(self.apiKeySecretName) || !has(self.env) || !self.env.exists(e, e.name == 'VLLM_API_KEY')",
            lambda serving: (
                serving.api_key_secret_name is None or all(each.name != "VLLM_API_KEY" for each in serving.env)
            ),
        ),
        Rule(
            "a cache keeps what is fetched; set loading to Fetch, or remove cache",
            "!has(self.cache) || !has(self.loading) || self.loading in ['Auto', 'Fetch']",
            lambda serving: serving.cache is None or serving.loading in ("Auto", "Fetch"),
        ),
        Rule(
            "a Gateway divides requests between a Canary and what serves; write gateway, or set strategy to Auto",
            "!has(self.strategy) || self.strategy != 'Canary' || has(self.gateway)",
            lambda serving: serving.strategy != "Canary" or serving.gateway is not None,
        ),
        Rule(
            "an endpoint picker picks from one InferencePool, and a Canary would be a second; remove "
            "gateway.inferencePool, or set strategy to Auto",
            "!has(self.strategy) || self.strategy != 'Canary' || "
            "!has(self.gateway) || !has(self.gateway.inferencePool)",
            lambda serving: (
                serving.strategy != "Canary" or serving.gateway is None or serving.gateway.inference_pool is None
            ),
        ),
    )
    engine: Literal["Auto", "vLLM", "LlamaCpp"] = "Auto"
    """The engine; Auto: llama.cpp for GGUF and on CPUs, else vLLM."""
    image: (
        Annotated[
            str,
            Field(min_length=1, max_length=512),
            matches(
                r"[A-Za-z0-9]([A-Za-z0-9._:/@-]*[A-Za-z0-9])?",
                "{value} is not an image; write registry/repository:tag or registry/repository@sha256:..., without "
                "spaces",
            ),
        ]
        | None
    ) = None
    """The engine's image; absent: the installation's. A newer image of the installation waits for the next change of
    `serving`, or for another value of the annotation ftm.dev/rollout."""
    device: Literal["Auto", "GPU", "CPU"] = "Auto"
    """The device that the model is served on; Auto: CPUs with llama.cpp, else GPUs."""
    concurrency: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """Requests of the whole context that a replica holds at once. With llama.cpp these are its slots; absent: 4. With
    vLLM, GPUs are chosen for this number, and more requests share the cache if they are shorter; absent: 8."""
    replicas: Annotated[int, Field(strict=True, ge=0, le=1000)] = 1
    """The number of replicas, which `kubectl scale` and autoscalers set. 0 keeps the artifact and serves nothing. It is
    not used while `autoscaling` is set."""
    autoscaling: Autoscaling | None = None
    """Bounds between which the number of replicas follows the load; absent: `replicas` says it."""
    strategy: Literal["Auto", "Surge", "Recreate", "Canary"] = "Auto"
    """The way to roll out a new version. Surge: a new replica starts before an old one ends, which takes free GPUs.
    Recreate: an old one ends first, one at a time. Auto: Surge where the planned kind of GPU has room for one more
    replica, else Recreate. Canary: Pods of the new version get a growing share of the Gateway's requests, and are
    removed where they fail; then as Auto. It takes `gateway`."""
    canary: Canary | None = None
    """The steps of a Canary, and what it is judged by; absent: 10 percent for 5 minutes, 50 percent for 5 minutes."""
    kept_versions: Annotated[int, Field(strict=True, ge=0, le=16)] = 3
    """Earlier versions that `ftm rollback` can bring back at once. Their artifacts stay in the store."""
    max_model_len: Annotated[int, Field(strict=True, ge=1, le=100_000_000)] | None = None
    """The longest context, prompt and answer together, in tokens; absent: the model's own limit, or as much of it as
    fits."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """The dtype that the engine computes in; auto: that of the merged weights."""
    tensor_parallel_size: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """Accelerators that each layer is split over; the model's attention heads must divide by the number. Absent: the
    smallest number that fits the known kinds of GPU, or 1 where none is known."""
    accelerator: Accelerator = Accelerator()
    """The kind of device that each replica asks for."""
    gpu_memory_utilization: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] | None = None
    """The share of each accelerator's memory that the engine may fill, from 0 to 1; absent: the engine's own
    default."""
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
    """The model's name in the field `model` of requests; absent: the resource's name."""
    dynamic: Dynamic = Dynamic()
    """The adapters that an engine holds beside the base, in mode Dynamic."""
    served_names: Annotated[tuple[ServedName, ...], Field(max_length=16), MapList("name")] = ()
    """Names whose requests are divided over adapters by weights, in mode Dynamic. It takes `gateway.inferencePool`, and
    InferenceModelRewrite in the cluster; without them the condition Ready says so."""
    api_key_secret_name: ObjectName | None = None
    """A Secret in this namespace; every request must carry the value of its key VLLM_API_KEY as a bearer token. Absent:
    no key is asked for."""
    extra_args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...],
        Field(max_length=64),
        ATOMIC_LIST,
        *EXTRA_ARGS_RULES,
    ] = ()
    """More arguments for the engine, one per item: --enforce-eager, --max-num-seqs=64. Arguments that another field
    sets are refused."""
    resources: ResourceRequirements | None = None
    """CPU and memory of the serving container; absent: worked out from the model's size. What is worked out is never
    above a limit that is set here."""
    loading: Literal["Auto", "Fetch", "Stream", "Image"] = "Auto"
    """The way that the weights come to the engine. Fetch: a container fetches the artifact to the Pod's disk, or to
    the node's cache, and proves every digest. Stream: vLLM reads it from S3 straight into its memory; digests are not
    proven then, sizes and the manifest are. Image: the kubelet mounts it as an image volume from the registry of
    spec.artifacts.oci. Auto: Fetch."""
    cache: NodeCache | None = None
    """A folder of each node that keeps artifacts for later Pods, and what vLLM compiled; absent: none. It takes loading
    Fetch. Of what is in it, each digest is proven whenever a Pod starts."""
    fetch: Fetch | None = None
    """The container that fetches the artifact before the engine starts."""
    probes: Probes | None = None
    """The probes of the engine; absent: for an engine that answers within 30 minutes."""
    service: ServingService | None = None
    """The Service in front of the serving Pods; absent: a ClusterIP at port 80."""
    gateway: Gateway | None = None
    """A Gateway that leads to the model from outside; absent: none."""
    disruption_budget: DisruptionBudget | None = None
    """A PodDisruptionBudget for the serving Pods, which draining a node and other evictions keep to; absent: none."""

    @property
    def most_replicas(self) -> int:
        """The number of replicas, or the most that autoscaling may make."""
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas
