"""One base in memory and the adapters of several tenants beside it, on the same stack as the other story.

Every tenant's adapter was told another answer to the same question, so that an answer tells which adapter gave it.
"""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.assets.tenants import QUESTION, TENANTS, of_rank, prepare, without_effect
from tests.cluster.catalogue import JOBS
from tests.cluster.kubectl import KubectlError
from tests.cluster.progress import say
from tests.cluster.service import reached
from tests.cluster.stack import OPERATOR_NAMESPACE, RELEASE
from tests.e2e.asking import asked_all_the_time, chat_answer
from tests.e2e.chapters import chapter
from tests.e2e.story import NAMESPACE, OPERATOR, Story, condition, manifest
from tests.servers.seaweedfs import MODELS
from tests.unit.operator.kstatus import violations

pytestmark = pytest.mark.timeout(3000)
NAME = "shared-base"
KEY = "tenants-alone"
SHARED = "a base that tenants share"
FACTS = {tenant.name: tenant.fact for tenant in TENANTS}
SERVING = {**manifest()["spec"]["serving"], "apiKeySecretName": "shared-key"}
TENANT = f"system:serviceaccount:{NAMESPACE}:west"
TENANTS_ROLE: list[dict[str, Any]] = [
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "west"},
        "rules": [
            {
                "apiGroups": ["ftm.dev"],
                "resources": ["finetunedadapters"],
                "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
            }
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "west"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "west"},
        "subjects": [{"kind": "ServiceAccount", "name": "west", "namespace": NAMESPACE}],
    },
]


KILL_ENGINE = """
import os, signal
for process in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{process}/comm") as named:
        if named.read().startswith("VLLM::Engine"):
            os.kill(int(process), signal.SIGKILL)
"""
"""Runs in the engine's container: the process that computes dies, and the one that answers with it."""


TRY_TO_LOAD = """
import json, sys, urllib.error, urllib.request
url, key = sys.argv[1:]
model = {"model": "shared-base", "prompt": "Hello", "max_tokens": 1}
tried = [
    ("POST", "/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "/adapters/mine"}),
    ("POST", "/v1/unload_lora_adapter", {"lora_name": "north"}),
    ("POST", "/adapters", {"name": "mine", "src": "/adapters/mine"}),
    ("DELETE", "/adapters/north", None),
    ("POST", "/invocations", model),
    ("POST", "//invocations", model),
]
answered = []
for bearer in (None, key):
    for method, path, body in tried:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(url + path, data, headers, method=method)
            status = urllib.request.urlopen(request, timeout=300).status
        except urllib.error.HTTPError as error:
            status = error.code
        answered.append({"path": path, "key": bool(bearer), "status": status})
print(json.dumps(answered))
"""


