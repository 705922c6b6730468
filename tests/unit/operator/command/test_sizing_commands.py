"""`ftm plan --gpus` and `ftm inspect --config`: the whole output, and how they exit."""

import io
import json
from pathlib import Path

import pytest

from ftm_jobs.contract.facts import Facts
from tests.unit.operator.command.test_cli import ftm
from tests.unit.operator.local.test_manifest_file import TEXT, written
from tests.unit.operator.planning.catalogue import config
from tests.unit.operator.planning.start_logs import V1

A10G = "- {name: a10g, memory: 23028Mi, perNode: 4, nodes: 2, resource: nvidia.com/gpu}\n"


def files(folder: Path, model: str, classes: str = A10G, serving: str = "{maxModelLen: 8192}") -> list[str]:
    """The arguments of a plan that needs nothing else."""
    (folder / "config.json").write_text(json.dumps(config(model)))
    (folder / "classes.yaml").write_text(classes)
    manifest = written(folder, f"{TEXT}  serving: {serving}\n")
    return ["plan", str(manifest), "--facts", str(folder / "facts.json"), "--gpus", str(folder / "classes.yaml")]


@pytest.fixture
def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    return inspected(
        capsys, tmp_path, files(tmp_path, "mistral-7b-v0.1", serving="{maxModelLen: 8192, dtype: float16}")
    )


def inspected(capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str]) -> list[str]:
    code, out, _ = ftm(capsys, "inspect", "--config", str(folder / "config.json"), "-o", "json")
    assert code == 0
    (folder / "facts.json").write_text(out)
    return arguments


def test_a_plan_shows_the_gpus_their_memory_why_and_what_was_rejected(
    capsys: pytest.CaptureFixture[str], planned: list[str]
) -> None:
    assert ftm(capsys, *planned) == (
        0,
        """\
bot
  accelerators            2 x a10g (nvidia.com/gpu)
  parallel                tensor 2
  quantization            None
  dtype                   float16
  context                 8192 tokens, 8 times at once
  KV cache                169748 tokens
  batch                   2048 tokens, 256 sequences
  GPU memory utilization  0.92
  pod                     4 CPUs, 17.49 GiB memory, 2.00 GiB of it shared
  served model name       bot
memory of each GPU
  weights                   6.74 GiB
  activations               1.14 GiB  (0.14 GiB at least)
  CUDA graphs               0.51 GiB  (0.00 GiB at least)
  NCCL and the like         1.38 GiB  (0.09 GiB at least)
  rotary table              0.01 GiB
  slack                     0.12 GiB  (0.00 GiB at least)
  KV cache                 10.38 GiB  (4.01 GiB needed)
  in all                   20.30 GiB
why
  Merged: 2 adapters folded into the weights
  vLLM on GPUs: the default
  not quantized: spec.objective is Quality
  2 x a10g: the fewest GPUs that hold on each 6.74 GiB of weights, 3.17 GiB of reserves and 4.01 GiB of KV cache for \
8 requests of 8192 tokens each in 20.30 GiB
  tensor-parallel size 2: 32 attention heads and 8 key-value heads divide by it
  dtype float16: from spec.serving.dtype
  context 8192 tokens: from spec.serving.maxModelLen
  batch of 2048 tokens and 256 sequences: vLLM's default for a10g
  reserves of vLLM 0.33 with model runner V2 are held as the most that start-up logs show: activations 0.14 to \
1.14 GiB (3 logs), CUDA graphs 0.00 to 0.51 GiB (3 logs), NCCL and the like 0.09 to 1.38 GiB (2 logs), slack 0.00 to \
0.12 GiB (6 logs); weights, KV cache and all else are formulae
rejected
  a10g, 1                    Memory: each GPU needs 23.68 GiB: 13.49 GiB of weights, 2.17 GiB of reserves and \
8.02 GiB of KV cache for 8 requests of 8192 tokens each; it has 20.30 GiB, 92% of 22.06 GiB
""",
        "",
    )


def test_a_plan_as_json_is_the_answer_for_programs(capsys: pytest.CaptureFixture[str], planned: list[str]) -> None:
    code, out, _ = ftm(capsys, *planned, "-o", "json")
    answer = json.loads(out)
    assert code == 0
    assert answer["feasible"]
    assert (answer["accelerator"], answer["tensorParallelSize"], answer["nodes"]) == ("a10g", 2, 1)
    assert answer["rejected"][0]["rule"] == "Memory"


def test_a_prediction_is_shown_beside_a_log(
    capsys: pytest.CaptureFixture[str], planned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_text(V1)
    table = """\
bot beside a log of vLLM 0.10.1.1: 2 x a10g, tensor-parallel size 2, 8192 tokens
                            predicted   other end      logged   error
  weights                    6.75 GiB                6.76 GiB   -0.1%
  activations                1.14 GiB    0.14 GiB    0.38 GiB +201.2%  between both ends
  NCCL and the like          1.38 GiB    0.09 GiB    0.31 GiB +345.4%  between both ends
  KV cache                  10.45 GiB   12.87 GiB   12.40 GiB  -15.7%  between both ends
  bytes of a token              65664                   65534   +0.2%
  tokens                       170866      210373      203168  -15.9%  between both ends
  requests at once               20.9        25.7        24.8  -15.9%  between both ends
differs
  max-num-seqs: the log has 128, the plan 256
  GPU memory utilization: the log has 0.9, the plan 0.92
"""
    assert ftm(capsys, *planned, "--against", str(tmp_path / "log")) == (0, table, "")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(V1.encode())))
    code, out, _ = ftm(capsys, *planned, "--against", "-", "-o", "json")
    answer = json.loads(out)
    assert (code, answer["engine"], answer["tensorParallelSize"]) == (0, "0.10.1.1", 2)
    assert [each["item"] for each in answer["items"]][:2] == ["weights", "activations"]
    assert len(answer["differences"]) == 2


