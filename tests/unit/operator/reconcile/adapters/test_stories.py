"""An adapter's story: its Job, its name, its pods, and what is said when one of them is not as it should be."""

from typing import Any

import pytest

from ftm_jobs.contract.run_time_adapters import AdapterState
from ftm_jobs.contract.steps import Step
from ftm_operator.reconcile.refusals import Refusal
from tests.unit.operator.adapters import (
    DIGEST,
    KIND,
    MODEL,
    NEW_DIGEST,
    AdapterScene,
    adapter,
    held,
    loaded,
    model,
    shared,
)
from tests.unit.operator.objects import Manifest, refusal, resource


def served(*names: str, **spec: Any) -> AdapterScene:
    """Returns a scene in which two pods answer for these adapters."""
    scene = shared(**spec)
    for name in names or ("billing",):
        scene.create(adapter(name))
        scene.keep(name)
    scene.pods("a", "b")
    scene.answers(*map(loaded, names or ("billing",)), pods=("a", "b"))
    return scene


def status(scene: AdapterScene, name: str = "billing") -> Manifest:
    found: Manifest = scene.adapter(name)["status"]
    return found


def test_from_apply_to_ready() -> None:
    scene = shared()
    scene.create(adapter("billing", secretName="tenant-s3"))
    waits = scene.of("billing", "Reconciling")
    assert (waits.reason, waits.message.split(" ")[0]) == ("Inspecting", "Job")
    assert scene.arguments("adapter", "billing") == [
        "adapter",
        "--base",
        "s3://models/base,digest=sha256:base,credentials=/var/run/ftm/base/models-s3",
        "--adapter",
        "s3://tenants/billing,credentials=/var/run/ftm/adapter-0/tenant-s3",
        "--artifacts",
        "s3://artifacts/built,credentials=/var/run/ftm/artifacts/artifacts-s3",
        "--report",
        "/dev/termination-log",
    ]
    scene.keep("billing", notes=("README.md is not read",))
    assert scene.of("billing", "Reconciling").message == f"no pod of FineTunedModel {MODEL} answers yet"
    scene.pods("a", "b")
    scene.answers(loaded("billing"))
    assert scene.of("billing", "Reconciling").message == '1 of 2 pods answer for "billing"'
    assert status(scene)["pods"] == "1/2"
    scene.answers(loaded("billing"), pods=("b",))
    ready = scene.of("billing", "Ready")
    assert (ready.status, ready.reason, ready.message) == ("True", "Serving", '2 pods answer for "billing"')
    told = status(scene)
    assert (told["servedName"], told["serving"], told["pods"]) == ("billing", DIGEST, "2/2")
    assert told["endpoint"] == f"http://{MODEL}.team-a.svc/v1"
    assert (told["facts"]["rank"], told["artifact"]["digest"], told["baseDigest"]) == (8, DIGEST, "sha256:base")
    assert (told["effect"]["difference"], told["notes"]) == (0.5, ["README.md is not read"])
    assert scene.events[-1] == "Normal Serving"


def test_a_job_is_the_adapters_own_and_of_no_model_of_its_name() -> None:
    scene = shared()
    scene.create(adapter(MODEL, servedName="billing"))
    (job,) = scene.jobs("adapter")
    assert job["metadata"]["labels"]["ftm.dev/adapter"] == MODEL
    assert "ftm.dev/name" not in job["metadata"]["labels"]
    assert [owner["kind"] for owner in job["metadata"]["ownerReferences"]] == [KIND]
    assert job not in scene.cache.labelled("Job", "team-a", "ftm.dev/name", MODEL)


