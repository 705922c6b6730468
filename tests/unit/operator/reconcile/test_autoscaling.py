"""The number of replicas: who sets it, how it changes hands without being reset, and what scales a model."""

from typing import Any

import pytest

from tests.unit.operator.namespace import with_replicas
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, resource
from tests.unit.operator.scene import Scene, scene_of

KEDA = frozenset(("ScaledObject", "keda.sh"))
ADAPTERS = frozenset(("custom.metrics.k8s.io",))
PROMETHEUS = "http://prometheus.monitoring:9090"
QUEUE = {"type": "external-push", "metadata": {"scalerAddress": "keda-add-ons-http-external-scaler.keda:9090"}}
CPUS: dict[str, Any] = {"quantization": {"method": "GGUF"}}


def scaling(**asked: Any) -> dict[str, Any]:
    return {"autoscaling": {"maxReplicas": 4, "prometheus": PROMETHEUS, **asked}}


def served(served_apis: frozenset[str] = KEDA, *, pods: bool = True, **spec: Any) -> Scene:
    """Returns a model of which a first replica answers; its pod was ready after 95 seconds."""
    scene = scene_of(resource(**spec))
    scene.served_apis = served_apis
    scene.reach("Deploying")
    if pods:
        pod_answers(scene)
    scene.answer()
    return scene


def pod_answers(scene: Scene) -> None:
    template = scene.get("Deployment")["spec"]["template"]
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:35Z"}
    scene.put(
        {
            "kind": "Pod",
            "metadata": {"name": f"{NAME}-1", "namespace": NAMESPACE, **template["metadata"]},
            "spec": template["spec"],
            "status": {"startTime": "2026-01-01T00:00:00Z", "conditions": [ready]},
        }
    )


def scale(scene: Scene, number: int, manager: str = "kube-controller-manager") -> None:
    """Has somebody scale the Deployment, and its controller make the pods."""
    live = scene.get("Deployment")
    scene.create(with_replicas(live, live, manager, number, "scale"))
    scene.answer()


def number(scene: Scene) -> int:
    return int(scene.get("Deployment")["spec"]["replicas"])


def ready(scene: Scene) -> str:
    return scene.condition("Ready").message


def trigger(scene: Scene, position: int = 0) -> Manifest:
    found: Manifest = scene.get("ScaledObject")["spec"]["triggers"][position]
    return found


