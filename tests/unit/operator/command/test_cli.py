"""`ftm` prints and exits as it should, without a model: the whole output, not a part."""

import io
import json
from pathlib import Path

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.crd import crds_yaml
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.command import main as cli
from ftm_operator.local.errors import StepFailed
from tests.unit.operator.local.test_manifest_file import TEXT, written
from tests.unit.operator.objects import adapter_facts, base_facts, facts


def ftm(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["ftm", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def planned(tmp_path: Path) -> list[str]:
    """A manifest with two adapters, and what an inspection of it found."""
    found = facts().model_copy(update={"adapters": (adapter_facts(), adapter_facts(rank=16))})
    (tmp_path / "facts.json").write_text(found.model_dump_json(by_alias=True))
    return ["plan", str(written(tmp_path, TEXT)), "--facts", str(tmp_path / "facts.json")]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ftm(capsys, "--help")
    assert code == 0
    assert all(
        f"  {command} " in out
        for command in (
            "run",
            "chat",
            "bench",
            "adapters",
            "versions",
            "rollback",
            "promote",
            "plan",
            "crd",
            "inspect",
            "merge",
            "artifacts",
            "report",
            "explain",
        )
    )


@pytest.mark.parametrize("group", [[], ["artifacts"]])
def test_help_cuts_no_command_s_sentence(capsys: pytest.CaptureFixture[str], group: list[str]) -> None:
    _, out, _ = ftm(capsys, *group, "--help")
    commands = out.partition("Commands:")[2]
    assert commands.count(".\n") >= 4
    assert "..." not in commands


def test_a_plan_is_a_table_of_choices_and_a_list_of_reasons(
    capsys: pytest.CaptureFixture[str], planned: list[str]
) -> None:
    assert ftm(capsys, *planned) == (
        0,
        """bot
  mode                  Merged
  quantization          None
  engine                vLLM
  context               8192 tokens
  dtype                 bfloat16
  accelerators          1 x nvidia.com/gpu per replica
  tensor parallel size  1
  replicas              1
  served model name     bot
why
  Merged: 2 adapters folded into the weights
  vLLM on GPUs: the default
  not quantized: spec.objective is Quality
  0.25 GiB of BF16 weights, 134,515,008 parameters
  not sized: no kind of GPU is known, neither from nodes or their drivers nor by declaration
  tensor-parallel size 1: the default; 9 attention and 3 key-value heads divide by it
  dtype bfloat16: the weights' own
  context 8192 tokens: the model's own limit
""",
        "",
    )


def test_a_plan_as_json_is_for_programs(capsys: pytest.CaptureFixture[str], planned: list[str]) -> None:
    code, out, _ = ftm(capsys, *planned, "-o", "json")
    found = json.loads(out)
    assert (code, found["feasible"], found["tensorParallelSize"], found["maxModelLen"]) == (0, True, 1, 8192)


def test_what_cannot_be_served_exits_with_3_and_the_reason(
    capsys: pytest.CaptureFixture[str], planned: list[str]
) -> None:
    manifest = Path(planned[1])
    manifest.write_text(f"{manifest.read_text()}  serving: {{tensorParallelSize: 2}}\n")
    code, out, _ = ftm(capsys, *planned)
    assert code == 3
    assert "9 attention heads do not divide by 2; valid sizes for this model are 1, 3" in out
    code, out, _ = ftm(capsys, *planned, "-o", "json")
    assert (code, json.loads(out)["rejected"][0]["rule"]) == (3, "AttentionHeads")


def test_wrong_facts_are_refused_in_a_sentence(capsys: pytest.CaptureFixture[str], planned: list[str]) -> None:
    Path(planned[-1]).write_text(json.dumps({"base": base_facts().to_json()}))
    code, out, err = ftm(capsys, *planned)
    assert (code, out) == (2, "")
    assert err == f"ftm: {planned[-1]}: adapters: Field required; write the `facts` of an inspect report\n"


@pytest.mark.parametrize(
    ("code", "more"),
    [
        (1, "; where the sources can be read, `ftm inspect MANIFEST -o json` > FACTS.json writes what --facts takes"),
        (2, ""),
    ],
)
def test_without_facts_and_sources_it_is_said_which_command_makes_the_facts(
    capsys: pytest.CaptureFixture[str],
    planned: list[str],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    more: str,
) -> None:
    def inspect(_: FineTunedModel) -> Facts:
        raise StepFailed("inspect: said", code)

    monkeypatch.setattr("ftm_operator.local.steps.inspect", inspect)
    assert ftm(capsys, *planned[:2]) == (code, "", f"ftm: inspect: said{more}\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "standard input is empty; `ftm inspect MANIFEST -o json` writes the facts, or says why it cannot"),
        ("inspect: x", "standard input is not JSON; name a file that `ftm inspect MANIFEST -o json` wrote"),
    ],
)
def test_a_failed_pipe_says_which_command_makes_the_facts(
    capsys: pytest.CaptureFixture[str],
    planned: list[str],
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    sentence: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert ftm(capsys, *planned[:-1], "-") == (2, "", f"ftm: {sentence}\n")


def test_a_wrong_manifest_exits_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = ftm(capsys, "run", str(written(tmp_path, "kind: Pod")))
    assert code == 2
    assert err.startswith("ftm: ")


def test_the_crd_is_printed_as_it_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert ftm(capsys, "crd") == (0, crds_yaml(), "")