def test_its_pods_are_as_the_models_spec_says() -> None:
    scene = shared(jobs={"serviceAccountName": "models", "nodeSelector": {"disk": "ssd"}})
    scene.create(adapter("billing"))
    spec = scene.running_job("adapter")["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["nodeSelector"]) == ("models", {"disk": "ssd"})


def test_a_served_adapter_that_nothing_happens_to_asks_for_nothing() -> None:
    result = served().adapter_once("billing")
    assert (result.actions, result.status, result.notices) == ((), None, ())


@pytest.mark.parametrize(
    ("others", "reason", "message"),
    [
        (
            [],
            "ModelNotFound",
            "there is no FineTunedModel shared in this namespace; create it, or correct spec.model",
        ),
        (
            [resource(MODEL)],
            "ModelNotDynamic",
            "FineTunedModel shared serves no adapters beside its base; set its spec.mode to Dynamic",
        ),
        (
            [model(preview="Dynamic", mode="Merged", adapters=[{"name": "own", "uri": "s3://models/own"}])],
            "ModelNotDynamic",
            "FineTunedModel shared serves no adapters beside its base; set its spec.mode to Dynamic",
        ),
        (
            [model(artifacts=None)],
            "NoArtifactStore",
            "spec.artifacts is not set and the operator has no default store; set spec.artifacts.uri",
        ),
    ],
)
def test_without_a_model_that_serves_adapters_it_is_stalled(others: list[Manifest], reason: str, message: str) -> None:
    scene = AdapterScene()
    for item in [*others, adapter("billing")]:
        scene.put(item)
    scene.settle()
    stalled = scene.of("billing", "Stalled")
    assert (stalled.reason, stalled.message) == (reason, message)
    assert scene.jobs("adapter") == []


def test_it_waits_for_its_model_to_be_inspected() -> None:
    scene = AdapterScene()
    scene.put(model())
    scene.create(adapter("billing"))
    waits = scene.of("billing", "Reconciling")
    assert (waits.reason, waits.message) == (
        "ModelNotReady",
        "waits for FineTunedModel shared: it is not inspected yet",
    )


def test_a_model_that_is_deleted_and_made_again_serves_it_again() -> None:
    scene = served()
    model_then = scene.get("FineTunedModel", MODEL)
    scene.delete("FineTunedModel", MODEL)
    assert scene.of("billing", "Stalled").reason == "ModelNotFound"
    assert not {"endpoint", "pods", "serving"} & status(scene).keys()
    scene.create(model_then)
    assert scene.of("billing", "Ready").status == "True"
    assert len(scene.jobs("adapter")) == 1


def test_of_two_that_want_one_name_the_older_has_it_and_the_newer_gets_it_when_the_older_goes() -> None:
    scene = served("billing")
    scene.create(adapter("later", created=1, servedName="billing"))
    stalled = scene.of("later", "Stalled")
    assert (stalled.reason, stalled.message) == (
        "ServedNameTaken",
        (
            'FineTunedAdapter billing, which is older, is served as "billing"; set spec.servedName to another name '
            'than "billing", or delete that one'
        ),
    )
    assert scene.of("billing", "Ready").status == "True"
    scene.delete(KIND, "billing")
    assert scene.running_job("adapter", "later")
    assert scene.of("later", "Reconciling").reason == "Inspecting"


def test_a_name_that_another_version_is_proven_under_is_taken() -> None:
    scene = served("billing")
    scene.create(adapter("squatter", created=1, servedName="billing-11111111"))
    assert scene.of("squatter", "Stalled").reason == "ServedNameTaken"
    scene.edit_adapter("squatter", servedName="billing-22222222")
    assert scene.of("squatter", "Reconciling").reason == "Inspecting"


def test_the_bases_own_name_is_taken() -> None:
    scene = shared()
    scene.create(adapter("billing", servedName=MODEL))
    stalled = scene.of("billing", "Stalled")
    assert (stalled.reason, stalled.message) == (
        "ServedNameTaken",
        'the base of FineTunedModel shared answers to "shared" itself; set spec.servedName to another name',
    )


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("AdapterMismatch", "s3://tenants/billing: q_proj is 512 wide, and the base's is 576; use the right base"),
        ("PickleWeights", "s3://tenants/billing: adapter_model.bin is a pickle; save it as safetensors"),
        ("AccessDenied", "s3://tenants/billing: the Secret tenant-s3 is missing; create it"),
        ("InvalidSafetensors", "s3://tenants/billing: adapter_model.safetensors is truncated; upload it again"),
    ],
)
def test_what_its_job_refuses_is_said_in_its_words_and_tried_again_later(reason: str, message: str) -> None:
    scene = shared()
    scene.create(adapter("billing"))
    scene.end_job("adapter", refusal(Step.ADAPTER, reason, message), name="billing")
    stalled = scene.of("billing", "Stalled")
    assert (stalled.reason, stalled.message) == (reason, message)
    scene.later(61)
    assert scene.running_job("adapter")["metadata"]["name"].endswith("-2")


