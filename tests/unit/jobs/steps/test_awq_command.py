"""`python -m ftm_jobs awq`: what is wrong is said before a model is read, in a sentence and by an exit code."""

import json
from pathlib import Path

import pytest

from ftm_jobs.__main__ import main
from ftm_jobs.contract.keys import awq_key
from ftm_jobs.contract.steps import ExitCode


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> tuple[str, str]:
    model = ["--model", f"file://{folder}/model", "--artifacts", f"file://{folder}/artifacts"]
    assert main(["awq", *model, *options]) == ExitCode.INVALID_INPUT
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["step"] == "quantize"
    return report["reason"], report["message"]


def test_a_bad_calibration_file_is_refused_by_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text('{"text": "one"}\n')
    reason, message = refusal(capsys, tmp_path, "--calibration", file.as_uri())
    assert reason == "InvalidCalibration"
    assert message.startswith(f"calibration {file.as_uri()} has 1 sample: at least 4 are needed")


def test_a_missing_calibration_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/README.md").touch()
    reason, message = refusal(capsys, tmp_path, "--calibration", f"file://{tmp_path}/texts/notes.jsonl")
    assert reason == "MissingFile"
    assert message.startswith(f"calibration file://{tmp_path}/texts has no notes.jsonl: upload one with lines like")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--bits", "8"), "bits 8 are not supported: vLLM's AWQ kernels have 4; write bits: 4"),
        (("--no-zero-point",), "zeroPoint: false is not supported by engine autoawq, whose format has zero points"),
        ((), "engine autoawq is not in this image (No package metadata was found for autoawq)"),
        (("--engine", "llm-compressor"), "engine llm-compressor is not in this image"),
    ],
)
def test_settings_that_cannot_work_here_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refusal(capsys, tmp_path, *options)[1]


def test_the_sizes_to_be_served_with_are_part_of_the_key_and_one_rank_is_what_it_always_was() -> None:
    one = awq_key("merge-0", 4, 128, True, "autoawq", "sha256:0")
    assert awq_key("merge-0", 4, 128, True, "autoawq", "sha256:0", (1,)) == one
    assert awq_key("merge-0", 4, 128, True, "autoawq", "sha256:0", (4, 2)) != one
    assert awq_key("merge-0", 4, 128, True, "autoawq", "sha256:0", (4, 2)) == awq_key(
        "merge-0", 4, 128, True, "autoawq", "sha256:0", (1, 2, 4, 4)
    )