def test_a_scaler_is_made_once_a_replica_has_answered_and_the_number_is_left_to_it() -> None:
    scene = scene_of(resource(serving=scaling()))
    scene.served_apis = KEDA
    scene.reach("Deploying")
    assert not scene.cache.keys("ScaledObject")
    scene.answer()
    spec = scene.get("ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 4)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    scale(scene, 3)
    assert (scene.phase(), number(scene), ready(scene)) == ("Ready", 3, "3 of 3 replicas answer")
    assert not scene.once().actions


def test_autoscaling_that_is_added_takes_the_number_as_it_is() -> None:
    scene = served(serving={"replicas": 3})
    scene.edit(serving={"replicas": 3, **scaling()})
    assert number(scene) == 3
    assert scene.applied[-2:] == [f"hand over Deployment {NAME}", f"Deployment {NAME}"]
    scene.answer()
    assert scene.applied[-1] == f"ScaledObject {NAME}"
    scale(scene, 2)
    assert number(scene) == 2
    assert ready(scene) == "2 of 2 replicas answer; spec.serving.replicas 3 is not used while autoscaling is set"


def test_autoscaling_that_is_removed_gives_the_number_back_once_nothing_scales_any_more() -> None:
    scene = served(serving={"replicas": 2, **scaling()})
    scale(scene, 4)
    by_keda = scene.get("ScaledObject") | {"kind": "HorizontalPodAutoscaler"}
    owner = [{"kind": "ScaledObject", "name": NAME, "uid": "keda"}]
    scene.put(by_keda | {"metadata": {**by_keda["metadata"], "name": f"keda-hpa-{NAME}", "ownerReferences": owner}})
    scene.edit(serving={"replicas": 2})
    assert not scene.cache.keys("ScaledObject")
    assert number(scene) == 4, "what KEDA made is still there, and would scale once more"
    assert ready(scene) == "4 of 4 replicas answer; HorizontalPodAutoscaler is being removed"
    scene.cache.remove("HorizontalPodAutoscaler", (NAMESPACE, f"keda-hpa-{NAME}"))
    scene.settle()
    assert number(scene) == 2
    assert scene.status()["start"]["seconds"] == 95


def test_a_strangers_autoscaler_is_left_alone_until_the_spec_says_another_number() -> None:
    scene = served()
    scale(scene, 5)
    assert number(scene) == 5
    before = len(scene.applied)
    for load in (2, 6, 3):
        scale(scene, load)
        assert number(scene) == load
    assert len(scene.applied) == before, "nothing is applied while somebody else scales"
    assert ready(scene) == (
        "3 of 3 replicas answer; kube-controller-manager set 3 replicas, which stay until spec.serving.replicas is "
        "another number than 1"
    )
    scene.edit(serving={"replicas": 2})
    assert number(scene) == 2
    scale(scene, 5)
    assert number(scene) == 5


def test_a_number_that_is_changed_by_any_other_way_is_put_back() -> None:
    scene = served()
    live = scene.get("Deployment")
    scene.create(with_replicas(live, live, "kubectl-edit", 7))
    assert number(scene) == 1


def test_a_new_version_rolls_out_without_a_word_on_the_number() -> None:
    scene = served(serving=scaling())
    scale(scene, 3)
    scene.edit(serving={**scaling(), "extraArgs": ["--enforce-eager"]})
    assert number(scene) == 3
    scene.answer()
    assert scene.phase() == "Ready"


@pytest.mark.parametrize(("measured", "seconds"), [(True, 300), (False, 1860)])
def test_the_last_replica_stays_for_longer_than_a_start_takes(measured: bool, seconds: int) -> None:
    scene = served(pods=measured, serving=scaling(minReplicas=0, triggers=[QUEUE]))
    spec = scene.get("ScaledObject")["spec"]
    assert (spec["cooldownPeriod"], spec["initialCooldownPeriod"]) == (seconds, seconds)
    assert scene.status().get("start", {}).get("seconds") == (95 if measured else None)


def test_a_cooldown_that_is_shorter_than_the_start_is_made_longer() -> None:
    scene = served(serving=scaling(minReplicas=0, triggers=[QUEUE], cooldownSeconds=30))
    assert scene.get("ScaledObject")["spec"]["cooldownPeriod"] == 95 + 60


def test_at_zero_the_model_is_ready_and_says_who_starts_a_replica() -> None:
    scene = served(serving=scaling(minReplicas=0, triggers=[QUEUE]))
    before = scene.get("ScaledObject")["spec"]
    scale(scene, 0, "keda")
    assert (scene.phase(), scene.status()["readyReplicas"]) == ("Ready", 0)
    assert ready(scene) == f"scaled to zero; ScaledObject {NAME} starts a replica when one of its triggers asks for it"
    assert scene.condition("Available").reason == "NoReplicas"
    assert scene.get("ScaledObject")["spec"] == before, "how long a start took is remembered while no pod is there"
    assert not scene.once().actions


def test_to_zero_a_trigger_tells_that_a_replica_is_in_use_and_others_are_passed_on() -> None:
    scene = served(serving=scaling(minReplicas=0, triggers=[QUEUE]))
    assert [each["type"] for each in scene.get("ScaledObject")["spec"]["triggers"]] == [
        "prometheus",
        "prometheus",
        "external-push",
    ]
    assert trigger(scene, 1)["metadata"]["query"] == (
        'sum(increase(vllm:generation_tokens_total{namespace="team-a",pod=~"support-bot-[a-z0-9]+-[a-z0-9]{5}"}[2m]))'
        ' + sum(vllm:num_requests_running{namespace="team-a",pod=~"support-bot-[a-z0-9]+-[a-z0-9]{5}"})'
        ' + sum(vllm:num_requests_waiting{namespace="team-a",pod=~"support-bot-[a-z0-9]+-[a-z0-9]{5}"})'
    )
    assert trigger(scene, 2) == QUEUE


@pytest.mark.parametrize(
    ("metric", "threshold", "query"),
    [
        ("Auto", "8", "(sum(vllm:num_requests_running{…}) + sum(vllm:num_requests_waiting{…})) / {pods}"),
        ("WaitingRequests", "2", "sum(vllm:num_requests_waiting{…}) / {pods}"),
        ("KVCacheUsage", "80", "100 * avg(vllm:kv_cache_usage_perc{…})"),
    ],
)
def test_each_metric_is_an_average_over_replicas(metric: str, threshold: str, query: str) -> None:
    found = trigger(served(serving=scaling(metric=metric)))
    series = '{namespace="team-a",pod=~"support-bot-[a-z0-9]+-[a-z0-9]{5}"}'
    wanted = query.replace("{pods}", "count(count by (pod) (vllm:num_requests_waiting{…}))").replace("{…}", series)
    assert found["metadata"] == {"serverAddress": PROMETHEUS, "query": wanted, "threshold": threshold}
    assert found["metricType"] == "Value"


def test_llama_cpp_is_scaled_by_its_own_metrics_and_its_slots() -> None:
    found = trigger(served(**CPUS, serving=scaling()))
    assert "llamacpp:requests_processing" in found["metadata"]["query"]
    assert "llamacpp:requests_deferred" in found["metadata"]["query"]
    assert found["metadata"]["threshold"] == "4"


def test_without_keda_pods_metrics_of_an_adapter_are_followed() -> None:
    scene = served(ADAPTERS, serving=scaling(metric="KVCacheUsage", cooldownSeconds=7200))
    spec = scene.get("HorizontalPodAutoscaler")["spec"]
    target = {"type": "AverageValue", "averageValue": "800m"}
    assert spec["metrics"] == [
        {"type": "Pods", "pods": {"metric": {"name": "vllm:kv_cache_usage_perc"}, "target": target}}
    ]
    assert spec["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 3600}}


def test_requests_are_two_metrics_where_none_can_be_added_up() -> None:
    scene = served(ADAPTERS, serving=scaling())
    metrics = [each["pods"]["metric"]["name"] for each in scene.get("HorizontalPodAutoscaler")["spec"]["metrics"]]
    assert metrics == ["vllm:num_requests_running", "vllm:num_requests_waiting"]


@pytest.mark.parametrize("served_apis", [frozenset(("metrics.k8s.io",)), KEDA | {"metrics.k8s.io"}])
def test_llama_cpp_follows_its_processors_where_nothing_reads_its_metrics(served_apis: frozenset[str]) -> None:
    scene = served(served_apis, **CPUS, serving={"autoscaling": {"maxReplicas": 2}})
    if "ScaledObject" in served_apis:
        assert trigger(scene)["metadata"] == {"value": "80", "containerName": "llama-server"}
        return
    (metric,) = scene.get("HorizontalPodAutoscaler")["spec"]["metrics"]
    target = {"type": "Utilization", "averageUtilization": 80}
    assert metric["containerResource"] == {"name": "cpu", "container": "llama-server", "target": target}


INSTALL = "set spec.serving.autoscaling.prometheus, or the chart's autoscaling.prometheus"


TO_ZERO = {"minReplicas": 0, "triggers": [QUEUE]}
NOTHING = (
    "nothing here scales by the engine's metrics: install KEDA (its CRDs and operator) and a Prometheus, or an adapter "
    "that serves custom.metrics.k8s.io, as prometheus-adapter does"
)
ONE_STAYS = (
    "minReplicas 0 takes KEDA, since a HorizontalPodAutoscaler keeps one replica: install KEDA (its CRDs and "
    "operator), or set it to 1"
)
NOT_BY_CPU = "metric CPU says nothing of vLLM's load: set metric to Requests, WaitingRequests or KVCacheUsage"
NO_KV_CACHE = "LlamaCpp exports no KV cache usage: set metric to Requests or WaitingRequests"
SERVER = "install metrics-server, which serves metrics.k8s.io"
UNREAD = f"KEDA reads the engine's metrics from a Prometheus: {INSTALL}"
IN_USE = f"minReplicas 0 takes a Prometheus, which tells that no replica is in use: {INSTALL}"


@pytest.mark.parametrize(
    ("served_apis", "asked", "spec", "sentence"),
    [
        (frozenset(), {}, {}, NOTHING),
        (frozenset(), {}, CPUS, f"{NOTHING}, or metrics-server, which serves metrics.k8s.io, for metric CPU"),
        (KEDA, {"prometheus": None}, {}, UNREAD),
        (KEDA, {"prometheus": None}, CPUS, f"{UNREAD}; or {SERVER}"),
        (ADAPTERS, TO_ZERO, {}, ONE_STAYS),
        (KEDA, {**TO_ZERO, "prometheus": None}, {}, IN_USE),
        (KEDA, {"metric": "CPU"}, {}, NOT_BY_CPU),
        (KEDA, {"metric": "KVCacheUsage"}, CPUS, NO_KV_CACHE),
        (KEDA, {"metric": "CPU"}, CPUS, f"nothing here tells of processors: {SERVER}"),
    ],
)
def test_what_cannot_scale_is_refused_by_name_and_goes_on_serving(
    served_apis: frozenset[str], asked: dict[str, Any], spec: dict[str, Any], sentence: str
) -> None:
    scene = served(served_apis, **spec, serving=scaling(**asked))
    assert (scene.stalled().reason, scene.stalled().message) == (
        "NoAutoscaler",
        f"spec.serving.autoscaling: {sentence}",
    )
    assert scene.condition("Available").status == "True"
    assert not scene.cache.keys("ScaledObject")


def test_what_is_installed_later_is_found() -> None:
    scene = served(frozenset(), serving=scaling())
    scene.served_apis = KEDA
    scene.settle()
    assert scene.phase() == "Ready"
    assert scene.cache.keys("ScaledObject")


def test_an_autoscaler_goes_before_keda_takes_its_place() -> None:
    scene = served(ADAPTERS, serving=scaling())
    scene.served_apis |= KEDA
    scene.settle()
    assert not scene.cache.keys("HorizontalPodAutoscaler")
    assert scene.applied[-2:] == [f"delete HorizontalPodAutoscaler {NAME}", f"ScaledObject {NAME}"]


def test_what_a_scaler_says_of_its_trouble_is_told() -> None:
    scene = served(serving=scaling())
    said = {"type": "Ready", "status": "False", "message": "error requesting metrics endpoint: no such host"}
    scene.create(scene.get("ScaledObject") | {"status": {"conditions": [said]}})
    assert ready(scene) == (
        f"1 of 1 replicas answer; ScaledObject {NAME} does not scale: error requesting metrics endpoint: no such host"
    )


def test_a_child_that_takes_over_starts_with_as_many_replicas_as_the_one_before() -> None:
    scene = served(serving=scaling(minReplicas=2))
    scale(scene, 3)
    scene.cache.remove("Deployment", (NAMESPACE, NAME))
    scene.settle()
    assert number(scene) == 2, "the fewest, where nothing is left to tell"


def test_pods_are_not_made_anew_for_what_stands_around_them() -> None:
    scene = served()
    before = scene.get("Deployment")["spec"]["template"]
    scene.edit(serving=scaling())
    assert scene.get("Deployment")["spec"]["template"] == before