def test_a_job_that_is_killed_for_its_memory_gets_more_and_then_the_models_field_is_named() -> None:
    scene = shared()
    scene.create(adapter("billing"))
    scene.end_job("adapter", name="billing", reason="OOMKilled", exitCode=137)
    assert scene.container("adapter")["resources"]["limits"]["memory"] == "2Gi"
    scene.end_job("adapter", name="billing", reason="OOMKilled", exitCode=137)
    stalled = scene.of("billing", "Stalled")
    assert stalled.reason == "OutOfMemory"
    assert stalled.message.endswith("raise spec.jobs.resources.limits.memory of FineTunedModel shared")


def test_a_job_that_the_api_server_refuses_is_said() -> None:
    scene = shared()
    scene.refusals = (Refusal("Job", "billing-adapter", 403, "exceeded quota: small"),)
    scene.create(adapter("billing"))
    waits = scene.of("billing", "Reconciling")
    assert waits.reason == "ChildRefused"
    assert "exceeded quota: small" in waits.message


def test_what_an_engine_does_not_take_is_said_in_its_words_while_others_go_on() -> None:
    scene = served("billing", "legal")
    said = "LoRA rank 64 is greater than max_lora_rank 8"
    failed = held("billing", AdapterState.FAILED, reason="EngineRefuses", message=said)
    scene.answers(failed, loaded("legal"), pods=("b",))
    stalled = scene.of("billing", "Stalled")
    assert stalled.reason == "EngineRefuses"
    assert stalled.message == f'1 of 2 pods answer for "billing"; pod b: {said}'
    assert scene.of("legal", "Ready").status == "True"


def test_what_may_pass_is_said_and_not_stalled() -> None:
    scene = served()
    scene.answers(held("billing", AdapterState.LOADING, message="500 Internal Server Error"))
    waits = scene.of("billing", "Reconciling")
    assert waits.message == '1 of 2 pods answer for "billing"; pod a: 500 Internal Server Error'


def test_a_remark_on_what_is_served_all_the_same_is_in_ready() -> None:
    scene = served()
    said = "it changes nothing: 0.001 nats, and rounding is 0.01"
    scene.answers(loaded("billing", message=said, answers=('"red" is not in the answer',)))
    ready = scene.of("billing", "Ready")
    assert (ready.status, ready.message) == (
        "True",
        f'2 pods answer for "billing"; {said}; "red" is not in the answer',
    )


def test_only_pods_that_answer_and_are_not_about_to_end_count() -> None:
    scene = served()
    scene.pods("starting", ready=False)
    assert scene.of("billing", "Ready").status == "True"
    scene.pods("new")
    assert scene.of("billing", "Reconciling").message == '2 of 3 pods answer for "billing"'


def test_a_new_version_is_kept_beside_the_old_one_which_serves_until_it_is_proven() -> None:
    scene = served()
    scene.edit_adapter("billing", uri="s3://tenants/billing-v2")
    assert scene.of("billing", "Reconciling").reason == "Inspecting"
    assert (status(scene)["artifact"]["digest"], status(scene)["serving"]) == (DIGEST, DIGEST)
    scene.keep("billing", NEW_DIGEST)
    scene.answers(held("billing", AdapterState.LOADING, NEW_DIGEST, serving=DIGEST), pods=("a", "b"))
    assert (status(scene)["pods"], status(scene)["serving"]) == ("0/2", DIGEST)
    scene.answers(loaded("billing", NEW_DIGEST), pods=("a", "b"))
    assert (scene.of("billing", "Ready").status, status(scene)["serving"]) == ("True", NEW_DIGEST)


def test_a_new_version_that_is_refused_leaves_the_old_one_in_place() -> None:
    scene = served()
    scene.edit_adapter("billing", uri="s3://tenants/wrong")
    scene.end_job("adapter", refusal(Step.ADAPTER, "SourceNotFound", "there is nothing"), name="billing")
    assert scene.of("billing", "Stalled").message == "there is nothing"
    assert (status(scene)["artifact"]["digest"], status(scene)["pods"]) == (DIGEST, "2/2")


def test_the_refresh_annotation_resolves_it_again() -> None:
    scene = served()
    scene.edit_adapter("billing", annotations={"ftm.dev/refresh": "again"})
    assert len(scene.jobs("adapter")) == 2


