"""The CRD on a real API server: what it accepts, what it fills in, what it refuses and with which words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl, KubectlError
from tests.unit.operator.api.manifests import Manifest, manifest_with, minimal
from tests.unit.operator.api.refusals import RULES, SHAPES, Refusal

CRDS = Path(__file__).parents[2] / "crds"
KIND = "finetunedmodel"


@pytest.fixture(scope="module")
def kubectl(control_plane: ControlPlane) -> Iterator[Kubectl]:
    admin = control_plane.kubectl
    admin("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    admin.wait("crd/finetunedmodels.ftm.dev", "condition=Established")
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "crd-test"}})
    yield admin.within("crd-test")
    admin("delete", "namespace", "crd-test", "--wait=false")


SERVING = {
    "engine": "Auto",
    "device": "Auto",
    "replicas": 1,
    "strategy": "Auto",
    "keptVersions": 3,
    "loading": "Auto",
    "dtype": "auto",
    "accelerator": {"resource": "nvidia.com/gpu", "allocation": "DevicePlugin"},
    "dynamic": {},
}

POD_FIELDS: Manifest = {
    "serviceAccountName": "models",
    "podLabels": {"azure.workload.identity/use": "true"},
    "podAnnotations": {"Acme.com/team": "a b", "prometheus.io/scrape": "true"},
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A10G"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "priorityClassName": "production",
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
    "imagePullSecrets": [{"name": "mirror"}],
    "env": [
        {"name": "A", "value": ""},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "b.key"}}},
    ],
    "envFrom": [{"prefix": "A_", "configMapRef": {"name": "all", "optional": True}}],
    "volumes": [{"name": "ca", "configMap": {"name": "ca-bundle", "items": [{"key": "a", "path": "b"}]}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/certs", "readOnly": True}],
    "podTemplate": {
        "metadata": {"labels": {"mesh": "on"}, "annotations": {"mesh/ports": "8080"}},
        "spec": {
            "securityContext": {"$patch": "replace", "runAsNonRoot": True},
            "containers": [{"name": "proxy", "image": "proxy:1", "resources": {"limits": {"memory": "1Gi"}}}],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "100Gi"}}],
        },
    },
}


def refusal(kubectl: Kubectl, manifest: Manifest) -> str:
    """Returns the API server's answer to a manifest that it must refuse."""
    with pytest.raises(KubectlError) as refused:
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
    return re.sub(r"(limits|nodeSelector)\[(\w+)\]", r"\1.\2", str(refused.value))


def scaled(kubectl: Kubectl, name: str) -> dict[str, Any]:
    path = f"/apis/ftm.dev/v1alpha1/namespaces/{kubectl.namespace}/finetunedmodels/{name}/scale"
    found: dict[str, Any] = json.loads(kubectl("get", "--raw", path))
    return found


