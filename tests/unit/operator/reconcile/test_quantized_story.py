"""From a merged model to one that is quantized, verified and served, told over a pure world."""

from typing import Any

import pytest

from ftm_jobs.contract.steps import Step
from tests.unit.operator.world import NAMESPACE, World, refusal, resource, world

GGUF = {
    "quantization": {"method": "GGUF", "gguf": {"type": "Q8_0"}},
    "serving": {"maxModelLen": 1024, "concurrency": 2},
}


def container(scene: World, step: str) -> dict[str, Any]:
    found: dict[str, Any] = scene.running_job(step)["spec"]["template"]["spec"]["containers"][0]
    return found


def engine(scene: World) -> dict[str, Any]:
    deployment = scene.cache.get("Deployment", (NAMESPACE, "support-bot"))
    assert deployment
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def merged(**spec: Any) -> World:
    scene = world(resource(**spec))
    scene.settle()
    scene.inspected()
    scene.settle()
    scene.merged()
    scene.settle()
    return scene


def test_a_gguf_model_is_made_of_the_merged_one_verified_and_served_by_llama_cpp() -> None:
    scene = merged(**GGUF)
    assert scene.resource()["status"]["phase"] == "Quantizing"
    merged_model = scene.resource()["status"]["artifacts"]["merged"]
    made = container(scene, "quantize")
    assert made["image"] == "gguf:1"
    assert made["args"][:2] == ["gguf", "--model"]
    assert made["args"][2].startswith(f"{merged_model['uri']},digest={merged_model['digest']},credentials=")
    assert made["args"][made["args"].index("--type") + 1] == "Q8_0"
    built = scene.quantized("3 of 272 tensors are stored as Q5_0")
    scene.settle()
    assert scene.resource()["status"]["phase"] == "Verifying"
    measured = container(scene, "verify")["args"]
    assert measured[measured.index("--quantized") + 1].startswith(built.uri)
    scene.verified()
    scene.settle()
    serving = engine(scene)
    assert (serving["name"], serving["image"]) == ("llama-server", "llama-cpp:1")
    assert serving["args"][serving["args"].index("--ctx-size") + 1] == "2048"
    assert "nvidia.com/gpu" not in serving["resources"]["limits"]
    scene.available()
    scene.settle()
    status = scene.resource()["status"]
    assert (status["phase"], status["plan"]["quantization"], status["plan"]["gpus"]) == ("Ready", "GGUF Q8_0", 0)
    assert status["artifacts"]["quantized"] == built.to_json()
    quantized = scene.condition("Quantized")
    assert quantized
    assert quantized["message"].endswith("; 3 of 272 tensors are stored as Q5_0")


def test_awq_is_made_in_the_image_of_its_engine_and_served_by_vllm_without_a_flag() -> None:
    scene = merged(quantization={"method": "AWQ"})
    made = container(scene, "quantize")
    assert made["image"] == "awq:1"
    assert made["args"][0] == "awq"
    assert made["args"][made["args"].index("--group-size") + 1] == "64"
    built = scene.quantized(method="awq")
    scene.settle()
    scene.verified()
    scene.settle()
    serving = engine(scene)
    assert serving["name"] == "vllm"
    assert "--quantization" not in serving["args"]
    assert serving["args"][serving["args"].index("--dtype") + 1] == "float16"
    assert scene.resource()["status"]["artifacts"]["quantized"] == built.to_json()


def test_a_model_that_fails_a_check_is_not_rolled_out_and_what_serves_goes_on() -> None:
    scene = world()
    scene.serve()
    before = engine(scene)
    scene.edit(quantization={"method": "AWQ"})
    scene.settle()
    scene.quantized(method="awq")
    scene.settle()
    scene.verified("QuantizedDivergence")
    scene.settle()
    assert engine(scene) == before
    verified, stalled = scene.condition("Verified"), scene.condition("Stalled")
    assert verified
    assert stalled
    assert (verified["status"], verified["reason"]) == ("False", "VerificationFailed")
    assert "QuantizedDivergence 0.5 nats/token, bound 0.2" in stalled["message"]
    assert scene.resource()["status"]["phase"] == "Failed"


def test_policy_warn_serves_it_and_says_so() -> None:
    scene = merged(verification={"policy": "Warn"})
    scene.verified("MergeAgrees")
    scene.settle()
    scene.available()
    scene.settle()
    assert scene.resource()["status"]["phase"] == "Ready"
    verified = scene.condition("Verified")
    assert verified
    assert verified["status"] == "False"


def test_a_change_of_policy_measures_nothing_again() -> None:
    scene = merged()
    scene.verified("MergeAgrees")
    scene.settle()
    assert scene.resource()["status"]["phase"] == "Failed"
    scene.edit(verification={"policy": "Warn"})
    scene.settle()
    assert len(scene.jobs("verify")) == 1
    assert scene.resource()["status"]["phase"] == "Deploying"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"serving": {"maxModelLen": 512, "replicas": 2}}, []),
        ({"quantization": {"method": "GGUF", "gguf": {"type": "Q4_0"}}}, ["quantize"]),
        ({"verification": {"maxDivergence": 0.2}}, ["verify"]),
        ({"verification": {"prompts": [{"prompt": "Say $HOME"}]}}, ["verify"]),
    ],
)
def test_only_what_a_change_concerns_is_done_again(change: dict[str, Any], again: list[str]) -> None:
    scene = merged(**GGUF)
    scene.quantized()
    scene.settle()
    scene.verified()
    scene.settle()
    scene.available()
    scene.settle()
    scene.edit(**change)
    scene.settle()
    unfinished = [step for step in ("merge", "quantize", "verify") for job in scene.jobs(step) if not job.get("status")]
    assert unfinished == again


def test_prompts_reach_the_step_as_they_are_written() -> None:
    scene = merged(verification={"prompts": [{"prompt": "Say $(HOME) and $$", "expect": ["é"]}], "maxDivergence": 0.5})
    arguments = container(scene, "verify")["args"]
    assert arguments[arguments.index("--prompts") + 1] == '[{"prompt": "Say $$(HOME) and $$$$", "expect": ["é"]}]'
    assert arguments[arguments.index("--max-divergence") + 1] == "0.5"


def test_a_lost_quantized_model_is_made_again_of_the_merged_one() -> None:
    scene = merged(**GGUF)
    built = scene.quantized()
    scene.settle()
    scene.verified()
    scene.settle()
    scene.available()
    scene.settle()
    from tests.unit.operator.reconcile.test_reconcile import refused_fetch

    scene.later(3600)
    refused_fetch(scene, "SourceNotFound", "nothing there")
    scene.settle()
    status = scene.resource()["status"]
    assert status["phase"] == "Quantizing"
    assert set(status["artifacts"]) == {"merged"}
    scene.later(10)
    assert scene.quantized() == built


def test_what_the_quantizer_refuses_stalls_with_its_sentence() -> None:
    scene = merged(**GGUF)
    scene.end_job("quantize", refusal(Step.QUANTIZE, "UnsuitableWidths", "576 columns are not a multiple of 256"))
    scene.settle()
    stalled, quantized = scene.condition("Stalled"), scene.condition("Quantized")
    assert stalled
    assert quantized
    assert stalled["message"] == quantized["message"] == "576 columns are not a multiple of 256"
    assert quantized["status"] == "False"
