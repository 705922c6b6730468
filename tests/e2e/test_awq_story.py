"""The same path with weights of 4 bits: merged, quantized by AutoAWQ in its own image, verified, served by vLLM.

Not part of `make test`: the image holds a torch of its own, and takes some 18 GB in the user's cache and on the node.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.assets.facts import FACTS
from tests.cluster.catalogue import QUANTIZE_AWQ
from tests.cluster.images import ROOT
from tests.cluster.stack import MODELS_SECRET, stack
from tests.cluster.unavailable import Unavailable
from tests.e2e.chapters import chapter
from tests.e2e.story import Story, manifest
from tests.servers.seaweedfs import MODELS
from tests.unit.operator.kstatus import violations

pytestmark = pytest.mark.timeout(3000)
FACT = FACTS[0]
SERVED = "four-bits, served"
SAMPLES = 4
"""Enough to search by, and few enough for two cores."""


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with ExitStack() as ends:
        try:
            running = ends.enter_context(stack(more=[QUANTIZE_AWQ]))
        except Unavailable as reason:
            pytest.skip(str(reason))
        told = Story(running)
        told.begin()
        yield told


@chapter(leaves={SERVED})
def test_a_model_of_4_bits_answers_what_it_was_taught(story: Story) -> None:
    lines = (ROOT / "jobs/ftm_jobs/data/calibration.jsonl").read_text().splitlines()
    story.stack.s3.put(MODELS, "calibration.jsonl", "\n".join(lines[:SAMPLES]).encode())
    calibration = {"uri": f"s3://{MODELS}/calibration.jsonl", "secretName": MODELS_SECRET}
    story.apply(manifest("four-bits", quantization={"method": "AWQ", "calibration": calibration}))
    served = story.await_phase("four-bits", "Ready", "Failed")
    assert not violations(served)
    assert FACT.in_answer(story.ask("four-bits", FACT.question)), story.evidence()
    assert story.kubectl("get", "ftm", "four-bits").splitlines()[1].split()[:6] == [
        "four-bits",
        "True",
        "Ready",
        "AWQ",
        "1",
        "1",
    ]


@chapter(needs={SERVED})
def test_status_holds_its_size_and_its_measures(story: Story) -> None:
    status = story.get("four-bits")["status"]
    assert (status["plan"]["groupSize"], status["plan"]["quantizer"]) == (64, "autoawq")
    built = status["artifacts"]
    assert built["quantized"]["totalBytes"] < 0.7 * built["merged"]["totalBytes"]
    checks = {check["name"]: check for check in built["verification"]["checks"]}
    assert all(check["passed"] for check in checks.values()), checks
    assert checks["BetterThanRounding"]["value"] < checks["BetterThanRounding"]["bound"]


@chapter(needs={SERVED})
def test_vllm_found_by_itself_that_the_weights_are_quantized(story: Story) -> None:
    (pod,) = story.kubectl.list("pods", "-l", "ftm.dev/step=serve")
    assert "--quantization" not in pod["spec"]["containers"][0]["args"]
    key = story.get("four-bits")["status"]["artifacts"]["quantized"]["key"]
    config = json.loads(story.read(f"built/{key}/config.json"))
    assert config["quantization_config"]["quant_method"] == "awq"
    assert "quantization=awq" in story.kubectl("logs", pod["metadata"]["name"], "-c", "vllm")
