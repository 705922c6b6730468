"""Containers that a webhook adds to a step's pod, as a service mesh's proxy, neither hide nor delay the step's end."""

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from tests.unit.operator.objects import Manifest, facts, merged_report, pod_of, refusal, report
from tests.unit.operator.scene import Scene, scene_of

PROXY = "istio-proxy"


def with_proxy(scene: Scene, step: str, state: Manifest, *, proxy: Manifest | None = None, **status: object) -> str:
    """Stores the pod of a step's running Job, with a proxy before the step's container; returns the Job's name."""
    job = scene.running_job(step)
    pod = pod_of(job, state)
    pod["status"]["containerStatuses"].insert(0, {"name": PROXY, "state": proxy or {"running": {}}})
    pod["status"] |= {"phase": "Running", **status}
    scene.put(pod)
    scene.settle()
    return str(job["metadata"]["name"])


def ended(scene: Scene, told: Report | None = None, **terminated: object) -> Manifest:
    code = int(told.exit_code) if told else 0
    message = {"message": told.termination_message()} if told else {}
    return {"terminated": {"exitCode": code, "finishedAt": scene.now.isoformat(), **message, **terminated}}


def names(scene: Scene, step: str) -> list[str]:
    return [job["metadata"]["name"] for job in scene.jobs(step)]


def test_a_steps_report_is_its_result_although_a_proxy_goes_on_and_the_job_goes_once_it_is_kept() -> None:
    scene = scene_of()
    inspect = with_proxy(scene, "inspect", ended(scene, report(Step.INSPECT, "Inspected", facts=facts())))
    merge = with_proxy(scene, "merge", ended(scene, merged_report()))
    assert scene.phase() == "Verifying"
    assert names(scene, "inspect") + names(scene, "merge") == []
    assert [f"delete Job {name}" in scene.applied for name in (inspect, merge)] == [True, True]


def test_the_job_stays_until_status_has_its_result() -> None:
    scene = scene_of()
    pod = pod_of(scene.running_job("inspect"), ended(scene, report(Step.INSPECT, "Inspected", facts=facts())))
    pod["status"]["containerStatuses"].append({"name": PROXY, "state": {"running": {}}})
    scene.put(pod)
    adopting = scene.once()
    assert adopting.status
    assert adopting.status["facts"]
    assert [action.manifest["metadata"]["labels"]["ftm.dev/step"] for action in adopting.actions] == ["merge"]


def test_a_refusal_is_said_and_its_job_stays_with_its_log_until_the_next_attempt() -> None:
    scene = scene_of()
    first = with_proxy(scene, "inspect", ended(scene, refusal(Step.INSPECT, "AccessDenied", "403 for s3://models")))
    assert scene.stalled().message == "403 for s3://models"
    assert names(scene, "inspect") == [first]
    assert scene.once().retry_after == 60
    scene.later(60)
    (second,) = names(scene, "inspect")
    assert second == f"{first.removesuffix('1')}2"
    with_proxy(scene, "inspect", ended(scene, report(Step.INSPECT, "Unavailable", Outcome.FAILED, "503")))
    assert scene.once().retry_after == 120, "the delays go on although the first Job is gone"


def test_a_step_that_ran_out_of_memory_beside_a_proxy_gets_more() -> None:
    scene = scene_of()
    scene.reach("Merging")
    with_proxy(scene, "merge", ended(scene, exitCode=137, reason="OOMKilled"))
    (job,) = scene.jobs("merge")
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "8Gi"


def test_a_proxy_that_ran_out_of_memory_is_not_the_step() -> None:
    scene = scene_of()
    scene.reach("Merging")
    proxy = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": scene.now.isoformat()}}
    name = with_proxy(scene, "merge", {"running": {}}, proxy=proxy)
    assert scene.condition("Ready").message == f"Job {name} is running"
    assert names(scene, "merge") == [name]


def test_a_running_step_is_followed_by_its_own_log() -> None:
    scene = scene_of()
    scene.reach("Merging")
    with_proxy(scene, "merge", {"running": {}})
    pod = scene.once().effects.progress_pod
    assert pod
    assert pod.container == "merge"


def test_a_pod_that_is_on_its_way_out_is_the_job_controllers_to_judge() -> None:
    scene = scene_of()
    pod = pod_of(scene.running_job("inspect"), ended(scene, exitCode=143))
    pod["status"]["containerStatuses"].append({"name": PROXY, "state": {"running": {}}})
    pod["metadata"]["deletionTimestamp"] = scene.moment()
    scene.put(pod)
    scene.settle()
    assert scene.condition("Ready").reason == "Inspecting"
