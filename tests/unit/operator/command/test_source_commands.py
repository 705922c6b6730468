"""`ftm inspect` and `ftm merge` as a person types them: what reaches the step, and what is printed."""

import json
import os
from pathlib import Path

import pytest

from ftm_jobs.contract.manifest import Artifact, MergePreview, PlannedFile
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_operator.command.sources import source
from ftm_operator.local import steps as local
from tests.unit.operator.command.test_cli import ftm
from tests.unit.operator.objects import facts

SOURCES = ["--base", "hf://org/base@main", "--adapter", "s3://models/a,scale=0.5"]


class Steps:
    """Stands in for the Jobs' commands: remembers what was run."""

    def __init__(self) -> None:
        self.ran: list[tuple[Step, list[str]]] = []
        self.notes: tuple[str, ...] = ()

    def __call__(self, step: Step, arguments: list[str], *_: object) -> Report:
        self.ran.append((step, arguments))
        artifact = Artifact(key="merge-1", uri="file:///out", digest="sha256:0", total_bytes=1, files=1)
        return Report(
            step=step,
            outcome=Outcome.DONE,
            reason="Done",
            message="a sentence",
            facts=facts(),
            artifact=artifact,
            notes=self.notes,
        )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    stand_in = Steps()
    monkeypatch.setattr(local, "run_command", stand_in)
    return stand_in


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("s3://bucket/a,scale=2", "s3://bucket/a,scale=2"),
        ("file:///a", "file:///a"),
        ("models/a", "file:///here/models/a"),
        ("~nobody-of-this-name/a", "file:///here/~nobody-of-this-name/a"),
        (300 * "a", f"file:///here/{300 * 'a'}"),
        ("models/a,scal=2", "file:///here/models/a,scal=2"),
        ("models/a,scale=-0.5", "file:///here/models/a,scale=-0.5"),
        ("/with space/a,b,scale=2,digest=sha256:0", "file:///with%20space/a%2Cb,scale=2,digest=sha256:0"),
    ],
)
def test_a_plain_path_becomes_a_file_uri_and_keeps_its_options(
    written: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "realpath", lambda path: f"/here/{path}" if str(path)[0] != "/" else str(path))
    assert source(written) == given


def test_a_folder_whose_name_looks_like_an_option_is_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a,scale=2"
    folder.mkdir()
    assert source(f"{folder},scale=3") == f"{tmp_path.as_uri()}/a%2Cscale%3D2,scale=3"
    assert source(str(folder)) == f"{tmp_path.as_uri()}/a%2Cscale%3D2"


