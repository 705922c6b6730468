"""Manifests that are refused, each with its sentence: the same table for Python and for a real API server."""

from dataclasses import dataclass
from typing import Any

from tests.unit.operator.api.manifests import minimal

SOURCES = "write hf://org/name, hf://org/name@revision, s3://bucket/prefix or pvc://claim/path"

LABEL_KEYS = "write name or domain/name of letters, digits, '-', '_' and '.', as in nvidia.com/gpu.product"


@dataclass(frozen=True)
class Refusal:
    """One field of an otherwise good manifest, a value it may not have, where it is reported and how."""

    field: str
    value: Any
    sentence: str
    at: str | None = None
    """The place at which the problem is reported, if not the field."""

    @property
    def path(self) -> str:
        return self.at or self.field

    def __str__(self) -> str:
        return f"{self.field}={self.value!r}"[:80]


TEMPLATES = (
    Refusal(
        "spec.serving.podTemplate.spec.containers[0]",
        {"name": "vllm", "args": ["--model", "/other"]},
        "the operator writes this container's command line; set spec.serving.extraArgs for an engine's",
    ),
    Refusal(
        "spec.jobs.podTemplate.spec.containers[0]",
        {"name": "merge", "image": "mine"},
        "this container's image is that of the installation; set spec.serving.image for an engine's, or the chart's "
        "values",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.containers[0]",
        {"name": "llama-server", "resources": {"limits": {"nvidia.com/gpu": 8}}},
        "this container's resources have fields of their own; set resources in spec.serving, spec.serving.fetch or "
        "spec.jobs",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.initContainers[0]",
        {"name": "fetch", "restartPolicy": "Always"},
        "the operator reads how this container ends; leave restartPolicy, terminationMessagePath and "
        "terminationMessagePolicy out",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.containers[0]",
        {"name": "vllm", "volumeMounts": [{"mountPath": "/model/config.json", "name": "mine"}]},
        "the operator mounts a volume of its own at one of these paths or above it; choose another path",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.containers[0]",
        {"name": "proxy", "volumeMounts": [{"mountPath": "/weights", "name": "model"}]},
        "what serves is proved before it starts; mount model with readOnly: true",
        at="spec.serving.podTemplate.spec.containers[0].volumeMounts[0]",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.containers[0]",
        {"name": "proxy", "ports": [{"containerPort": 8000}]},
        "this port is the engine's; choose another",
        at="spec.serving.podTemplate.spec.containers[0].ports[0].containerPort",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.volumes[0]",
        {"name": "model", "emptyDir": {}},
        '"model" is a volume of the operator\'s own; give yours another name',
        at="spec.serving.podTemplate.spec.volumes[0].name",
    ),
    Refusal(
        "spec.serving.podTemplate.spec.resourceClaims[0]",
        {"name": "gpus"},
        '"gpus" is the operator\'s claim; give yours another name',
        at="spec.serving.podTemplate.spec.resourceClaims[0].name",
    ),
    Refusal(
        "spec.jobs.podTemplate.spec",
        {"restartPolicy": "OnFailure"},
        "the operator needs the restartPolicy of its Pods as it is; leave it out",
    ),
    Refusal(
        "spec.serving.podTemplate.spec",
        {"containers": [{"name": "fetch"}]},
        "fetch is an init container, and engines and steps are containers; move it to the other list",
    ),
    Refusal(
        "spec.serving",
        {"podTemplate": {"spec": {"containers": [{"name": "merge"}]}}},
        "podTemplate has a container of a step; write it in spec.jobs.podTemplate",
    ),
    Refusal(
        "spec.jobs",
        {"podTemplate": {"spec": {"initContainers": [{"name": "fetch"}]}}},
        "podTemplate has a container of serving; write it in spec.serving.podTemplate",
    ),
    Refusal(
        "spec.serving.podTemplate.metadata.labels",
        {"ftm.dev/step": "mine"},
        "the operator sets labels app.kubernetes.io/name, app.kubernetes.io/managed-by, ftm.dev/* itself; leave them "
        "out",
    ),
)
"""What a podTemplate may not change."""

