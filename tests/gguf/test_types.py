"""Every type of a real model: what is stored, what that weighs, what a person is told."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, MixtralConfig, PretrainedConfig

from ftm_jobs import __main__ as command_line
from ftm_jobs.contract.manifest import Manifest
from ftm_jobs.contract.report import Report
from ftm_jobs.quantize.gguf.fallbacks import fallback_notes, fallback_storage
from ftm_jobs.quantize.gguf.file_types import STORAGE, TYPES, stored_bytes
from ftm_jobs.quantize.gguf.header import read_gguf
from ftm_jobs.quantize.gguf.llama_cpp import LlamaCpp
from ftm_jobs.quantize.gguf.mixture import GgufArchitecture, asked_storage
from tests.gguf.models import make_model
from tests.step_fixtures import Run

SMOLLM2 = GgufArchitecture("llama", layers=30, heads=9, key_value_heads=3)
ALIGNMENT = 32


@dataclass(frozen=True)
class Made:
    report: Report
    manifest: Manifest
    file: Path


def make(model: Path, store: Path, type: str, *arguments: str) -> Made:
    report_file = store / f"{type}.json"
    store.mkdir(exist_ok=True)
    command = ["gguf", "--model", model.as_uri(), "--artifacts", store.as_uri(), "--type", type, *arguments]
    command_line.main([*command, "--report", str(report_file)])
    report = Report.model_validate_json(report_file.read_text())
    assert report.artifact, report.message
    folder = store / report.artifact.key
    return Made(report, Manifest.model_validate_json((folder / "manifest.json").read_text()), folder / "model.gguf")


@pytest.fixture(scope="module", autouse=True)
def _converted_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The converter, most of whose time goes into imports, runs once per model and precision."""
    kept = tmp_path_factory.mktemp("converted")
    real = LlamaCpp.convert

    def convert(self: LlamaCpp, model: Path, to: Path, outtype: str, expected_bytes: int) -> None:
        weights = (model / "model.safetensors").resolve()
        cached = kept / f"{weights.stat().st_ino}-{outtype}"
        if not cached.exists():
            real(self, model, cached, outtype, expected_bytes)
        to.hardlink_to(cached)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LlamaCpp, "convert", convert)
        yield


