"""Models that cannot be converted are refused in words, most before anything is fetched; tools that fail are told."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.quantize.gguf.llama_cpp import VARIABLE
from tests.gguf.stub import stub, writes_gguf
from tests.step_fixtures import Run
from tests.unit.jobs.files import LLAMA_CONFIG, Shapes, zeros

SHAPES: Shapes = {
    "model.embed_tokens.weight": ("F16", (32, 8)),
    "model.layers.0.self_attn.q_proj.weight": ("F16", (8, 8)),
}


def model(folder: Path, files: dict[str, Any] | None = None, **config: Any) -> Path:
    folder.mkdir()
    content = {"config.json": LLAMA_CONFIG | config, **(files or {})}
    for name, value in content.items():
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    (folder / "model.safetensors").write_bytes(zeros(SHAPES))
    return folder


def convert(run: Run, source: Path, *arguments: str) -> Report:
    """The report, after a check that nothing was made."""
    store = source.with_name("store")
    report = run("gguf", "--model", source.as_uri(), "--artifacts", store.as_uri(), *arguments)
    assert not [path for path in store.rglob("*") if path.is_file()]
    return report


def refused(report: Report, reason: str) -> str:
    assert (report.outcome, report.reason) == (Outcome.INVALID_INPUT, reason), report
    return report.message


def failed(report: Report, reason: str) -> str:
    assert (report.outcome, report.reason) == (Outcome.FAILED, reason), report
    return report.message


def test_an_unknown_type(run: Run, tmp_path: Path) -> None:
    message = refused(convert(run, model(tmp_path / "m"), "--type", "Q9_K"), "UnknownType")
    assert message.startswith('"Q9_K" is no GGUF type that is made here: write one of Q2_K, ')


def test_an_architecture_that_the_converter_does_not_know(run: Run, tmp_path: Path) -> None:
    message = refused(convert(run, model(tmp_path / "m", architectures=["LlamaForCausalML"])), "UnsupportedModel")
    assert "config.json: architectures names LlamaForCausalML, which is none of the " in message
    assert "that llama.cpp's converter (llama_cpp_python-0.3.36) knows; the nearest are LlamaForCausalLM, " in message
    assert message.endswith(": serve the model with vLLM, unquantized or as AWQ")


def test_a_tokenizer_that_is_code(run: Run, tmp_path: Path) -> None:
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}}
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    source = model(tmp_path / "m", {"tokenizer_config.json": tokenizer, "tokenization_own.py": code})
    message = refused(convert(run, source), "UnsupportedModel")
    assert 'auto_map names code of the model\'s own ({"AutoTokenizer": ["tokenization_own.OwnTokenizer", ' in message
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_config_is_never_run(run: Run, tmp_path: Path) -> None:
    """With the real converter, which trusts what it finds."""
    ran = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nfrom transformers import LlamaConfig as Own\n"
    auto = {"AutoConfig": "own.Own", "AutoTokenizer": "own.Own", "AutoModelForCausalLM": "own.Own"}
    message = refused(
        convert(run, model(tmp_path / "m", {"own.py": code}, auto_map=auto, model_type="own")), "UnsupportedModel"
    )
    assert message.startswith("llama.cpp's converter cannot read the model: ")
    assert not ran.exists()


def test_widths_that_would_fall_back_under_strict(run: Run, tmp_path: Path) -> None:
    message = refused(convert(run, model(tmp_path / "m"), "--strict", "--type", "Q4_K_M"), "UnsuitableWidths")
    assert "Q4_K_M cannot store 2 of 2 weights as it should, since their rows of 8 numbers" in message
    assert "write type F16 or BF16, or leave strict out" in message


def test_a_model_that_is_quantized_already(run: Run, tmp_path: Path) -> None:
    source = model(tmp_path / "m", quantization_config={"quant_method": "awq"})
    assert "name the 16-bit model it was made from" in refused(convert(run, source), "UnsupportedBase")


def test_a_folder_without_a_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert "holds no files" in refused(convert(run, tmp_path / "m"), "SourceNotFound")


@pytest.mark.parametrize(
    ("lines", "reason", "said"),
    [
        (None, "SourceNotFound", "is not there"),
        ("", "InvalidCalibration", "is empty"),
        ('{"text": "one"}\n', "InvalidCalibration", "has 1 sample: at least 4 are needed"),
    ],
)
def test_a_calibration_text_that_is_none(run: Run, tmp_path: Path, lines: str | None, reason: str, said: str) -> None:
    text = tmp_path / "texts/calibration.jsonl"
    if lines is not None:
        text.parent.mkdir()
        text.write_text(lines)
    assert said in refused(convert(run, model(tmp_path / "m"), "--calibration", text.as_uri()), reason)


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(**programs: str) -> None:
        monkeypatch.setenv(VARIABLE, str(stub(tmp_path / "llama.cpp", **programs)))

    return use


def test_a_machine_without_llama_cpp(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    message = failed(convert(run, model(tmp_path / "m")), "InternalError")
    assert message == (
        f"llama.cpp is not in {tmp_path / 'nothing'}: run `make llama-cpp`, use the image ftm-quantize-gguf, or name a "
        "build in FTM_LLAMA_CPP"
    )


def test_a_model_that_the_converter_gives_up_on_in_its_own_words(run: Run, tmp_path: Path, stubbed: Any) -> None:
    stubbed(converter='raise NotImplementedError("BPE pre-tokenizer was not recognized")')
    message = refused(convert(run, model(tmp_path / "m")), "UnsupportedModel")
    assert message == (
        "llama.cpp's converter cannot read the model: NotImplementedError: BPE pre-tokenizer was not recognized; "
        "serve it with vLLM, unquantized or as AWQ"
    )


@pytest.mark.parametrize(
    "ends",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "raise MemoryError",
        "sys.exit('terminate called after throwing an instance of std::bad_alloc')",
    ],
)
@pytest.mark.parametrize("program", ["converter", "quantizer"])
def test_memory_that_runs_out(run: Run, tmp_path: Path, stubbed: Any, program: str, ends: str) -> None:
    stubbed(**{"converter": writes_gguf(), program: ends})
    message = failed(convert(run, model(tmp_path / "m")), "OutOfMemory")
    assert message.startswith("memory ran out: it had ")
    assert message.endswith(" and needs some 1.5 GB: end other programs, or use a machine with more")


@pytest.mark.parametrize("program", ["converter", "quantizer"])
def test_a_disk_that_runs_full(run: Run, tmp_path: Path, stubbed: Any, program: str) -> None:
    stubbed(**{"converter": writes_gguf(), program: "raise OSError(28, 'No space left on device')"})
    message = failed(convert(run, model(tmp_path / "m")), "DiskFull")
    assert message.endswith(
        ": no space left on the disk, and this step needs some 67.1 MB there: give it a larger volume, or name another "
        "folder in FTM_SCRATCH"
    )


def test_a_quantizer_that_crashes(run: Run, tmp_path: Path, stubbed: Any) -> None:
    stubbed(
        converter=writes_gguf(),
        quantizer="print('ggml error: bad row', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
    )
    message = failed(convert(run, model(tmp_path / "m")), "InternalError")
    assert message == "llama-quantize was ended by SIGSEGV: ggml error: bad row"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (writes_gguf(theta=500000.0), "its rope.freq_base is 500000, and the config's rope_theta is 10000"),
        (writes_gguf(layers=3), "its block_count is 3, and the config's is 1"),
        (writes_gguf(rows=30), "it has embeddings of 30 tokens, and the config's vocab_size is 32"),
    ],
)
def test_a_file_that_is_another_model(run: Run, tmp_path: Path, stubbed: Any, written: str, said: str) -> None:
    stubbed(converter=written)
    message = refused(convert(run, model(tmp_path / "m", rope_theta=10000.0), "--type", "F16"), "RuinedResult")
    assert message == (f"llama.cpp made another model of it: {said}: correct config.json, or serve it with vLLM")


def test_a_file_that_is_cut_short(run: Run, tmp_path: Path, stubbed: Any) -> None:
    stubbed(converter=f"{writes_gguf()}\nos.truncate(to, os.stat(to).st_size - 64)")
    message = failed(convert(run, model(tmp_path / "m"), "--type", "F16"), "RuinedResult")
    assert 'its tensor "token_embd.weight" ends at ' in message


def test_the_programs_see_no_credentials_and_no_hub(
    run: Run, tmp_path: Path, stubbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")
    seen = tmp_path / "seen"
    stubbed(converter=f"import json; json.dump(dict(os.environ), open({str(seen)!r}, 'w')); sys.exit('error: enough')")
    convert(run, model(tmp_path / "m"))
    found = json.loads(seen.read_text())
    assert "secret" not in found.values()
    assert (found["HF_HUB_OFFLINE"], found["TRANSFORMERS_OFFLINE"]) == ("1", "1")


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_a_program_ends_with_the_step(tmp_path: Path, stubbed: Any, signal: str) -> None:
    note = tmp_path / "pid"
    stubbed(converter=f"open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    source, store = model(tmp_path / "m"), tmp_path / "store"
    command = [sys.executable, "-m", "ftm_jobs", "gguf", "--model", source.as_uri(), "--artifacts", store.as_uri()]
    step = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    subprocess.run(["kill", f"-{signal}", str(step.pid)], check=True)
    step.wait()
    child = int(note.read_text())
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()
    assert not store.exists() or not list(store.iterdir())