RULES = (
    Refusal("spec.base.uri", "gs://models/base", f'"gs://models/base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "mistralai/Mistral-7B-v0.1", f'"mistralai/Mistral-7B-v0.1" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "hf://gpt2", f'"hf://gpt2" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "hf://org/name@", f'"hf://org/name@" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "hf://org/name@v1..v2", f'"hf://org/name@v1..v2" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "s3://Models/base", f'"s3://Models/base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "s3://models/../base", f'"s3://models/../base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "s3://models//base", f'"s3://models//base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "s3://models/a,scale=2", f'"s3://models/a,scale=2" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "pvc://Models/base", f'"pvc://Models/base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "pvc:///base", f'"pvc:///base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "pvc://models/../base", f'"pvc://models/../base" is not a source; {SOURCES}'),
    Refusal("spec.base.uri", "pvc://models/a,b", f'"pvc://models/a,b" is not a source; {SOURCES}'),
    Refusal(
        "spec.base",
        {"uri": "pvc://models/base", "secretName": "models-s3"},
        "a claim is mounted and needs no credentials; remove secretName",
    ),
    Refusal("spec.adapters[0].uri", "s3://models/a b", f'"s3://models/a b" is not a source; {SOURCES}'),
    Refusal(
        "spec.artifacts.uri",
        "hf://org/built",
        '"hf://org/built" is not a store that can be written to; write s3://bucket/prefix or pvc://claim/path',
    ),
    Refusal(
        "spec.artifacts.uri",
        "s3://ab/built",
        '"s3://ab/built" has a bucket\'s name of fewer than 3 or more than 63 characters; write s3://bucket/prefix',
    ),
    Refusal(
        "spec.base.secretName",
        "Models_S3",
        "\"Models_S3\" cannot be an object's name; write lower-case letters, digits, '-' and '.', as in models-s3",
    ),
    Refusal(
        "spec.adapters[0].name",
        "support_v2",
        "\"support_v2\" cannot be an adapter's name; write lower-case letters, digits and '-'",
    ),
    Refusal("spec.adapters[0].scale", 0, "0 leaves the adapter out; remove it from adapters"),
    Refusal(
        "spec.serving.accelerator.resource",
        "gpu",
        '"gpu" is not an extended resource; write domain/name, as in nvidia.com/gpu',
    ),
    Refusal(
        "spec.serving.servedModelName",
        "support bot",
        '"support bot" cannot be a served model\'s name; write letters, digits and . _ : / @ + -, without spaces',
    ),
    Refusal(
        "spec.serving.extraArgs",
        ["--enforce-eager", "--max_model_len=4096"],
        "--max-model-len is the operator's to set: set spec.serving.maxModelLen",
    ),
    Refusal(
        "spec.serving.extraArgs", ["--port", "9000"], "--port is the operator's to set: probes and the Service need it"
    ),
    Refusal(
        "spec.serving.env[0]",
        {"name": "NEITHER"},
        "a variable has exactly one source; write value or valueFrom.secretKeyRef",
    ),
    Refusal(
        "spec.serving.env[0]",
        {"name": "BOTH", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        "a variable has exactly one source; write value or valueFrom.secretKeyRef",
    ),
    Refusal(
        "spec.serving.env[0]",
        {"name": "NOT-A-NAME", "value": "x"},
        "\"NOT-A-NAME\" cannot be a variable's name; write letters, digits and '_'",
        at="spec.serving.env[0].name",
    ),
    Refusal(
        "spec.serving",
        {"apiKeySecretName": "key", "env": [{"name": "VLLM_API_KEY", "value": "x"}]},
        "apiKeySecretName sets VLLM_API_KEY already; remove VLLM_API_KEY from env",
    ),
    Refusal(
        "spec.serving.resources.limits",
        {"memory": "30GiB"},
        "\"30GiB\" is not a quantity; write a whole number or a string, as in 4, '500m' or '30Gi'",
        at="spec.serving.resources.limits.memory",
    ),
    Refusal(
        "spec.serving.podLabels",
        {"team": "support", "app.kubernetes.io/name": "mine"},
        "the operator sets labels app.kubernetes.io/name, app.kubernetes.io/managed-by, ftm.dev/* itself; leave them "
        "out",
    ),
    Refusal(
        "spec.jobs.podAnnotations",
        {"ftm.dev/pod-template": "mine"},
        "the operator sets annotations ftm.dev/* itself; leave them out",
    ),
    Refusal(
        "spec.serving.volumes[0]",
        {"name": "model", "emptyDir": {}},
        '"model" is a volume of the operator\'s own; give yours another name',
        at="spec.serving.volumes[0].name",
    ),
    Refusal(
        "spec.jobs.volumeMounts[0]",
        {"name": "artifacts-credentials", "mountPath": "/etc/acme"},
        '"artifacts-credentials" is a volume of the operator\'s own; give yours another name',
        at="spec.jobs.volumeMounts[0].name",
    ),
    Refusal(
        "spec.serving.volumeMounts[0]",
        {"name": "mine", "mountPath": "/model/tokenizer.json"},
        '"/model/tokenizer.json" is where the operator mounts a volume of its own; choose another path',
        at="spec.serving.volumeMounts[0].mountPath",
    ),
    Refusal(
        "spec.serving.volumeMounts[0]",
        {"name": "mine", "mountPath": "/etc/../model"},
        "\"/etc/../model\" is not an absolute path; write one without '..' and ':', as in /etc/acme",
        at="spec.serving.volumeMounts[0].mountPath",
    ),
    Refusal(
        "spec.jobs.envFrom[0]",
        {"secretRef": {"name": "a"}, "configMapRef": {"name": "b"}},
        "variables come from exactly one object; write configMapRef or secretRef",
    ),
    *(
        Refusal(
            "spec.jobs.resources.limits",
            {"memory": written},
            f"\"{written}\" is not a quantity; write a whole number or a string, as in 4, '500m' or '30Gi'",
            at="spec.jobs.resources.limits.memory",
        )
        for written in ("1e", "-1Gi", "1e999", "", "1 Gi")
    ),
    Refusal(
        "spec.jobs.resources",
        {"requests": {"cpu": 4, "memory": "30Gi"}, "limits": {"cpu": "4000m", "memory": "8Gi"}},
        "requests.memory 30Gi is more than limits.memory 8Gi; lower the request or raise the limit",
    ),
    Refusal(
        "spec.serving.resources",
        {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}},
        "requests.cpu 2 is more than limits.cpu 1500m; lower the request or raise the limit",
    ),
    Refusal(
        "spec.jobs.steps.verify.resources",
        {"requests": {"memory": "2Gi"}, "limits": {"memory": "1G"}},
        "requests.memory 2Gi is more than limits.memory 1G; lower the request or raise the limit",
    ),
    Refusal(
        "spec.serving.resources.requests",
        {"gpu": 1},
        '"gpu" is not a resource of a container; write cpu, memory, ephemeral-storage or domain/name, as in '
        "nvidia.com/gpu",
    ),
    Refusal("spec.serving.nodeSelector", {"gpu type": "a10g"}, f'"gpu type" cannot be a label\'s key; {LABEL_KEYS}'),
    Refusal("spec.jobs.nodeSelector", {"A.com/pool": "a"}, f'"A.com/pool" cannot be a label\'s key; {LABEL_KEYS}'),
    Refusal(
        "spec.jobs.nodeSelector",
        {"pool": "for merges"},
        "\"for merges\" cannot be a label's value; write letters, digits, '-', '_' and '.', without spaces, beginning "
        "and ending with a letter or digit",
        at="spec.jobs.nodeSelector.pool",
    ),
    Refusal("spec.jobs.podLabels", {"team/": "a"}, f'"team/" cannot be a label\'s key; {LABEL_KEYS}'),
    Refusal("spec.jobs.podAnnotations", {"a b": "a"}, f'"a b" cannot be an annotation\'s key; {LABEL_KEYS}'),
    Refusal(
        "spec.jobs.tolerations[0]",
        {"key": "gpu,spot", "operator": "Exists"},
        f'"gpu,spot" cannot be a taint\'s key; {LABEL_KEYS}',
        at="spec.jobs.tolerations[0].key",
    ),
    Refusal(
        "spec.jobs.tolerations[0]",
        {"value": "spot"},
        "a toleration without a key is for every taint; write key, or operator: Exists",
    ),
    Refusal(
        "spec.serving.tolerations[0]",
        {"key": "gpu", "operator": "Exists", "value": "true"},
        "operator Exists compares no value; remove value, or write operator: Equal",
    ),
    Refusal(
        "spec.serving.tolerations[0]",
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 60},
        "tolerationSeconds is for taints that evict; write effect: NoExecute, or remove tolerationSeconds",
    ),
    Refusal(
        "spec.serving.autoscaling",
        {"minReplicas": 3, "maxReplicas": 2},
        "minReplicas is above maxReplicas; write the larger number as maxReplicas",
    ),
    Refusal(
        "spec.serving.autoscaling",
        {"minReplicas": 0, "maxReplicas": 2},
        "no engine tells of its load while there is no replica; write in triggers what wakes the first one, or set "
        "minReplicas to 1",
    ),
    Refusal(
        "spec.serving.autoscaling",
        {"maxReplicas": 2, "prometheus": "prometheus:9090"},
        '"prometheus:9090" is not the address of a Prometheus; write http://HOST:PORT, as in '
        "http://prometheus.monitoring:9090",
        at="spec.serving.autoscaling.prometheus",
    ),
    Refusal(
        "spec.serving.autoscaling",
        {"maxReplicas": 2, "triggers": [{"type": "External Push"}]},
        '"External Push" is not a scaler of KEDA; write its name, as in external-push or prometheus',
        at="spec.serving.autoscaling.triggers[0].type",
    ),
    Refusal(
        "spec.serving.gateway",
        {"name": "public"},
        "all requests of the Gateway would come to this model; write hostnames or path",
    ),
    Refusal(
        "spec.serving.gateway",
        {"name": "public", "path": "/support-bot/"},
        "\"/support-bot/\" cannot be the beginning of a path; write one that ends without '/', as in /support-bot",
        at="spec.serving.gateway.path",
    ),
    Refusal(
        "spec.serving.gateway",
        {"name": "public", "hostnames": ["https://models.example.com"]},
        '"https://models.example.com" is not a host\'s name; write one without a port, as in models.example.com or '
        "*.example.com",
        at="spec.serving.gateway.hostnames[0]",
    ),
    Refusal(
        "spec.serving.disruptionBudget",
        {"minAvailable": 1, "maxUnavailable": 1},
        "a budget says one number; write minAvailable or maxUnavailable",
    ),
    Refusal(
        "spec.serving.disruptionBudget.minAvailable",
        "half",
        "\"half\" is no number of replicas; write a whole number or a percentage, as in 1 or '50%'",
    ),
    Refusal(
        "spec.serving.service.annotations",
        {"ftm.dev/spec-hash": "mine"},
        "the operator sets annotations ftm.dev/* itself; leave them out",
    ),
    *TEMPLATES,
    Refusal(
        "spec.quantization",
        {"gguf": {"importanceMatrix": True}},
        "gguf.importanceMatrix is computed from text; set calibration.uri",
    ),
    Refusal(
        "spec.quantization.calibration.uri",
        "s3://models/calibration.txt",
        '"s3://models/calibration.txt" is not a .jsonl file; name one',
    ),
    Refusal(
        "spec.verification.prompts[0]", {"expect": ["x"]}, "a question is asked in one way; write prompt or messages"
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "quantization": {"method": "GGUF"}, "serving": {"engine": "vLLM"}},
        "vLLM does not read GGUF; set serving.engine to LlamaCpp, or quantization.method to AWQ or None",
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "quantization": {"method": "AWQ"}, "serving": {"engine": "LlamaCpp"}},
        "llama.cpp reads GGUF alone; set quantization.method to GGUF, with gguf.type BF16 for weights that are not "
        "quantized, or serving.engine to vLLM",
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "serving": {"engine": "LlamaCpp", "device": "GPU"}},
        "llama.cpp is served on CPUs here; set serving.device to CPU, or serving.engine to vLLM with "
        "quantization.method AWQ or None",
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "serving": {"engine": "vLLM", "device": "CPU"}},
        "vLLM is served on GPUs here; set serving.device to GPU, or serving.engine to LlamaCpp with "
        "quantization.method GGUF",
    ),
    Refusal(
        "metadata.name",
        "a" * 41,
        f'"{"a" * 41}" is too long or not a DNS label; the Service and the Jobs are named after the resource: write at '
        "most 40 lower-case letters, digits and '-', starting with a letter",
    ),
    Refusal(
        "metadata.name",
        "support.bot",
        '"support.bot" is too long or not a DNS label; the Service and the Jobs are named after the resource: write at '
        "most 40 lower-case letters, digits and '-', starting with a letter",
    ),
    Refusal(
        "spec",
        {"base": {"uri": "s3://models/base"}, "mode": "Dynamic", "serving": {"extraArgs": ["--max_loras=2"]}},
        "mode Dynamic sets vLLM's flags for adapters itself; remove them from serving.extraArgs and write "
        "serving.dynamic",
    ),
    *(
        Refusal(
            "spec",
            {**minimal()["spec"], **fields},
            "a merge needs weights in 16 bits, and mode Dynamic serves them as they are stored; write quantizedBase "
            "AsStored with mode Dynamic alone, and NF4RoundTrip with the others",
        )
        for fields in ({"quantizedBase": "AsStored"}, {"quantizedBase": "NF4RoundTrip", "mode": "Dynamic"})
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "serving": {"loading": "Image"}},
        "loading Image mounts what was pushed to a registry; write artifacts.oci, or set serving.loading to Fetch",
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "mode": "Dynamic", "serving": {"loading": "Stream"}},
        "mode Dynamic serves the base, which is no artifact; set serving.loading to Fetch or Auto, or mode to Merged",
    ),
    Refusal(
        "spec",
        {**minimal()["spec"], "serving": {"servedNames": [{"name": "a", "targets": [{"adapter": "b"}]}]}},
        "servedNames are of adapters beside a base; set mode to Dynamic, or remove serving.servedNames",
    ),
    Refusal(
        "spec.serving.dynamic",
        {"slots": 4, "cpuSlots": 2},
        "an adapter in a batch is in the host's memory too; set cpuSlots to slots or more",
    ),
)
"""Rules of ours: Python and an API server say the same sentence."""

