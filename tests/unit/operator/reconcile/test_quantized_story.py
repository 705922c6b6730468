"""A merged model is quantized, verified and served; a model that fails a check is not."""

from typing import Any

import pytest

from tests.unit.operator.objects import resource
from tests.unit.operator.scene import Scene, scene_of, serving

GGUF: dict[str, Any] = {
    "quantization": {"method": "GGUF", "gguf": {"type": "Q8_0"}},
    "serving": {"maxModelLen": 1024, "concurrency": 2},
}


def merged(**spec: Any) -> Scene:
    """Returns a scene at the step after the merge."""
    scene = scene_of(resource(**spec))
    scene.reach("Merging")
    scene.merge()
    return scene


def test_a_gguf_model_is_made_of_the_merged_one_verified_and_served_by_llama_cpp() -> None:
    scene = merged(**GGUF)
    assert scene.phase() == "Quantizing"
    merged_model = scene.status()["artifacts"]["merged"]
    made = scene.container("quantize")
    assert made["image"] == "gguf:1"
    assert made["args"][:2] == ["gguf", "--model"]
    assert made["args"][2].startswith(f"{merged_model['uri']},digest={merged_model['digest']},credentials=")
    assert scene.argument("quantize", "--type") == "Q8_0"
    built = scene.quantize("3 of 272 tensors are stored as Q5_0")
    assert scene.phase() == "Verifying"
    assert scene.argument("verify", "--quantized").startswith(built.uri)
    scene.reach("Deploying")
    engine = scene.engine()
    assert (engine["name"], engine["image"]) == ("llama-server", "llama-cpp:1")
    assert engine["args"][engine["args"].index("--ctx-size") + 1] == "2048"
    assert "nvidia.com/gpu" not in engine["resources"]["limits"]
    scene.reach("Ready")
    status = scene.status()
    assert (status["phase"], status["plan"]["quantization"], status["plan"]["gpus"]) == ("Ready", "GGUF Q8_0", 0)
    assert status["artifacts"]["quantized"] == built.to_json()
    quantized = scene.condition("Quantized")
    assert quantized.message.endswith("; 3 of 272 tensors are stored as Q5_0")


def test_awq_is_made_in_the_image_of_its_engine_and_served_by_vllm_without_a_flag() -> None:
    scene = merged(quantization={"method": "AWQ"})
    made = scene.container("quantize")
    assert made["image"] == "awq:1"
    assert made["args"][0] == "awq"
    assert scene.argument("quantize", "--group-size") == "64"
    built = scene.quantize()
    scene.reach("Deploying")
    engine = scene.engine()
    assert engine["name"] == "vllm"
    assert "--quantization" not in engine["args"]
    assert engine["args"][engine["args"].index("--dtype") + 1] == "float16"
    assert scene.status()["artifacts"]["quantized"] == built.to_json()


def test_a_model_that_fails_a_check_is_not_rolled_out_and_what_serves_goes_on() -> None:
    scene = serving()
    before = scene.engine()
    scene.edit(quantization={"method": "AWQ"})
    scene.quantize()
    scene.verify("QuantizedDivergence")
    assert scene.engine() == before
    verified, stalled = scene.condition("Verified"), scene.stalled()
    assert (verified.status, verified.reason) == ("False", "VerificationFailed")
    assert "QuantizedDivergence 0.5 nats/token, bound 0.2" in stalled.message
    assert scene.phase() == "Failed"


def test_policy_warn_serves_it_and_says_so() -> None:
    scene = merged(verification={"policy": "Warn"})
    scene.verify("MergeAgrees")
    scene.answer()
    assert scene.phase() == "Ready"
    assert scene.condition("Verified").status == "False"


def test_a_change_of_policy_measures_nothing_again() -> None:
    scene = merged()
    scene.verify("MergeAgrees")
    assert scene.phase() == "Failed"
    scene.edit(verification={"policy": "Warn"})
    assert len(scene.jobs("verify")) == 1
    assert scene.phase() == "Deploying"


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
    scene = scene_of(resource(**GGUF))
    scene.reach("Ready")
    scene.edit(**change)
    unfinished = [step for step in ("merge", "quantize", "verify") for job in scene.jobs(step) if not job.get("status")]
    assert unfinished == again


def test_prompts_reach_the_step_as_they_are_written() -> None:
    scene = merged(verification={"prompts": [{"prompt": "Say $(HOME) and $$", "expect": ["é"]}], "maxDivergence": 0.5})
    assert scene.argument("verify", "--prompts") == '[{"prompt": "Say $$(HOME) and $$$$", "expect": ["é"]}]'
    assert scene.argument("verify", "--max-divergence") == "0.5"


def test_a_lost_quantized_model_is_made_again_of_the_merged_one() -> None:
    scene = merged(**GGUF)
    built = scene.quantize()
    scene.reach("Ready")
    scene.later(3600)
    scene.refuse_fetch("SourceNotFound", "nothing there")
    status = scene.status()
    assert status["phase"] == "Quantizing"
    assert set(status["artifacts"]) == {"merged"}
    scene.later(10)
    assert scene.quantize() == built


def test_what_the_quantizer_refuses_stalls_with_its_sentence() -> None:
    scene = merged(**GGUF)
    scene.refuse("quantize", "UnsuitableWidths", "576 columns are not a multiple of 256")
    stalled, quantized = scene.stalled(), scene.condition("Quantized")
    assert stalled.message == quantized.message == "576 columns are not a multiple of 256"
    assert quantized.status == "False"