def said_by_a_pod(story: Story, script: str, *arguments: str) -> str:
    """Returns what a Python script prints in a pod of its own."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "another"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "python",
                    "image": JOBS.name,
                    "imagePullPolicy": "Never",
                    "command": ["python3", "-c", script, *arguments],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    story.kubectl.apply(pod)
    ended = ("Succeeded", "Failed")
    story.eventually("it has asked", lambda: story.kubectl.get("pod", "another")["status"].get("phase") in ended)
    printed = story.kubectl("logs", "another")
    story.kubectl("delete", "pod", "another", "--wait")
    return printed


def source(name: str) -> dict[str, Any]:
    return {"uri": f"s3://{MODELS}/adapters/{name}", "secretName": "models-s3"}


def adapter(name: str, of: str, **spec: Any) -> dict[str, Any]:
    """Returns a FineTunedAdapter beside the shared base, whose files are those of the tenant `of`."""
    return {
        "apiVersion": "ftm.dev/v1alpha1",
        "kind": "FineTunedAdapter",
        "metadata": {"name": name},
        "spec": {"model": NAME, **source(of), **spec},
    }


def ask(address: str, model: str) -> str:
    """Returns the greedy answer of one of the served models to the question. Raises HTTPStatusError."""
    return chat_answer(f"http://{address}", model, QUESTION, {"Authorization": f"Bearer {KEY}"})


def await_adapter(story: Story, name: str, kind: str = "Ready") -> dict[str, Any]:
    """Waits until a condition of the adapter is true for its present spec, and returns the adapter."""

    def is_true() -> dict[str, Any] | None:
        found = story.kubectl.get("finetunedadapter", name)
        now = condition(found, kind)
        current = found["status"].get("observedGeneration") == found["metadata"]["generation"]
        return found if current and now.get("status") == "True" else None

    found = story.eventually(f"{name} is {kind}", is_true)
    say(f"{name}: {condition(found, kind)['message']}")
    return found


def serving_pod(story: Story) -> dict[str, Any]:
    (pod,) = story.kubectl.list("pods", "-l", f"ftm.dev/name={NAME},ftm.dev/step=serve")
    return pod


def restarts(pod: dict[str, Any]) -> dict[str, int]:
    statuses = (*pod["status"].get("initContainerStatuses", ()), *pod["status"]["containerStatuses"])
    return {each["name"]: each["restartCount"] for each in statuses}


@chapter(leaves={SHARED})
def test_1_three_adapters_in_one_pod_answer_three_facts_by_name(story: Story) -> None:
    folders = prepare(story.stack.assets, say)
    for name, folder in folders.items():
        story.stack.s3.upload(MODELS, f"adapters/{name}", folder)
    story.kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "shared-key"},
            "stringData": {"VLLM_API_KEY": KEY},
        }
    )
    own = [{"name": name, **source(name)} for name in ("north", "south")]
    story.apply(manifest(NAME, mode="Dynamic", adapters=own, serving=SERVING))
    story.kubectl.apply(adapter("east", "east"))
    served = story.await_phase(NAME, "Ready", "Failed")
    assert not violations(served)
    assert served["status"]["plan"]["mode"] == "Dynamic"
    assert "merged" not in served["status"].get("artifacts", {})
    shown = await_adapter(story, "east")
    assert not violations(shown)
    assert (shown["status"]["servedName"], shown["status"]["pods"]) == ("east", "1/1")
    assert shown["status"]["effect"]["difference"] > shown["status"]["effect"]["rounding"]
    address = reached(story.kubectl, NAME)
    for name in ("north", "south", "east"):
        assert FACTS[name].in_answer(ask(address, name)), story.evidence()
    base = ask(address, NAME)
    assert not any(fact.in_answer(base) for fact in FACTS.values())
    say(story.kubectl("get", "fta"))


@chapter(needs={SHARED})
def test_2_a_tenant_who_may_write_nothing_else_adds_one_and_no_pod_starts_anew(story: Story) -> None:
    before = serving_pod(story)
    story.kubectl.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "west"}}, *TENANTS_ROLE)
    west = story.kubectl.within(NAMESPACE)
    with pytest.raises(KubectlError, match="forbidden"):
        west("get", "finetunedmodels", f"--as={TENANT}")
    began = time.monotonic()
    west("apply", "--server-side", f"--as={TENANT}", "-f", "-", stdin=json.dumps(adapter("west", "west")))
    address = reached(story.kubectl, NAME)

    def answers() -> bool:
        try:
            return FACTS["west"].in_answer(ask(address, "west"))
        except httpx2.HTTPStatusError:
            return False

    story.eventually("the tenant's adapter answers", answers)
    say(f"the tenant's adapter answered {time.monotonic() - began:.1f} s after it was applied")
    await_adapter(story, "west")
    after = serving_pod(story)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert restarts(after) == restarts(before)


@chapter(needs={SHARED})
def test_3_a_new_version_takes_over_without_a_wrong_answer_or_a_failed_request(story: Story) -> None:
    address = reached(story.kubectl, NAME)
    with asked_all_the_time(lambda: ask(address, "east")) as asked:
        story.eventually("the old one answers", lambda: asked.answers)
        story.kubectl.apply(adapter("east", "east-v2"))
        await_adapter(story, "east")
        story.eventually("the new one answers", lambda: FACTS["east-v2"].in_answer(asked.answers[-1]))
    assert asked.failures == []
    versions = [(FACTS["east"].in_answer(each), FACTS["east-v2"].in_answer(each)) for each in asked.answers]
    assert set(versions) == {(True, False), (False, True)}, asked.answers
    assert versions == sorted(versions, reverse=True), "once the new one has answered, the old one never does"
    assert FACTS["north"].in_answer(ask(address, "north"))


@chapter(needs={SHARED})
def test_4_one_without_effect_and_broken_ones_are_named_and_the_others_serve(story: Story, tmp_path: Path) -> None:
    folders = prepare(story.stack.assets, say)
    story.stack.s3.upload(MODELS, "adapters/zero", without_effect(folders["west"], tmp_path / "zero"))
    story.stack.s3.upload(MODELS, "adapters/wide", of_rank(folders["west"], tmp_path / "wide", 600))
    whole = (folders["west"] / "adapter_model.safetensors").read_bytes()
    story.stack.s3.upload(MODELS, "adapters/cut", folders["west"])
    story.stack.s3.put(MODELS, "adapters/cut/adapter_model.safetensors", whole[: len(whole) // 2])
    wrong = {
        "zero": (adapter("zero", "zero"), "AdapterHasNoEffect", "zero"),
        "wide": (adapter("wide", "wide"), "NotServedUnmerged", "600"),
        "cut": (adapter("cut", "cut"), "InvalidSafetensors", "adapter_model.safetensors"),
        "taken": (adapter("taken", "west", servedName="north"), "ServedNameTaken", "north"),
        "lost": ({**adapter("lost", "west"), "spec": {"model": "nobody", **source("west")}}, "ModelNotFound", "nobody"),
    }
    for applied, _, _ in wrong.values():
        story.kubectl.apply(applied)
    for name, (_, reason, said) in wrong.items():
        stalled = condition(await_adapter(story, name, "Stalled"), "Stalled")
        assert stalled["reason"] == reason, stalled
        assert said in stalled["message"], stalled
    address = reached(story.kubectl, NAME)
    for name in ("north", "south", "west"):
        assert FACTS[name].in_answer(ask(address, name))
    say(story.kubectl("get", "fta", "-o", "wide"))
    story.kubectl("delete", "fta", *wrong)


@chapter(needs={SHARED})
def test_5_no_other_pod_loads_unloads_or_gets_around_the_key(story: Story) -> None:
    address = reached(story.kubectl, NAME)
    answered = json.loads(said_by_a_pod(story, TRY_TO_LOAD, f"http://{address}", KEY))
    assert len(answered) == 12
    assert {each["status"] for each in answered} <= {401, 403, 404}, answered
    assert FACTS["north"].in_answer(ask(address, "north"))


@chapter(needs={SHARED})
def test_6_the_engine_is_killed_while_the_operator_is_down_and_all_are_back_before_the_pod_is_ready(
    story: Story,
) -> None:
    operator = story.stack.kubectl.within(OPERATOR_NAMESPACE)
    operator("scale", f"deployment/{RELEASE}", "--replicas=0")
    operator("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=ftm-operator", "--timeout=900s")
    before = serving_pod(story)
    story.kubectl("exec", before["metadata"]["name"], "-c", "vllm", "--", "python3", "-c", KILL_ENGINE)
    again = restarts(before)["vllm"] + 1
    story.eventually("the engine was started again", lambda: restarts(serving_pod(story))["vllm"] >= again)

    def is_ready() -> bool:
        conditions = {each["type"]: each["status"] for each in serving_pod(story)["status"]["conditions"]}
        return bool(conditions["Ready"] == "True")

    story.eventually("the pod is ready again", is_ready)
    address = f"{before['status']['podIP']}:8000"
    expected = {"north": "north", "south": "south", "east": "east-v2", "west": "west"}
    for name, of in expected.items():
        assert FACTS[of].in_answer(ask(address, name)), "asked as soon as the pod is ready"
    operator("scale", f"deployment/{RELEASE}", "--replicas=1")
    operator("rollout", "status", f"deployment/{RELEASE}", "--timeout=900s")
    for name in ("east", "west"):
        await_adapter(story, name)


@chapter(needs={SHARED})
def test_7_nothing_is_written_while_nothing_changes_and_what_is_deleted_is_unloaded(story: Story) -> None:
    await_adapter(story, "west")
    before = story.stack.cluster.quiet(OPERATOR, seconds=5)
    time.sleep(20)
    assert [event["requestURI"] for event in story.stack.cluster.audit(OPERATOR)[before:]] == []
    address = reached(story.kubectl, NAME)
    story.kubectl("delete", "fta", "west", "--wait")

    def is_gone() -> bool:
        try:
            ask(address, "west")
        except httpx2.HTTPStatusError as error:
            return bool(error.response.status_code == 404)
        return False

    story.eventually("it is unloaded", is_gone)
    assert FACTS["north"].in_answer(ask(address, "north"))
    story.kubectl("delete", "finetunedmodel", NAME, "--wait")
    assert condition(await_adapter(story, "east", "Stalled"), "Stalled")["reason"] == "ModelNotFound"
    story.kubectl("delete", "fta", "--all", "--wait")


@chapter(needs={SHARED})
def test_8_a_preview_answers_until_the_merged_model_takes_over_and_no_request_fails(story: Story) -> None:
    name = "previewed"
    own = [{"name": "north", **source("north")}]
    waiting = {"steps": {"merge": {"resources": {"requests": {"cpu": "64"}}}}}
    story.apply(manifest(name, preview="Dynamic", adapters=own, jobs=waiting))
    story.await_told(name, "a preview answers")
    address = reached(story.kubectl, name)
    with asked_all_the_time(lambda: ask(address, name)) as asked:
        story.eventually("the preview answers", lambda: asked.answers)
        story.apply(manifest(name, preview="Dynamic", adapters=own, jobs={}))
        served = story.await_phase(name, "Ready", "Failed")
        merged = served["status"]["artifacts"]["merged"]["digest"]
        so_far = len(asked.answers)
        story.eventually("the merged model answers", lambda: len(asked.answers) > so_far + 2)
    assert asked.failures == []
    assert all(FACTS["north"].in_answer(each) for each in asked.answers), asked.answers
    pods = story.kubectl.list("pods", "-l", f"ftm.dev/name={name},ftm.dev/step=serve")
    staying = [pod["metadata"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert [each["annotations"]["ftm.dev/artifact-digest"] for each in staying] == [merged]
    names = ("get", "fta", "-o", "jsonpath={.items[*].spec.model}")
    story.eventually("its adapter goes", lambda: name not in story.kubectl(*names).split())
    story.kubectl("delete", "finetunedmodel", name, "--wait")
