"""Any manifest that the CRD takes, in any world: passes raise nothing, come to rest, and apply only what is sound."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.status import FORMER_NAMES
from ftm_operator.planning.gpus.accelerators import declared_classes
from ftm_operator.reconcile.passes import Action, Apply
from ftm_operator.reconcile.refusals import Refusal
from tests.unit.operator.generated import manifests, spoiled
from tests.unit.operator.objects import NAME, NAMESPACE, Manifest, adapter_facts, base_facts, pod_of, resource
from tests.unit.operator.scene import Scene
from tests.unit.operator.sound_children import PYTHON, faults

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
CHILDREN = ("Job", "Pod", "Deployment", "LeaderWorkerSet", "Service", "PodDisruptionBudget")
FOREIGN = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "other", "controller": True}]
GPUS = declared_classes(
    [
        {"name": "T4", "nodes": 2},
        {"name": "A10G", "perNode": 4},
        {"name": "H100", "perNode": 8, "nodes": 2},
        {"name": "MI300X", "resource": "amd.com/gpu", "perNode": 8},
        {"name": "part", "memory": "10Gi", "resource": "nvidia.com/mig-1g.10gb"},
        {"name": "claimed", "memory": "80Gi", "resource": "gpu.nvidia.com"},
        {"name": "shared", "memory": "24Gi", "sharedBy": 4},
    ]
)
LARGE = {"parameters": 70_000_000_000, "weight_bytes": 141_000_000_000, "layers": 80, "hidden_size": 8192}
LARGE |= {"intermediate_size": 28672, "attention_heads": 64, "key_value_heads": 8, "head_size": 128}
ODD_FACTS: tuple[dict[str, Any], ...] = (
    {},
    LARGE,
    {"architecture": "Unknown🚀ForCausalLM", "model_type": "unknown"},
    {"dtype": "F32", "vocabulary_size": 1, "tied_embeddings": False},
)
MESSAGES = ("", "x", "{", "🚀" * 4096, '{"step":"merge"}', "a\x00\x1b[31m\nb", "CUDA out of memory")
CONDITIONS = ("ReplicaFailure", "Failed", "Complete", "Suspended", "Progressing", "Available", "PodScheduled", "Ready")


class SoundScene(Scene):
    """A scene that checks what every pass asks for."""

    def _pass(self, kind: str, name: str) -> bool:
        result = self.asked(kind, name)
        assert result == self.asked(kind, name)
        said = [*self.events, *(notice.message for notice in result.notices)]
        said += [each["message"] for each in (result.status or {}).get("conditions", ())]
        assert not [text for text in said if PYTHON.search(text)]
        return super()._pass(kind, name)

    def _execute(self, action: Action) -> None:
        if isinstance(action, Apply):
            assert not (found := faults(action.manifest)), found
        super()._execute(action)


@dataclass(frozen=True)
class Act:
    """Something that happens, and which of its kinds."""

    happen: Callable[[SoundScene, int], None]
    number: int


def _goes_on(scene: SoundScene, _: int) -> None:
    """The running step, or the rollout, ends well."""
    phase = scene.phase()
    if phase in ("Inspecting", "Merging", "Quantizing", "Verifying", "Deploying") and _can_go_on(scene, phase):
        scene.advance(phase)


def _can_go_on(scene: SoundScene, phase: str) -> bool:
    if phase == "Deploying":
        return bool(scene.cache.keys("Deployment") or scene.cache.keys("LeaderWorkerSet"))
    steps = {"Inspecting": "inspect", "Merging": "merge", "Quantizing": "quantize", "Verifying": "verify"}
    running = [job for job in scene.jobs(steps[phase]) if not job.get("status")]
    owners = [[owner["name"] for owner in job["metadata"].get("ownerReferences", ())] for job in running]
    return owners == [[NAME]]


def _clock(scene: SoundScene, number: int) -> None:
    scene.later((-86400, -30, 1, 120, 7200, 10**7)[number % 6])


def _gpus(scene: SoundScene, number: int) -> None:
    scene.several_nodes = bool(number & 128)
    scene.offer(tuple(each for place, each in enumerate(GPUS) if number >> place & 1))


def _lost(scene: SoundScene, number: int) -> None:
    for kind, key in _some(scene, number):
        scene.cache.remove(kind, key)
    scene.settle()


def _some(scene: SoundScene, number: int) -> list[tuple[str, tuple[str, str]]]:
    every = [(kind, key) for kind in CHILDREN for key in scene.cache.keys(kind)]
    return [every[number % len(every)]] if every else []


def _foreign(scene: SoundScene, number: int) -> None:
    """Somebody else's object has a child's name."""
    for kind, key in _some(scene, number):
        item = copy.deepcopy(scene.cache.get(kind, key) or {})
        item["metadata"]["ownerReferences"] = FOREIGN if number % 2 else []
        if number % 3 == 0:
            item["metadata"].pop("labels", None)
        scene.create(item)


def _odd_status(scene: SoundScene, number: int) -> None:
    """A child's controller says something odd of it."""
    for kind, key in _some(scene, number):
        item = copy.deepcopy(scene.cache.get(kind, key) or {})
        said = {"type": CONDITIONS[number % 8], "status": ("True", "False", "Unknown")[number % 3]}
        words = {"reason": "Odd", "message": MESSAGES[number % 7], "lastTransitionTime": scene.moment()}
        counts = {"replicas": number % 4, "readyReplicas": number % 3, "observedGeneration": number % 5}
        item["status"] = {**(item.get("status") or {}), "conditions": [said | words], **counts}
        scene.create(item)