def set_status(kubectl: Kubectl, name: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    kubectl("patch", KIND, name, "--subresource=status", "--type=merge", "-p", patch)


def test_the_smallest_manifest_is_stored_with_the_defaults(kubectl: Kubectl) -> None:
    kubectl.apply(minimal("smallest"))
    stored = kubectl.get(KIND, "smallest")
    assert stored["spec"] == {
        "base": {"uri": "hf://mistralai/Mistral-7B-v0.1"},
        "adapters": [{"name": "support", "uri": "s3://models/adapters/support-v2", "scale": 1}],
        "mode": "Auto",
        "preview": "None",
        "quantizedBase": "FullPrecision",
        "objective": "Quality",
        "quantization": {
            "method": "Auto",
            "awq": {"engine": "Auto"},
            "gguf": {"type": "Q4_K_M", "strict": False, "importanceMatrix": False},
        },
        "verification": {"policy": "Block", "served": "Unchecked"},
        "serving": SERVING,
        "jobs": {},
        "suspend": False,
    }
    assert stored["status"] == {"observedGeneration": -1}, "kstatus reads a resource without a status as done"


@pytest.mark.parametrize("refused", RULES, ids=str)
def test_a_broken_rule_is_refused_at_its_field_with_our_sentence(kubectl: Kubectl, refused: Refusal) -> None:
    said = refusal(kubectl, manifest_with(refused.field, refused.value))
    assert refused.sentence in said
    assert refused.path in said


@pytest.mark.parametrize("refused", SHAPES, ids=str)
def test_a_wrong_shape_is_refused_at_its_field(kubectl: Kubectl, refused: Refusal) -> None:
    assert refused.path in refusal(kubectl, manifest_with(refused.field, refused.value))


@pytest.mark.parametrize("field", ["spec.base.uri", "spec.adapters[0].uri", "spec.artifacts.uri"])
def test_local_files_are_refused_since_a_pod_cannot_see_them(kubectl: Kubectl, field: str) -> None:
    said = refusal(kubectl, manifest_with(field, "file:///models/base"))
    assert '"file:///models/base" can be read by `ftm run` alone: a Pod does not see your files; write ' in said
    assert field in said


def test_two_adapters_do_not_share_a_name(kubectl: Kubectl) -> None:
    adapter = minimal()["spec"]["adapters"][0]
    said = refusal(kubectl, manifest_with("spec.adapters", [adapter, adapter]))
    assert 'spec.adapters[1]: Duplicate value: {"name":"support"}' in said


def test_unknown_fields_are_refused_by_client_side_and_by_server_side_apply(kubectl: Kubectl) -> None:
    manifest = json.dumps(manifest_with("spec.servng", {}))
    with pytest.raises(KubectlError, match=r'unknown field "spec\.servng"'):
        kubectl("apply", "-f", "-", stdin=manifest)
    with pytest.raises(KubectlError, match=r"\.spec\.servng: field not declared in schema"):
        kubectl("apply", "--server-side", "-f", "-", stdin=manifest)


def test_null_means_absent(kubectl: Kubectl) -> None:
    manifest = manifest_with("spec.serving", {"replicas": None, "maxModelLen": None}, "nulls")
    kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    assert kubectl.get(KIND, "nulls")["spec"]["serving"] == SERVING


def test_everything_that_may_be_written_is_stored_as_it_was_written(kubectl: Kubectl) -> None:
    manifest = manifest_with(
        "spec.serving",
        {
            "engine": "vLLM",
            "device": "GPU",
            "concurrency": 4,
            "replicas": 0,
            "strategy": "Recreate",
            "keptVersions": 5,
            "loading": "Fetch",
            "maxModelLen": 4096,
            "dtype": "bfloat16",
            "tensorParallelSize": 2,
            "accelerator": {"resource": "amd.com/gpu", "allocation": "DynamicResources"},
            "gpuMemoryUtilization": 0.85,
            "servedModelName": "acme/support:v2",
            "dynamic": {
                "maxRank": 64,
                "slots": 4,
                "cpuSlots": 64,
                "disk": "50Gi",
                "resources": {"limits": {"memory": "2Gi"}},
            },
            "apiKeySecretName": "api-key",
            "extraArgs": ["--enforce-eager", "--max-num-seqs=64"],
            **POD_FIELDS,
            "probes": {
                "startupSeconds": 3600,
                "readiness": {"periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4},
                "liveness": {"failureThreshold": 30},
            },
            "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"networking.gke.io/load": "Internal"}},
            "fetch": {"resources": {"requests": {"cpu": "1"}}},
            "disruptionBudget": {"minAvailable": "50%"},
            "autoscaling": {
                "minReplicas": 0,
                "maxReplicas": 4,
                "metric": "KVCacheUsage",
                "target": 70,
                "cooldownSeconds": 900,
                "prometheus": "http://prometheus.monitoring:9090/prom",
                "triggers": [
                    {
                        "type": "external-push",
                        "metadata": {"scalerAddress": "keda-add-ons-http-external-scaler.keda:9090"},
                        "metricType": "AverageValue",
                        "authenticationRef": {"name": "queue", "kind": "ClusterTriggerAuthentication"},
                    }
                ],
            },
            "gateway": {
                "name": "public",
                "namespace": "gateways",
                "hostnames": ["*.example.com"],
                "path": "/support-bot",
                "inferencePool": {"endpointPickerRef": {"name": "epp", "port": 9003, "failureMode": "FailOpen"}},
            },
            "resources": {"requests": {"cpu": 4, "memory": "30Gi"}, "limits": {"memory": "3.5e10"}},
        },
        "everything",
    )
    asked = manifest["spec"] | {
        "mode": "Merged",
        "preview": "Dynamic",
        "objective": "Throughput",
        "quantization": {
            "method": "AWQ",
            "awq": {"groupSize": 64, "engine": "LLMCompressor"},
            "gguf": {"type": "Q8_0", "strict": True, "importanceMatrix": True},
            "calibration": {"uri": "s3://models/calibration.jsonl", "secretName": "models-s3"},
        },
        "verification": {
            "prompts": [
                {"prompt": "Which is it?", "expect": ["this one"]},
                {"messages": [{"role": "user", "content": "Which?"}]},
            ],
            "maxDivergence": 0.2,
            "policy": "Warn",
            "served": "Checked",
        },
        "jobs": POD_FIELDS
        | {
            "activeDeadlineSeconds": 3600,
            "steps": {"merge": {"resources": {"limits": {"memory": "8Gi"}}}},
            "scratch": {"storageClassName": "fast"},
        },
    }
    kubectl.apply({**manifest, "spec": asked})
    stored = kubectl.get(KIND, "everything")["spec"]
    written = {field: value for field, value in asked.items() if field != "adapters"}
    assert {field: stored[field] for field in written} == written


def test_users_cannot_write_a_status_and_the_operator_cannot_write_a_spec(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({**minimal("apart"), "status": {"phase": "Ready"}}))
    before = kubectl.get(KIND, "apart")
    assert "phase" not in before["status"]
    patch = {"spec": {"suspend": True}, "status": {"phase": "Inspecting", "observedGeneration": 1}}
    kubectl("patch", KIND, "apart", "--subresource=status", "--type=merge", "-p", json.dumps(patch))
    after = kubectl.get(KIND, "apart")
    assert after["spec"] == before["spec"]
    assert after["status"] == {"phase": "Inspecting", "observedGeneration": 1}
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_a_change_of_the_spec_raises_the_generation(kubectl: Kubectl) -> None:
    kubectl.apply(minimal("generations"))
    before = kubectl.get(KIND, "generations")["metadata"]["generation"]
    kubectl("patch", KIND, "generations", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    assert kubectl.get(KIND, "generations")["metadata"]["generation"] == before + 1


def test_scale_sets_the_replicas_of_the_spec_and_shows_those_of_the_status(kubectl: Kubectl) -> None:
    kubectl.apply(minimal("scaled"))
    set_status(kubectl, "scaled", {"replicas": 1, "selector": "ftm.dev/name=scaled"})
    kubectl("scale", KIND, "scaled", "--replicas=3")
    assert kubectl.get(KIND, "scaled")["spec"]["serving"]["replicas"] == 3
    scale = scaled(kubectl, "scaled")
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "ftm.dev/name=scaled"}


def test_kubectl_get_shows_what_people_look_for(kubectl: Kubectl) -> None:
    kubectl.apply(minimal("shown"))
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Deploying",
        "message": "0 of 1 replicas ready",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "phase": "Deploying",
        "plan": {"quantization": "None", "gpus": 2},
        "readyReplicas": 0,
        "endpoint": "http://shown.crd-test.svc:80/v1",
        "conditions": [ready],
    }
    set_status(kubectl, "shown", status)
    header, row = kubectl("get", "ftm", "shown").splitlines()
    assert header.split() == ["NAME", "READY", "PHASE", "QUANTIZATION", "GPUS", "REPLICAS", "ENDPOINT", "AGE"]
    assert row.split()[:-1] == ["shown", "False", "Deploying", "None", "2", "0", "http://shown.crd-test.svc:80/v1"]
    assert "0 of 1 replicas ready" in kubectl("get", "ftm", "shown", "-o", "wide")


def test_kubectl_explains_every_field(kubectl: Kubectl) -> None:
    said = kubectl("explain", "ftm.spec.serving.maxModelLen")
    assert "in tokens" in said