def test_what_is_no_log_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], planned: list[str], tmp_path: Path
) -> None:
    def refused(*arguments: str) -> str:
        code, out, err = ftm(capsys, *arguments)
        assert (code, out) == (2, "")
        return err

    (tmp_path / "log").write_bytes(b"\x00\xff Uvicorn running")
    assert "log has no line in which vLLM says how much memory it takes" in refused(
        *planned, "--against", str(tmp_path / "log")
    )
    assert "No such file or directory; name a start-up log of vLLM" in refused(*planned, "--against", "nowhere")
    assert "--against needs --gpus" in refused(*planned[:-2], "--against", "nowhere")
    manifest, gpus = planned[1], planned[-1]
    assert "cannot both be read from standard input" in refused(
        "plan", manifest, "--facts", "-", "--gpus", gpus, "--against", "-"
    )


def test_what_does_not_fit_exits_with_3_and_says_what_would(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = inspected(capsys, tmp_path, files(tmp_path, "llama-3.1-70b", A10G.replace("nodes: 2", "nodes: 1")))
    code, out, _ = ftm(capsys, *arguments)
    assert code == 3
    assert out.startswith(
        """\
bot cannot be served as asked
  Memory: a10g, tensor-parallel size 2 and 2 pipeline stages: each GPU needs 41.64 GiB: 32.85 GiB of weights, 3.78 GiB \
of reserves and 5.00 GiB of KV cache for 8 requests of 8192 tokens each; it has 20.30 GiB, 92% of 22.06 GiB
what would fit
  4-bit weights (AWQ, groups of 128) fit on 4 x a10g (tensor-parallel size 4): set spec.quantization.method to AWQ
  1 x NVIDIA-B200 (tensor-parallel size 1) would hold it: offer such GPUs
rejected
  a10g, 1                    Memory: """
    )
    code, out, _ = ftm(capsys, *arguments, "-o", "json")
    answer = json.loads(out)
    assert (code, answer["feasible"], answer["rule"]) == (3, False, "Memory")
    assert answer["reasons"][1].startswith("4-bit weights")
    assert {each["rule"] for each in answer["rejected"]} == {"Memory", "AttentionHeads"}


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ("- {name: gold}", 'classes.yaml: class "gold" has no memory and is none of Tesla-T4, '),
        ("- {name: a10g, memory: 24GB}", 'classes.yaml: classes[0].memory: "24GB" is not a quantity'),
        ("[", "classes.yaml is not YAML"),
        ("gold", "classes.yaml is not a list; write one item for each kind of GPU"),
    ],
)
def test_classes_that_cannot_be_read_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, classes: str, sentence: str
) -> None:
    arguments = inspected(capsys, tmp_path, files(tmp_path, "mistral-7b-v0.1", classes))
    code, _, err = ftm(capsys, *arguments)
    assert code == 2
    assert sentence in err


def test_classes_that_are_not_there_are_refused_by_name(capsys: pytest.CaptureFixture[str], planned: list[str]) -> None:
    code, _, err = ftm(capsys, *planned[:-1], "nowhere.yaml")
    assert (code, err) == (
        2,
        "ftm: nowhere.yaml: No such file or directory; name a YAML file that lists kinds of GPU\n",
    )


def test_a_config_alone_is_inspected(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files(tmp_path, "mixtral-8x7b")
    code, out, _ = ftm(capsys, "inspect", "--config", str(tmp_path / "config.json"))
    assert code == 0
    assert "  weights        46,702,792,704 parameters, 93.41 GB in BF16\n" in out
    code, out, _ = ftm(capsys, "inspect", "--config", str(tmp_path / "config.json"), "-o", "json")
    facts = Facts.model_validate_json(out)
    assert facts.adapters == ()
    assert facts.base.tensors
    assert facts.base.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object; name a model's config.json"),
        ("{}", "names no model_type: copy it from the model's page"),
        ('{"dim": 4096, "n_layers": 32, "hidden_dim": 14336}', "is a params.json, of Mistral's own format: give the"),
        ('{"architectures": ["X"], "model_type": "x"}', "has no positive number as num_hidden_layers, which sizing"),
        (
            '{"architectures": ["X"], "model_type": "x", "num_hidden_layers": 2, "hidden_size": "64"}',
            "has no positive number as hidden_size, which sizing needs and merging does not: copy it from the model's",
        ),
    ],
)
def test_a_config_that_says_too_little_is_refused_naming_the_field(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, sentence: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    code, _, err = ftm(capsys, "inspect", "--config", str(path))
    assert code == 2
    assert err.startswith(f"ftm: {path}")
    assert sentence in err


@pytest.mark.parametrize("arguments", [[], ["--config", "c.json", "hf://org/b"]])
def test_inspect_takes_sources_or_a_config(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err = ftm(capsys, "inspect", *arguments)
    assert code == 2
    assert "--config" in err