def _pod(scene: SoundScene, number: int) -> None:
    """A running Job's pod ends with odd words, or waits."""
    for job in [job for key in scene.cache.keys("Job") if (job := scene.cache.get("Job", key))][:1]:
        ended = {"terminated": {"exitCode": number, "message": MESSAGES[number % 7]}}
        waits = {"waiting": {"reason": "ImagePullBackOff", "message": MESSAGES[number % 7]}}
        pod = pod_of(job, ended if number % 2 else waits, phase=("Failed", "Pending", "Succeeded")[number % 3])
        scene.create(pod)


def _terminating(scene: SoundScene, number: int) -> None:
    for kind, key in _some(scene, number):
        item = copy.deepcopy(scene.cache.get(kind, key) or {})
        item["metadata"]["deletionTimestamp"] = scene.moment()
        scene.create(item)


def _refused(scene: SoundScene, number: int) -> None:
    status, kind = (0, 403, 422, 429, 500)[number % 5], CHILDREN[number % 6]
    scene.refusals = [] if number % 2 else [Refusal(kind, NAME, status, MESSAGES[number % 7])]
    scene.settle()


def _older_status(scene: SoundScene, number: int) -> None:
    """The status is an earlier version's, or lacks a field."""
    item = copy.deepcopy(scene.resource())
    status = item.get("status") or {}
    for place, former, name in FORMER_NAMES:
        owner: Any = status
        for step in place:
            owner = (owner or {}).get(step)
        if owner and name in owner and number % 2:
            owner[former] = owner.pop(name)
    if status and number % 3 == 0:
        status.pop(sorted(status)[number % len(status)])
    scene.create(item)


def _spoiled(scene: SoundScene, number: int) -> None:
    """A value of the spec is wrong, and then right again."""
    right = scene.resource()["spec"]
    scene.edit(**spoiled(right, number * 257))
    scene.settle()
    scene.edit(**right)
    scene.settle()


def _touched(scene: SoundScene, number: int) -> None:
    scene.edit(annotations={"ftm.dev/refresh": str(number % 3)})


def _edited(scene: SoundScene, number: int) -> None:
    edits: tuple[dict[str, Any], ...] = (
        {"suspend": True},
        {"suspend": False},
        {"serving": {"replicas": number % 4}},
        {"serving": {"engine": "vLLM", "device": "GPU", "tensorParallelSize": 1 + number % 16}},
        {"quantization": {"method": "AWQ"}, "serving": {}},
        {"quantization": {"method": "GGUF"}, "serving": {}},
    )
    scene.edit(**edits[number % 6])
    scene.settle()


HAPPENINGS = (
    _clock,
    _gpus,
    _lost,
    _foreign,
    _odd_status,
    _pod,
    _terminating,
    _refused,
    _older_status,
    _touched,
    _edited,
    _spoiled,
)
ACTS = st.builds(Act, st.sampled_from([*[_goes_on] * len(HAPPENINGS), *HAPPENINGS]), st.integers(0, 255))
STORIES = st.lists(ACTS, min_size=3, max_size=14)


def _facts(manifest: Manifest, odd: dict[str, Any]) -> Facts:
    uris = [each["uri"] for each in manifest["spec"].get("adapters", ())]
    adapters = tuple(adapter_facts(uri=uri, digest=f"sha256:{place}") for place, uri in enumerate(uris))
    return Facts(base=base_facts(**odd), adapters=adapters)


def _told(manifest: Manifest, odd: dict[str, Any], story: list[Act]) -> SoundScene:
    scene = SoundScene(model_facts=_facts(manifest, odd))
    scene.create(manifest)
    for act in story:
        act.happen(scene, act.number)
        _check_ready(scene)
    return scene


def _check_ready(scene: SoundScene) -> None:
    """Ready is said of the spec as it is, while as many replicas answer as it asks for."""
    stored, ready = scene.resource(), scene.condition("Ready")
    if ready.status != "True":
        return
    assert scene.status()["observedGeneration"] == stored["metadata"]["generation"]
    own = (NAMESPACE, NAME)
    child = scene.cache.get("Deployment", own) or scene.cache.get("LeaderWorkerSet", (NAMESPACE, f"{NAME}-nodes"))
    wanted = stored["spec"].get("serving", {}).get("replicas", 1)
    assert child or not wanted
    if child and wanted:
        assert child["metadata"]["ownerReferences"][0]["uid"] == stored["metadata"]["uid"]
        assert child["status"].get("readyReplicas", 0) or child["status"].get("availableReplicas", 0)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(manifests(), st.sampled_from(ODD_FACTS), STORIES)
def test_any_manifest_in_any_world(manifest: Manifest, odd: dict[str, Any], story: list[Act]) -> None:
    _told(manifest, odd, story)


def test_a_wrong_value_is_shown_as_a_manifest_writes_it() -> None:
    scene = _told(resource(serving={"resources": {"limits": {"cpu": {"a": "b"}}}}), {}, [])
    assert 'limits.cpu: {"a": "b"} is not a quantity' in scene.condition("Ready").message
