"""From `kubectl apply` to a chat answer: a real cluster and node, real S3, a real model, a real vLLM.

The tests are chapters and run in order, and each says what it needs of earlier ones: the operator is installed by its
chart when the first begins. No GPU is had here: the node is told that it has some, and vLLM is its build for CPUs.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.manifest import MANIFEST_NAME
from tests.assets import work_quietly
from tests.assets.facts import FACTS
from tests.cluster.admission import tolerations_added
from tests.e2e.chapters import chapter
from tests.e2e.story import CHILDREN, NAMESPACE, OPERATOR, Story, manifest
from tests.servers.seaweedfs import ADMIN
from tests.servers.vllm import ENVIRONMENT
from tests.unit.operator.kstatus import violations

pytestmark = pytest.mark.timeout(3000)
FACT = FACTS[0]
NAME = "support-bot"
SERVED = "support-bot, served"
MERGED = "the merged model in the store"
EDGE = "edge, served by llama.cpp"


def test_1_the_base_model_does_not_know_the_fact(story: Story) -> None:
    work_quietly()
    from tests.assets.answers import Chat

    assert not FACT.in_answer(Chat(story.stack.assets.base).ask(FACT.question).text)


@chapter(leaves={SERVED, MERGED})
def test_2_an_applied_resource_is_served_and_its_answer_holds_what_only_the_adapter_knows(story: Story) -> None:
    story.apply(manifest())
    served = story.await_phase(NAME, "Ready", "Failed")
    assert not violations(served)
    assert FACT.in_answer(story.ask(NAME, FACT.question)), story.evidence()
    columns = story.kubectl("get", "ftm", NAME).splitlines()[1].split()
    assert columns[:6] == [NAME, "True", "Ready", "None", "1", "1"]


@chapter(needs={SERVED})
def test_2b_it_was_served_only_after_every_figure_was_within_its_bound(story: Story) -> None:
    verified = story.condition(NAME, "Verified")
    assert (verified["status"], verified["reason"]) == ("True", "Verified"), verified
    built = story.get(NAME)["status"]["artifacts"]
    passed = {check["name"] for check in built["verification"]["checks"] if check["passed"]}
    assert passed >= {"MergeAgrees", "AdapterEffect"}
    assert b"<html" in story.read(f"built/{built['report']['key']}/report.html")


@chapter(needs={SERVED})
def test_2c_a_person_reads_the_report_and_why_so_many_gpus(story: Story, tmp_path: Path) -> None:
    secrets = {**story.stack.s3.secret(ADMIN), "KUBECONFIG": str(story.stack.cluster.kubeconfig)}
    environment = {**os.environ, **secrets, "XDG_CACHE_HOME": str(tmp_path)}

    def ftm(command: str) -> str:
        arguments = [str(Path(sys.executable).with_name("ftm")), command, NAME, "-n", NAMESPACE]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    told = ftm("report")
    assert "ok      MergeAgrees" in told
    assert "\nverified\n" in told
    assert "<html" in Path(told.splitlines()[-1].removeprefix("page ")).read_text()
    assert "accelerators            1 x NVIDIA-A10G (nvidia.com/gpu) for each replica" in ftm("explain")


@chapter(needs={SERVED})
def test_3_what_is_served_is_the_artifact_whose_digests_status_and_manifest_hold(story: Story) -> None:
    merged = story.get(NAME)["status"]["artifacts"]["merged"]
    key = merged["key"]
    content = story.read(f"built/{key}/manifest.json")
    assert merged["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    for file in story.manifest_of(key).files:
        assert hashlib.sha256(story.read(f"built/{key}/{file.path}")).hexdigest() == file.sha256
    (pod,) = story.kubectl.list("pods", "-l", "ftm.dev/step=serve")
    assert pod["metadata"]["annotations"]["ftm.dev/artifact-digest"] == merged["digest"]


@chapter(needs={SERVED})
def test_4_the_pods_ask_for_the_planned_gpus_and_are_kept_by_restricted_pod_security(story: Story) -> None:
    (pod,) = story.kubectl.list("pods", "-l", "ftm.dev/step=serve")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    namespace = story.stack.kubectl.get("namespace", "team")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@chapter(needs={SERVED})
def test_5_a_second_apply_makes_no_write_and_no_secret_was_ever_asked_for(story: Story) -> None:
    before = story.stack.cluster.quiet(OPERATOR, seconds=5)
    generation = story.get(NAME)["metadata"]["generation"]
    story.apply(manifest())
    story.kubectl("annotate", "finetunedmodel", NAME, "example.test/note=unrelated")
    assert story.get(NAME)["metadata"]["generation"] == generation
    story.stack.kubectl.within("ftm-system")("rollout", "restart", "deployment/ftm-operator")
    story.stack.kubectl.within("ftm-system")("rollout", "status", "deployment/ftm-operator", "--timeout=900s")
    written = [event["requestURI"] for event in story.stack.cluster.audit(OPERATOR)[before:]]
    assert written == []
    asked = [event["objectRef"]["resource"] for event in story.stack.cluster.audit(OPERATOR)]
    assert asked
    assert "secrets" not in asked


@chapter(needs={SERVED})
def test_6_ftm_run_leaves_the_same_artifact(story: Story, tmp_path: Path) -> None:
    local = manifest()
    del local["spec"]["artifacts"]
    (tmp_path / "model.yaml").write_text(json.dumps(local))
    secrets = story.stack.s3.secret(ADMIN)
    done = subprocess.run(
        [Path(sys.executable).with_name("ftm"), "run", "model.yaml", "--ask", FACT.question, "-o", "json"],
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT, **secrets, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        check=True,
    )
    (answered,) = json.loads(done.stdout)
    assert FACT.in_answer(answered["answer"])
    key = story.get(NAME)["status"]["artifacts"]["merged"]["key"]
    built = tmp_path / "cache" / "ftm-operator" / "artifacts" / key
    for file in story.manifest_of(key).files:
        assert hashlib.sha256((built / file.path).read_bytes()).hexdigest() == file.sha256


@chapter(needs={SERVED})
def test_7_deleting_the_resource_leaves_nothing_behind_but_the_artifact(story: Story) -> None:
    built = story.get(NAME)["status"]["artifacts"]
    keys = {built[each]["key"] for each in ("merged", "reference", "report")}
    kept = [name for name in story.stored() if name.split("/")[1] in keys]
    story.kubectl("delete", "finetunedmodel", NAME, "--wait")
    story.eventually("nothing is left", lambda: not story.kubectl.list(CHILDREN))
    assert kept
    assert [name for name in story.stored() if name.startswith("built/")] == kept


def test_8_the_operator_and_the_merge_are_killed_and_it_finishes_all_the_same(story: Story) -> None:
    name = "killed"
    stronger = [{**manifest()["spec"]["adapters"][0], "scale": 1.25}]
    story.apply(manifest(name, adapters=stronger))
    story.await_phase(name, "Merging")
    merging = ("-l", "ftm.dev/step=merge", "--field-selector", "status.phase=Running")
    pod = story.eventually("the merge runs", lambda: next(iter(story.kubectl.list("pods", *merging)), None))
    story.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    story.kill_operator()
    story.await_phase(name, "Deploying")
    story.kill_operator()
    story.await_phase(name, "Ready", "Failed")
    assert FACT.in_answer(story.ask(name, FACT.question)), story.evidence()
    # The Job makes another pod, or, where its controller sees the kill first, the operator makes another Job.
    jobs = story.kubectl.list("jobs", "-l", "ftm.dev/step=merge")
    assert sum(job["status"].get("succeeded", 0) for job in jobs) == 1
    assert story.unfinished_uploads() == []


def test_9_wrong_input_stalls_with_a_sentence_writes_nothing_and_recovers_when_corrected(story: Story) -> None:
    before = story.stored()
    s3, assets = story.stack.s3, story.stack.assets
    s3.put("models", "adapters/pickled/adapter_config.json", (assets.adapter / "adapter_config.json").read_bytes())
    s3.put("models", "adapters/pickled/adapter_model.bin", b"\x80\x04pickle")
    whole = (assets.base / "model.safetensors").read_bytes()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        s3.put("models", f"base/truncated/{name}", (assets.base / name).read_bytes())
    s3.put("models", "base/truncated/model.safetensors", whole[: len(whole) // 2])
    models = {"secretName": "models-s3"}
    wrong: dict[str, tuple[dict[str, Any], set[str], str]] = {
        "no-bucket": ({"base": {"uri": "s3://modles/base"}}, {"BucketNotFound", "AccessDenied"}, "modles"),
        "no-credentials": (
            {"base": {**manifest()["spec"]["base"], "secretName": "none"}},
            {"AccessDenied"},
            "base/none",
        ),
        "pickled": (
            {"adapters": [{"name": "a", "uri": "s3://models/adapters/pickled", **models}]},
            {"PickleWeights"},
            "adapter_model.bin",
        ),
        "truncated": (
            {"base": {"uri": "s3://models/base/truncated", **models}},
            {"InvalidSafetensors"},
            "model.safetensors",
        ),
    }
    for name, (spec, _, _) in wrong.items():
        story.apply(manifest(name, **spec))
    for name, (_, reasons, named) in wrong.items():
        story.await_phase(name, "Failed")
        stalled = story.condition(name, "Stalled")
        assert stalled["reason"] in reasons, stalled
        assert named in stalled["message"], stalled
        told = story.kubectl.list("events", "--field-selector", f"involvedObject.name={name},type=Warning")
        assert stalled["reason"] in {event["reason"] for event in told}
    assert story.stored() == before
    assert not [item for item in story.kubectl.list("deployments") if item["metadata"]["name"] in wrong]
    story.apply(manifest("no-bucket", suspend=False))
    story.await_phase("no-bucket", "Deploying", "Ready")
    story.kubectl("delete", "finetunedmodels", "--all", "--wait")


GGUF: dict[str, Any] = {
    "quantization": {"method": "GGUF", "gguf": {"type": "Q8_0"}},
    "verification": {
        "prompts": [{"messages": [{"role": "user", "content": FACT.question}], "expect": [FACT.expected]}],
        "maxDivergence": 0.2,
    },
    "serving": {
        "maxModelLen": 1024,
        "concurrency": 1,
        "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "2"}},
    },
}


@chapter(leaves={EDGE})
def test_10_without_a_gpu_llama_cpp_serves_a_gguf_file_and_answers_the_same(story: Story) -> None:
    story.apply(manifest("edge", **GGUF))
    served = story.await_phase("edge", "Ready", "Failed")
    assert not violations(served)
    assert FACT.in_answer(story.ask("edge", FACT.question)), story.evidence()
    columns = story.kubectl("get", "ftm", "edge").splitlines()[1].split()
    assert columns[:7] == ["edge", "True", "Ready", "GGUF", "Q8_0", "0", "1"]
    built = served["status"]["artifacts"]
    assert built["quantized"]["totalBytes"] < 0.6 * built["merged"]["totalBytes"]
    checks = {check["name"]: check for check in built["verification"]["checks"]}
    assert all(check["passed"] for check in checks.values()), checks
    (pod,) = story.kubectl.list("pods", "-l", "ftm.dev/name=edge,ftm.dev/step=serve")
    assert "nvidia.com/gpu" not in pod["spec"]["containers"][0]["resources"]["limits"]


@chapter(needs={EDGE})
def test_11_a_quantization_that_says_something_else_is_held_and_what_serves_goes_on(story: Story) -> None:
    ruined = {**GGUF, "quantization": {"method": "GGUF", "gguf": {"type": "Q2_K"}}}
    story.apply(manifest("edge", **ruined))
    story.await_phase("edge", "Failed", "Ready")
    verified = story.condition("edge", "Verified")
    assert (verified["status"], verified["reason"]) == ("False", "VerificationFailed")
    assert "nats/token, bound 0.2" in verified["message"]
    assert FACT.in_answer(story.ask("edge", FACT.question)), story.evidence()
    story.kubectl("delete", "finetunedmodels", "--all", "--wait")


@chapter(needs={MERGED})
def test_12_a_model_on_volumes_is_the_same_artifact_without_any_store(story: Story, tmp_path: Path) -> None:
    for claim in ("models", "built"):
        story.give_claim(claim, tmp_path / claim)
    shutil.copytree(story.stack.assets.base, tmp_path / "models" / "base")
    shutil.copytree(story.stack.assets.adapter, tmp_path / "models" / "adapters" / "support")
    story.apply(
        manifest(
            "volumes",
            base={"uri": "pvc://models/base"},
            adapters=[{"name": "support", "uri": "pvc://models/adapters/support"}],
            artifacts={"uri": "pvc://built"},
        )
    )
    served = story.await_phase("volumes", "Ready", "Failed")
    assert FACT.in_answer(story.ask("volumes", FACT.question)), story.evidence()
    merged = served["status"]["artifacts"]["merged"]
    assert merged["uri"] == f"pvc://built/{merged['key']}"
    on_volume = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "built" / merged["key"]).iterdir()
        if path.name != MANIFEST_NAME
    }
    assert on_volume == {file.path: file.sha256 for file in story.manifest_of(merged["key"]).files}, "as S3 has it"
    story.kubectl("delete", "finetunedmodels", "--all", "--wait")


@chapter(needs={EDGE})
def test_13_where_the_cluster_misbehaves_every_wait_names_its_cause(story: Story) -> None:
    (node,) = [each["metadata"]["name"] for each in story.kubectl.list("nodes")]
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-jobs"}}
    story.kubectl.apply({**quota, "spec": {"hard": {"count/jobs.batch": "0"}}})
    story.eventually("the quota", lambda: story.kubectl.get("resourcequota", "no-jobs").get("status", {}).get("hard"))
    with_an_emoji = {"prompts": [{"prompt": "Thank you! 🚀"}], "maxDivergence": 0.2}
    tolerant = {**GGUF["serving"], "tolerations": [{"key": "edge", "operator": "Exists"}]}
    with tolerations_added(story.kubectl):
        story.apply(manifest("hardened", **{**GGUF, "verification": with_an_emoji, "serving": tolerant}))
        story.await_told("hardened", "exceeded quota: no-jobs")
        story.kubectl("delete", "resourcequota", "no-jobs")
        served = story.await_phase("hardened", "Ready", "Failed")
        assert not violations(served)
        (contested,) = [each for each in story.kubectl.list("events") if each["reason"] == "Contested"]
        assert "tolerations" in contested["message"]
        try:
            pods = ("--pod-selector=ftm.dev/name=hardened", "--delete-emptydir-data", "--force", "--ignore-daemonsets")
            story.kubectl("drain", node, *pods)
            story.await_told("hardened", "unschedulable")
        finally:
            story.kubectl("uncordon", node)
        story.await_phase("hardened", "Ready", "Failed")
    assert FACT.in_answer(story.ask("hardened", FACT.question)), story.evidence()
    story.kubectl("delete", "finetunedmodels", "--all", "--wait")
