"""Engines that serve are held against what their model's verification kept: sound ones pass, others are caught."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from ftm_jobs.__main__ import main
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.verification import ServedVerification, ServingEngine
from ftm_jobs.serve.verification.checks import ROUNDING_OF, adapter, logprobs
from ftm_jobs.serve.verification.engines import open_engine
from ftm_jobs.serve.verification.measurement import read_reference
from ftm_jobs.stores.source import parse_source
from tests.assets.facts import FACTS
from tests.llama_cpp import prepare as prepare_llama_cpp
from tests.verify.conftest import Merged
from tests.verify.serving import NAME, free_port, llama_server, vllm

GOOD_STARTS = 20
WRONG_TEMPLATE = "chatml"
READY_SECONDS = 600

RunStep = Callable[..., Report]


@dataclass(frozen=True)
class Kept:
    """A model that is served, and the reference that its verification has kept."""

    model: Path
    reference: Path


@pytest.fixture(scope="session")
def step(tmp_path_factory: pytest.TempPathFactory) -> RunStep:
    folder = tmp_path_factory.mktemp("reports")

    def run_step(*arguments: str) -> Report:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            main([*arguments, "--report", str(folder / "report.json")])
        return Report.model_validate_json((folder / "report.json").read_text())

    return run_step


def verified(step: RunStep, small: Merged, folder: Path, quantized: Path | None = None) -> Kept:
    report = step(
        *("verify", "--base", small.assets.base.as_uri(), "--adapter", small.assets.adapter.as_uri()),
        *("--model", small.model.as_uri(), "--artifacts", folder.as_uri(), "--tokens", "320"),
        *("--prompts", json.dumps([{"prompt": FACTS[1].question, "expect": [" "]}])),
        *(("--quantized", quantized.as_uri()) if quantized else ()),
    )
    assert report.reference, report.message
    return Kept(quantized or small.model, folder / report.reference.key)


@pytest.fixture(scope="session")
def merged(step: RunStep, small: Merged, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return verified(step, small, tmp_path_factory.mktemp("served-merged"))


@pytest.fixture(scope="session")
def gguf(step: RunStep, small: Merged, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    prepare_llama_cpp()
    folder = tmp_path_factory.mktemp("served-gguf")
    made = step("gguf", "--model", small.model.as_uri(), "--artifacts", folder.as_uri(), "--type", "Q8_0")
    assert made.artifact, made.message
    return verified(step, small, folder, folder / made.artifact.key)


@pytest.fixture(scope="session")
def vllm_url(merged: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vllm(merged.model, tmp_path_factory.mktemp("vllm") / "log") as url:
        yield url


def measured(kept: Kept, url: str, kind: ServingEngine, folder: Path, *flags: str) -> ServedVerification:
    report = folder / "verdict.json"
    code = main(
        [
            *("served", "--reference", kept.reference.as_uri(), "--engine", url, "--kind", kind, "--model", NAME),
            *("--report", str(report), *flags),
        ]
    )
    assert code == 0
    return ServedVerification.model_validate_json(report.read_text())


def failed(verdict: ServedVerification) -> set[str]:
    assert verdict.checks, verdict.message
    assert verdict.passed == all(check.passed for check in verdict.checks)
    return {check.name for check in verdict.checks if not check.passed}


def test_a_sound_vllm_passes_every_check(vllm_url: str, merged: Kept, tmp_path: Path) -> None:
    verdict = measured(merged, vllm_url, ServingEngine.VLLM, tmp_path)
    assert not failed(verdict), verdict.message
    names = {"ServedLogprobs", "ServedAdapter", "ServedTokenizer", "ServedChatTemplate", "ServedAnswers"}
    assert {check.name for check in verdict.checks} == names
    assert verdict.reason == "ServedAsVerified"


def test_twenty_measurements_of_a_sound_vllm_that_is_busy_raise_no_alarm(vllm_url: str, merged: Kept) -> None:
    """Other requests run beside each, so that batches are never the same."""
    reference, _ = read_reference(parse_source(merged.reference.as_uri()))
    engine = open_engine(ServingEngine.VLLM, vllm_url, NAME, None)
    over = threading.Event()

    def ask() -> None:
        body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 20}
        while not over.is_set():
            httpx2.post(f"{vllm_url}/v1/completions", json=body, timeout=300, trust_env=False)

    beside = threading.Thread(target=ask)
    beside.start()
    try:
        for _ in range(GOOD_STARTS):
            differences = engine.differences(reference.texts)
            shown = adapter(reference.texts, differences)
            assert logprobs(reference.texts, differences).check.passed
            assert shown
            assert shown.check.passed
    finally:
        over.set()
        beside.join()


def test_vllm_in_bfloat16_that_should_compute_in_float16_is_caught(vllm_url: str, merged: Kept, tmp_path: Path) -> None:
    verdict = measured(merged, vllm_url, ServingEngine.VLLM, tmp_path, "--dtype", "float16")
    assert failed(verdict) == {"ServedLogprobs"}
    assert ROUNDING_OF["float16"] < 1
    assert "check its dtype" in verdict.message


def test_a_sound_llama_server_passes_every_check(gguf: Kept, tmp_path: Path) -> None:
    with llama_server(gguf.model / "model.gguf", tmp_path / "log") as url:
        for batch in range(3):
            verdict = measured(gguf, url, ServingEngine.LLAMA_CPP, tmp_path)
            assert not failed(verdict), (batch, verdict.message)
    assert len(verdict.checks) == 5


@pytest.mark.parametrize(
    ("flags", "caught"),
    [
        (["--chat-template", WRONG_TEMPLATE], {"ServedChatTemplate"}),
        (["--rope-freq-base", "10000"], {"ServedLogprobs"}),
        (["--rope-scaling", "linear", "--rope-scale", "4"], {"ServedLogprobs"}),
        (["--override-kv", "tokenizer.ggml.add_bos_token=bool:true"], {"ServedTokenizer"}),
    ],
    ids=["chat template", "rope base", "rope scaling", "tokenizer"],
)
def test_a_wrong_flag_of_llama_server_is_caught_by_name(
    gguf: Kept, tmp_path: Path, flags: list[str], caught: set[str]
) -> None:
    with llama_server(gguf.model / "model.gguf", tmp_path / "log", *flags) as url:
        verdict = measured(gguf, url, ServingEngine.LLAMA_CPP, tmp_path)
    assert failed(verdict) >= caught, verdict.message
    assert failed(verdict) - caught <= {"ServedAdapter", "ServedAnswers"}
    assert verdict.reason == "ServedDiffers"


def test_the_base_in_the_place_of_the_merged_model_is_caught(
    step: RunStep, small: Merged, gguf: Kept, tmp_path: Path
) -> None:
    made = step("gguf", "--model", small.assets.base.as_uri(), "--artifacts", tmp_path.as_uri(), "--type", "Q8_0")
    assert made.artifact, made.message
    with llama_server(tmp_path / made.artifact.key / "model.gguf", tmp_path / "log") as url:
        verdict = measured(gguf, url, ServingEngine.LLAMA_CPP, tmp_path)
    assert failed(verdict) >= {"ServedLogprobs", "ServedAdapter"}
    assert "it may serve the base or another adapter" in verdict.message


def test_a_pod_is_ready_by_the_engine_that_runs_in_it_now(gguf: Kept, tmp_path: Path) -> None:
    engine_port, port = free_port(), free_port()
    command = [sys.executable, "-m", "ftm_jobs", "served", "--reference", gguf.reference.as_uri()]
    command += ["--engine", f"http://127.0.0.1:{engine_port}", "--kind", ServingEngine.LLAMA_CPP, "--model", NAME]
    with subprocess.Popen([*command, "--watch", "--port", str(port)], stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert _answer(port, 503) == "the engine is starting"
            with llama_server(gguf.model / "model.gguf", tmp_path / "log", port=engine_port):
                assert _answer(port, 200) == "ready"
            assert _answer(port, 503) == "the engine is starting"
            wrong = ["--chat-template", WRONG_TEMPLATE]
            with llama_server(gguf.model / "model.gguf", tmp_path / "log", *wrong, port=engine_port):
                assert "it has another chat template" in _answer(port, 503, "chat template")
        finally:
            watching.terminate()
            said, _ = watching.communicate(timeout=300)
    verdicts = [ServedVerification.model_validate_json(line) for line in said.splitlines() if "passed" in line]
    assert [verdict.passed for verdict in verdicts] == [True, False]


def _answer(port: int, status: int, holding: str = "") -> str:
    deadline = time.monotonic() + READY_SECONDS
    last = ""
    while time.monotonic() < deadline:
        try:
            answered = httpx2.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False)
            last = f"{answered.status_code} {answered.text}"
            if answered.status_code == status and holding in answered.text:
                return answered.text
        except httpx2.TransportError as error:
            last = str(error)
        time.sleep(0.2)
    raise AssertionError(last)