@pytest.fixture(scope="module")
def made(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    store = tmp_path_factory.mktemp("quantized")
    return {type: make(merged, store, type) for type in TYPES}


@pytest.mark.parametrize("type", [name for name, type in TYPES.items() if type.quantized])
def test_each_tensor_is_stored_as_the_type_says_or_as_it_falls_back(made: dict[str, Made], type: str) -> None:
    header = read_gguf(made[type].file)
    asked = asked_storage(header.weights.values(), SMOLLM2, TYPES[type])
    for name, tensor in header.tensors.items():
        assert tensor.storage == (fallback_storage(tensor.weight, asked[name]) if name in asked else "F32"), name


@pytest.mark.parametrize("type", TYPES)
def test_a_file_weighs_what_the_formats_arithmetic_says(made: dict[str, Made], type: str) -> None:
    header = read_gguf(made[type].file)
    sizes = [stored_bytes(tensor.weight, STORAGE[tensor.storage]) for tensor in header.tensors.values()]
    assert made[type].file.stat().st_size == header.data_offset + sum(
        -(-size // ALIGNMENT) * ALIGNMENT for size in sizes
    )
    manifest = made[type].manifest
    assert manifest.measurements["bitsPerWeight"] == pytest.approx(
        8 * made[type].file.stat().st_size / manifest.measurements["parameters"], abs=1e-4
    )


@pytest.mark.parametrize("type", ["F16", "BF16"])
def test_sixteen_bits_are_kept_as_they_are(made: dict[str, Made], type: str) -> None:
    header = read_gguf(made[type].file)
    assert {tensor.storage for tensor in header.tensors.values()} == {type, "F32"}
    assert made[type].report.notes == ()


def test_the_chat_template_is_inside_to_the_letter(made: dict[str, Made], merged: Path) -> None:
    template = (merged / "chat_template.jinja").read_text()
    for each in made.values():
        assert read_gguf(each.file).metadata["tokenizer.chat_template"] == template


def test_a_person_is_told_which_tensors_fell_back_and_why(made: dict[str, Made]) -> None:
    layers, embeddings = made["Q5_K_M"].report.notes
    assert layers == (
        "Q5_K_M: 180 of 272 tensors fell back to another type, since 576 columns are no multiple of 256: "
        "166 from Q5_K to Q5_1 and 14 from Q6_K to Q8_0 (attn_k, attn_output, attn_q, attn_v, ffn_gate, ffn_up)"
    )
    assert embeddings == "Q5_K_M: token_embd.weight is Q8_0, not Q6_K, since 576 columns are no multiple of 256"
    assert made["Q5_K_M"].manifest.notes == made["Q5_K_M"].report.notes
    assert made["Q5_K_M"].manifest.measurements["tensorsFallenBack"] == 180
    assert made["Q8_0"].report.notes == ()


def test_the_manifest_says_what_was_made_from_what_by_what(made: dict[str, Made], merged: Path) -> None:
    manifest = made["Q4_K_M"].manifest
    assert manifest.quantization == {"method": "gguf", "type": "Q4_K_M"}
    assert manifest.tools == {"llama.cpp": "llama_cpp_python-0.3.36"}
    (source,) = manifest.inputs
    assert (source.role, source.uri) == ("merged", merged.as_uri())
    assert [file.path for file in manifest.files] == ["model.gguf"]


def test_a_type_that_was_made_is_made_only_once(made: dict[str, Made], merged: Path, run: Run) -> None:
    store = made["Q5_K_M"].file.parents[1]
    before = made["Q5_K_M"].file.stat().st_mtime_ns
    again = run("gguf", "--model", merged.as_uri(), "--artifacts", store.as_uri(), "--type", "Q5_K_M")
    assert (again.reused, again.reason) == (True, "AlreadyQuantized")
    assert again.notes == made["Q5_K_M"].report.notes
    assert made["Q5_K_M"].file.stat().st_mtime_ns == before


GENERATED: dict[str, tuple[PretrainedConfig, torch.dtype]] = {
    "widths of 256, untied, 4 queries a key": (
        LlamaConfig(
            hidden_size=256, intermediate_size=512, num_hidden_layers=9, num_attention_heads=4, num_key_value_heads=1,
            tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        torch.bfloat16,
    ),
    "widths of no 32, biases, 32 bits": (
        LlamaConfig(
            hidden_size=256, intermediate_size=700, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
            attention_bias=True, tie_word_embeddings=True,
        ),
        torch.float32,
    ),
    "eight experts, 16-bit floats": (
        MixtralConfig(
            hidden_size=256, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            num_local_experts=8, num_experts_per_tok=2,
        ),
        torch.float16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GENERATED)
def test_other_models_are_stored_as_the_types_say(kind: str, tmp_path: Path) -> None:
    config, dtype = GENERATED[kind]
    model = make_model(tmp_path / "model", config, dtype)
    for type in ("Q2_K", "Q4_K_M"):
        made = make(model, tmp_path / "store", type)
        header = read_gguf(made.file)
        architecture = GgufArchitecture(
            str(header.metadata["general.architecture"]),
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            getattr(config, "num_local_experts", 0),
        )
        asked = asked_storage(header.weights.values(), architecture, TYPES[type])
        for name in asked:
            tensor = header.tensors[name]
            assert tensor.storage == fallback_storage(tensor.weight, asked[name]), name
        assert made.report.notes == fallback_notes(TYPES[type], header.weights, asked)
        assert bool(made.report.notes) == (kind == "widths of no 32, biases, 32 bits")


def test_importances_of_a_text_change_the_file_and_the_key(made: dict[str, Made], merged: Path, tmp_path: Path) -> None:
    bundled = files("ftm_jobs").joinpath("data/calibration.jsonl").read_text().splitlines(keepends=True)
    text = tmp_path / "texts.jsonl"
    text.write_text("".join(line for line in bundled[:16]))
    informed = make(merged, tmp_path / "store", "Q4_0", "--calibration", text.as_uri())
    plain = made["Q4_0"].report
    assert informed.report.artifact
    assert plain.artifact
    assert informed.report.artifact.key != plain.artifact.key
    assert informed.manifest.quantization == {"method": "gguf", "type": "Q4_0", "importance": True}
    assert [source.role for source in informed.manifest.inputs] == ["merged", "calibration"]
    header = read_gguf(informed.file)
    assert header.tensors["blk.0.ffn_down.weight"].storage == "Q4_1"
    assert header.metadata["quantize.imatrix.entries_count"] == 210


def test_a_text_too_short_for_importances_is_refused(merged: Path, tmp_path: Path, run: Run) -> None:
    text = tmp_path / "texts.jsonl"
    text.write_text('{"text": "Too short."}\n' * 4)
    command = ["--model", merged.as_uri(), "--artifacts", (tmp_path / "store").as_uri(), "--calibration", text.as_uri()]
    report = run("gguf", *command)
    assert report.reason == "InvalidCalibration"
    assert report.message == "the calibration text has fewer than 1024 tokens: write more samples, some 64"