@pytest.mark.usefixtures("steps")
def test_a_name_on_the_hub_without_its_scheme_is_answered_with_the_uri(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = ftm(capsys, "inspect", "org/name@main")
    assert (code, said) == (
        2,
        "ftm: there is no folder org/name@main here; the Hub's repository is hf://org/name@main\n",
    )
    assert ftm(capsys, "inspect", "hf://org/base", "--adapter", "org/name,scale=2")[0] == 2
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert ftm(capsys, "inspect", "org/name")[0] == 0


def test_merge_writes_to_the_folder_that_was_named(
    steps: Steps, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = ftm(capsys, "merge", *SOURCES, "--adapter", "hf://org/b", "--out", str(tmp_path / "merged"))
    assert (code, out) == (0, "a sentence\n")
    assert steps.ran == [
        (Step.MERGE, [*SOURCES, "--adapter", "hf://org/b", "--out", (tmp_path / "merged").as_uri()]),
    ]


def test_merge_onto_what_4_bits_leave_is_asked_for_by_name(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    ftm(capsys, "merge", *SOURCES, "--out", "s3://bucket/merged", "--quantized-base", "NF4RoundTrip")
    assert steps.ran[0][1][-2:] == ["--quantized-base", "NF4RoundTrip"]


def test_a_size_of_weight_files_is_passed_on_as_it_is(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    ftm(capsys, "merge", *SOURCES, "--out", "s3://bucket/merged", "--max-shard-size", "2GiB")
    assert steps.ran[0][1][-2:] == ["--max-shard-size", "2GiB"]


def test_a_classifier_is_asked_for_by_peft_s_name_of_its_task(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    ftm(capsys, "merge", *SOURCES, "--out", "s3://bucket/merged", "--task", "SEQ_CLS")
    assert steps.ran[0][1][-2:] == ["--task", "SEQ_CLS"]


def test_a_push_follows_the_merge_and_needs_a_folder_here(
    steps: Steps, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = (tmp_path / "merged").as_uri()
    code, _, err = ftm(capsys, "merge", *SOURCES, "--out", str(tmp_path / "merged"), "--push", "hf://me/merged")
    assert (code, err) == (0, "ftm: a sentence\n")
    assert steps.ran[1:] == [(Step.PUSH, ["--model", out, "--to", "hf://me/merged", "--base", "hf://org/base@main"])]
    code, _, err = ftm(capsys, "merge", *SOURCES, "--out", "s3://bucket/merged", "--push", "hf://me/merged")
    assert (code, "give --out a path" in err, len(steps.ran)) == (2, True, 2)


def test_a_dry_run_shows_the_sources_and_each_file_and_runs_no_merge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def preview(arguments: list[str]) -> MergePreview:
        asked.append(arguments)
        files = (
            PlannedFile(path="config.json", size=700, made="copied"),
            PlannedFile(path="w", size=5000, made="merged"),
        )
        return MergePreview(
            outcome=Outcome.DONE,
            reason="Inspected",
            message="",
            facts=facts(),
            scales=(0.5,),
            weights_changed=60,
            files=files,
            total_bytes=5700,
            destination="s3://bucket/merged",
            state="nothing",
            notes=("a remark",),
        )

    monkeypatch.setattr(local, "preview_merge", preview)
    arguments = "merge", *SOURCES, "--out", "s3://bucket/merged", "--dtype", "float16", "--dry-run"
    code, out, err = ftm(capsys, *arguments)
    assert asked == [[*SOURCES, "--out", "s3://bucket/merged", "--dtype", "float16"]]
    assert (code, err) == (0, "ftm: note: a remark\n")
    assert (
        out.partition("output ")[2]
        == """\
          s3://bucket/merged
  holds          nothing
  key            not known before 270.03 MB of weights are hashed
  scales         0.5
  changes        60 weights
  config.json       700 B  copied
  w               5.00 kB  merged
2 files, 5.70 kB; nothing was written
"""
    )
    code, out, _ = ftm(capsys, *arguments, "-o", "json")
    assert (code, json.loads(out)["weightsChanged"]) == (0, 60)


@pytest.mark.usefixtures("steps")
def test_merge_as_json_is_the_steps_report(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ftm(capsys, "merge", *SOURCES, "--out", "s3://bucket/merged", "-o", "json")
    assert (code, json.loads(out)["artifact"]["key"]) == (0, "merge-1")


@pytest.mark.parametrize("command", [["merge", *SOURCES, "--out", "out"], ["inspect", "hf://org/base", "-o", "json"]])
def test_remarks_are_told_beside_what_is_asked_for(
    steps: Steps, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    steps.notes = ("left out: onnx/", "layers are missing")
    code, out, err = ftm(capsys, *command)
    assert code == 0
    assert err.splitlines() == ["ftm: note: left out: onnx/", "ftm: note: layers are missing"]
    assert "note" not in out


def test_inspect_shows_the_base_and_each_adapter(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts()
    base, adapter = found.base, found.adapters[0]
    assert ftm(capsys, "inspect", *SOURCES[1:])[:2] == (
        0,
        f"""\
base             {base.uri}
  architecture   LlamaForCausalLM (llama)
  weights        134,515,008 parameters, 269.03 MB in BF16
  shape          30 layers, width 576, vocabulary 49,152, tied embeddings
  heads          9, 3 for keys and values, 64 wide
  context        8,192 tokens
  digest         {base.digest}
adapter 1        {adapter.uri}
  rank           8, alpha 16, scaling 2
  changes        {adapter.layers_adapted} weights: {", ".join(adapter.target_modules)}
  weights        1.00 MB in F32
  digest         {adapter.digest}
""",
    )
    assert steps.ran == [(Step.INSPECT, SOURCES)]


def test_a_base_alone_is_inspected(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    assert ftm(capsys, "inspect", "hf://org/base")[0] == 0
    assert steps.ran == [(Step.INSPECT, ["--base", "hf://org/base"])]


@pytest.mark.usefixtures("steps")
def test_inspect_as_json_can_be_given_to_plan(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ftm(capsys, "inspect", *SOURCES[1:], "-o", "json")
    assert (code, json.loads(out)) == (0, facts().to_json())


def test_the_sources_of_a_manifest_are_inspected(steps: Steps, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ftm(capsys, "inspect", "examples/minimal.yaml", "-o", "json")
    assert (code, json.loads(out)) == (0, facts().to_json())
    ((step, arguments),) = steps.ran
    assert step is Step.INSPECT
    assert "hf://mistralai/Mistral-7B-v0.1" in arguments
    code, _, said = ftm(capsys, "inspect", "examples/minimal.yaml", "--adapter", "s3://models/a")
    assert code == 2
    assert "names its own adapters" in said