def test_another_base_has_it_kept_anew() -> None:
    scene = served()
    scene.edit(MODEL, base={"uri": "s3://models/other"})
    assert scene.of("billing", "Ready").status == "True"
    changed = scene.model_facts.base.model_copy(update={"uri": "s3://models/other", "digest": "sha256:other"})
    scene.inspect(scene.model_facts.model_copy(update={"base": changed}), name=MODEL)
    assert scene.of("billing", "Reconciling").reason == "Inspecting"
    assert "s3://models/other,digest=sha256:other" in scene.argument("adapter", "--base")


def test_a_suspended_model_checks_nothing_new_and_what_serves_goes_on() -> None:
    scene = served()
    scene.edit(MODEL, suspend=True)
    scene.create(adapter("later", created=1))
    ready = scene.of("later", "Ready")
    assert (ready.status, ready.reason) == ("False", "Suspended")
    assert scene.conditions_of("later").keys() == {"Ready"}
    assert scene.of("billing", "Ready").status == "True"
    assert len(scene.jobs("adapter")) == 1


def test_a_rank_beyond_what_the_spec_allows_is_stalled_with_both_numbers() -> None:
    scene = shared(serving={"dynamic": {"maxRank": 16}})
    scene.create(adapter("billing"))
    scene.keep("billing", rank=64)
    stalled = scene.of("billing", "Stalled")
    assert (stalled.reason, stalled.message) == (
        "RankTooLarge",
        "its rank is 64, and FineTunedModel shared takes 16; set its spec.serving.dynamic.maxRank to 64 or more",
    )


def test_a_larger_rank_has_the_model_planned_anew() -> None:
    scene = shared()
    scene.create(adapter("billing"))
    scene.keep("billing", rank=64)
    assert scene.plan(MODEL)["adapters"]["maxRank"] == 64
    assert scene.of("billing", "Reconciling").reason == "Loading"


def test_a_pod_that_was_started_for_smaller_ranks_fails_nothing() -> None:
    scene = shared()
    scene.create(adapter("billing"))
    scene.keep("billing", rank=64)
    scene.pods("a", "b", args=("--max-lora-rank", "16"))
    said = "LoRA rank 64 is greater than max_lora_rank 16"
    scene.answers(held("billing", AdapterState.FAILED, message=said), pods=("a", "b"))
    waits = scene.of("billing", "Reconciling")
    assert (
        waits.message == '0 of 2 pods answer for "billing"; pod a was started for smaller ranks and is to be replaced'
    )
    scene.pods("b", args=("--max-lora-rank", "64"))
    scene.answers(loaded("billing"), pods=("b",))
    assert scene.of("billing", "Reconciling").message == '1 of 2 pods answer for "billing"'


def test_a_rank_for_which_the_model_is_not_planned_anew_is_stalled_with_both_numbers() -> None:
    scene = shared()
    scene.create(adapter("billing"))
    scene.keep("billing", rank=64)
    model_now = scene.get("FineTunedModel", MODEL)
    plan = {**model_now["status"]["plan"], "adapters": {"maxRank": 16, "slots": 4, "cpuSlots": 32}}
    scene.put({**model_now, "status": {**model_now["status"], "plan": plan}})
    told = {each["type"]: each for each in (scene.adapter_once("billing").status or {})["conditions"]}
    assert told["Stalled"]["message"] == (
        "its rank is 64, and FineTunedModel shared takes 16; a larger rank does not fit the GPUs that it has; set its "
        "spec.serving.dynamic.maxRank to 64 or more"
    )


def test_a_spec_that_an_older_crd_let_in_is_stalled() -> None:
    scene = shared()
    scene.create(adapter("billing", uri="ftp://tenants/billing"))
    stalled = scene.of("billing", "Stalled")
    assert stalled.reason == "InvalidSpec"
    assert stalled.message.startswith('spec.uri: "ftp://tenants/billing"')


def test_the_writes_for_an_adapter_are_as_many_whether_there_are_others_or_not() -> None:
    scene, numbers = shared(), range(40)
    scene.pods("a", "b")
    writes = []
    for number in numbers:
        before = len(scene.applied) + scene.written
        scene.create(adapter(f"adapter-{number}"))
        scene.keep(f"adapter-{number}")
        scene.answers(*(loaded(f"adapter-{each}") for each in range(number + 1)), pods=("a", "b"))
        assert scene.of(f"adapter-{number}", "Ready").status == "True"
        writes.append(len(scene.applied) + scene.written - before)
    assert writes[1:] == [writes[1]] * (len(numbers) - 1)
