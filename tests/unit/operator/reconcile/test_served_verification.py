"""An engine is held against what verification kept, where the spec asks for it: in its pod, and in the status."""

from typing import Any

import pytest

from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.verification import Check, ServedVerification, Verification
from ftm_operator.planning.gpus.accelerators import declared_classes
from tests.unit.operator.objects import NAME, NAMESPACE, report, resource
from tests.unit.operator.scene import Scene, scene_of

KEY = f"reference-{'3' * 32}"
DIFFERS = "log-probabilities of 400 tokens differ from the verified model's by 0.6 nats/token"


def verified(*, keeps: bool = True, **verification: Any) -> Scene:
    """Returns a model that was verified, with what serves it applied."""
    gpus = tuple(declared_classes([{"name": "NVIDIA-L4", "perNode": 4}]))
    return kept(scene_of(resource(verification={"served": "Checked", **verification}), gpus=gpus), keeps=keeps)


def kept(scene: Scene, *, keeps: bool = True) -> Scene:
    """Has the model be verified."""
    scene.reach("Verifying")
    store = scene.argument("verify", "--artifacts").split(",")[0]
    made = [
        Artifact(key=key, uri=f"{store}/{key}", digest=f"sha256:{key}", total_bytes=9_000, files=1)
        for key in (f"verify-{'2' * 32}", KEY)
    ]
    check = Check(name="MergeAgrees", value=0, bound=1, unit="nats/token", passed=True)
    told = Verification(passed=True, checks=(check,))
    ended = report(Step.VERIFY, "Verified", artifact=made[0], verification=told)
    scene.end_job("verify", ended.model_copy(update={"reference": made[1] if keeps else None}))
    return scene


def says(scene: Scene, pod: str, *, passed: bool, reason: str = "", checks: bool = True) -> None:
    """Has a pod's sidecar say that its engine is what was verified, or not."""
    labels = {"ftm.dev/name": NAME, "ftm.dev/step": "serve", "app.kubernetes.io/name": "vllm"}
    status = {
        "conditions": [{"type": "Ready", "status": str(passed)}],
        "initContainerStatuses": [{"name": "served", "state": {"running": {}}}],
    }
    metadata = {"name": pod, "namespace": NAMESPACE, "labels": labels}
    scene.put({"kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "vllm"}]}, "status": status})
    figures = (Check(name="ServedLogprobs", value=0.6, bound=0.1, unit="nats/token", passed=passed),)
    scene.served[pod] = ServedVerification(
        reason=reason or ("ServedAsVerified" if passed else "ServedDiffers"),
        message="all is as verified" if passed else DIFFERS,
        reference=f"sha256:{KEY}",
        passed=passed,
        checks=figures if checks else (),
    )
    scene.settle()


def sidecars(scene: Scene) -> list[dict[str, Any]]:
    pod = scene.get("Deployment")["spec"]["template"]["spec"]
    return [each for each in pod["initContainers"] if each["name"] == "served"]


def test_a_pod_is_ready_only_once_a_sidecar_has_held_its_engine_against_the_reference() -> None:
    (sidecar,) = sidecars(verified())
    words = sidecar["args"]
    assert words[0] == "served"
    assert f"/{KEY},digest=sha256:{KEY}" in words[words.index("--reference") + 1]
    assert words[words.index("--kind") + 1] == "vLLM"
    assert words[words.index("--policy") + 1] == "Block"
    assert "--watch" in words
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8001}


def test_the_sidecar_is_told_in_which_dtypes_the_engine_computes() -> None:
    gpus = tuple(declared_classes([{"name": "NVIDIA-L4", "perNode": 4}]))
    serving = {"dtype": "float16", "extraArgs": ["--kv-cache-dtype=fp8"]}
    scene = kept(scene_of(resource(verification={"served": "Checked"}, serving=serving), gpus=gpus))
    (sidecar,) = sidecars(scene)
    words = sidecar["args"]
    assert [words[words.index(flag) + 1] for flag in ("--dtype", "--kv-cache-dtype")] == ["float16", "fp8"]


@pytest.mark.parametrize("scene", [verified(served="Unchecked"), verified(keeps=False)], ids=["not asked", "not kept"])
def test_without_a_wish_or_a_reference_pods_are_as_they_were(scene: Scene) -> None:
    assert not sidecars(scene)


def test_a_verdict_becomes_the_condition_with_its_figures() -> None:
    scene = verified()
    assert scene.condition("ServedVerified").status == "Unknown"
    scene.reach("Ready")
    says(scene, "a", passed=True)
    condition = scene.condition("ServedVerified")
    assert (condition.status, condition.reason, condition.message) == ("True", "ServedAsVerified", "all is as verified")
    assert scene.condition("Ready").status == "True"


def test_an_engine_that_differs_stalls_the_rollout_with_its_figures() -> None:
    scene = verified()
    says(scene, "a", passed=False)
    assert scene.phase() == "Failed"
    assert (scene.condition("Stalled").reason, scene.condition("ServedVerified").status) == ("ServedDiffers", "False")
    assert DIFFERS in scene.condition("Ready").message


def events(scene: Scene) -> list[str]:
    """Returns type and reason of the Events about verdicts."""
    return [each for each in scene.events if " Served" in each]


def test_each_other_verdict_is_an_event_once() -> None:
    scene = verified(policy="Warn")
    scene.reach("Ready")
    for passed in (True, True, False, False):
        says(scene, "a", passed=passed)
    assert events(scene) == ["Normal ServedAsVerified", "Warning ServedDiffers"]


def test_a_verdict_that_stalls_the_model_is_no_second_event() -> None:
    scene = verified()
    says(scene, "a", passed=False)
    assert events(scene) == ["Warning ServedDiffers"]


def test_policy_warn_rolls_it_out_and_the_condition_tells() -> None:
    scene = verified(policy="Warn")
    says(scene, "a", passed=False)
    assert scene.phase() == "Deploying"
    scene.reach("Ready")
    assert scene.condition("ServedVerified").status == "False"


def test_an_engine_that_could_not_be_measured_is_waited_for() -> None:
    scene = verified()
    says(scene, "a", passed=False, reason="ServedUnproven", checks=False)
    assert scene.phase() == "Deploying"
    assert scene.condition("ServedVerified").status == "Unknown"


def test_a_verification_without_a_reference_says_what_to_do() -> None:
    scene = verified(keeps=False)
    assert "change spec.verification.prompts" in scene.condition("ServedVerified").message


def test_the_condition_is_there_only_where_it_was_asked_for() -> None:
    scene = verified(served="Unchecked")
    scene.reach("Ready")
    assert "ServedVerified" not in [each["type"] for each in scene.resource()["status"]["conditions"]]


def test_asking_for_the_check_makes_pods_anew_and_nothing_else() -> None:
    scene = verified(served="Unchecked")
    scene.reach("Ready")
    jobs = len([word for word in scene.applied if word.startswith("Job")])
    scene.edit(verification={"served": "Checked"})
    scene.settle()
    assert len(sidecars(scene)) == 1
    assert len([word for word in scene.applied if word.startswith("Job")]) == jobs