SHAPES = (
    Refusal("spec.servng", {}, "unknown field; did you mean serving?"),
    Refusal("spec.base.url", "x", "unknown field; did you mean uri?"),
    Refusal("spec.adapters[0].path", "x", "unknown field; spec.adapters[0] has name, scale, secretName, uri"),
    Refusal("spec.verification.prompts[0].messages", [], "[] is too few items; write at least 1"),
    Refusal("spec.adapters[0].scale", "1", '"1" is not a number'),
    Refusal("spec.adapters[0].scale", 101, "101 is too large; write at most 100"),
    Refusal("spec.serving.replicas", -1, "-1 is too small; write at least 0"),
    Refusal("spec.serving.replicas", "2", '"2" is not a whole number'),
    Refusal("spec.serving.maxModelLen", 0, "0 is too small; write at least 1"),
    Refusal("spec.serving.dtype", "fp8", '"fp8" is not a choice; write auto, bfloat16, float16 or float32'),
    Refusal("spec.serving.gpuMemoryUtilization", 1.5, "1.5 is too large; write at most 1"),
    Refusal("spec.serving.gpuMemoryUtilization", 0, "0 is too small; write more than 0"),
    Refusal("spec.serving.probes.startupSeconds", 30, "30 is too small; write at least 60"),
    Refusal(
        "spec.serving.service.type", "Headless", '"Headless" is not a choice; write ClusterIP, NodePort or LoadBalancer'
    ),
    Refusal("spec.jobs.activeDeadlineSeconds", 5, "5 is too small; write at least 60"),
    Refusal("spec.suspend", "yes", '"yes" is not true or false'),
    Refusal(
        "spec.serving.resources.limits",
        {"cpu": 0.5},
        "0.5 is not a quantity; write a whole number or a string, as in 4, '500m' or '30Gi'",
        at="spec.serving.resources.limits.cpu",
    ),
)
"""Types, bounds and unknown fields: an API server has its own words for these."""
