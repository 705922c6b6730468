"""GGUF models as llama.cpp runs them: sound types pass, coarse ones are held when asked, a wrong token is caught."""

import json
import shutil
from pathlib import Path

import pytest

from ftm_jobs.contract.report import Report
from tests.llama_cpp import prepare as prepare_llama_cpp
from tests.verify.conftest import Merged, Run
from tests.verify.test_traps import check, failed


@pytest.fixture(scope="session", autouse=True)
def llama_cpp() -> None:
    prepare_llama_cpp()


def converted(run: Run, model: Path, folder: Path, kind: str) -> Report:
    report = run("gguf", "--model", model.as_uri(), "--artifacts", folder.as_uri(), "--type", kind)
    assert report.artifact, report.message
    return report


@pytest.mark.parametrize(("kind", "sound"), [("Q8_0", True), ("Q4_K_M", True), ("Q2_K", False), ("F16", True)])
def test_a_divergence_that_the_user_allows_tells_types_apart(
    verify: Run, run: Run, small: Merged, tmp_path: Path, kind: str, sound: bool
) -> None:
    """0.1 nats, since the model here is cut to its first layers."""
    made = converted(run, small.model, tmp_path / "gguf", kind)
    assert made.artifact
    report = verify(small, "--quantized", made.artifact.uri, "--max-divergence", "0.1")
    assert failed(report) == (set() if sound else {"MaxDivergence"}), report.message
    assert set(made.notes) <= set(report.notes)
    assert any("the GGUF file's tensors are" in note for note in report.notes)
    assert check(report, "BetterThanRounding").value > 0


def test_a_gguf_with_one_wrong_special_token_is_caught(verify: Run, run: Run, small: Merged, tmp_path: Path) -> None:
    copy = shutil.copytree(small.model, tmp_path / "copy", ignore=shutil.ignore_patterns("manifest.json"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).write_text((copy / name).read_text().replace("<|im_start|>", "<|im_begin|>"))
    made = converted(run, copy, tmp_path / "gguf", "Q8_0")
    assert made.artifact
    report = verify(small, "--quantized", made.artifact.uri)
    assert failed(report) == {"TokenizerParity"}
    assert report.reason == "TokenizerDiffers"


def test_a_second_verification_repeats_the_verdict_without_computing(
    verify: Run, small: Merged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = verify(small)
    monkeypatch.setattr("ftm_jobs.verify.artifact.measure", lambda _: pytest.fail("measured again"))
    second = verify(small)
    assert second.reused
    assert not first.reused
    assert (second.verification, second.artifact, second.message) == (first.verification, first.artifact, first.message)
    assert first.artifact
    folder = tmp_path / "verified" / first.artifact.key
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "report.html", "verification.json"}
    written = json.loads((folder / "verification.json").read_text())
    assert [each["name"] for each in written["checks"]] == [each.name for each in first.verification.checks]  # type: ignore[union-attr]
    assert all(each["sentence"] for each in written["checks"])
