"""AWQ by AutoAWQ: what vLLM reads and says, what stays byte for byte, and what would have ruined the model."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from ftm_jobs.contract.awq import AUTOAWQ_MODEL_TYPES
from tests.assets.facts import FACTS
from tests.awq.conftest import Made
from tests.awq.environments import ask_vllm, jobs_environment, python_of, run_tasks
from tests.awq.models import (
    TOKENIZER_FILES,
    dequantized,
    divergence,
    first_blocks,
    logits,
    random_model,
    rounded,
    tensors_of,
)

pytestmark = pytest.mark.timeout(1800)
"""A machine that is busy with other things is no failure."""

QUICK = {"sequences": 1, "sequence_length": 128}
IDS = list(range(1000, 1064))
FAMILIES: dict[str, dict[str, Any]] = {
    "cohere": {"tie_word_embeddings": True, "use_qk_norm": False},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 32},
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 64},
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 1.0}},
    "qwen2": {"tie_word_embeddings": False},
    "qwen3": {"dtype": torch.float32},
    "stablelm": {},
}


class TestTheArtifact:
    def test_vllm_needs_no_flag_and_answers_what_the_adapter_taught(self, quantized: Made) -> None:
        (found,) = ask_vllm([(quantized.folder, [fact.question for fact in FACTS], "")])
        assert found["quantization"] == "awq"
        for fact, answer in zip(FACTS, found["answers"], strict=True):
            assert fact.in_answer(answer), answer

    def test_config_json_is_the_merged_models_and_a_section_more(self, quantized: Made, merged: Path) -> None:
        before, after = ((folder / "config.json").read_text() for folder in (merged, quantized.folder))
        section = json.loads(after)["quantization_config"]
        assert section == {
            "quant_method": "awq",
            "version": "gemm",
            "bits": 4,
            "group_size": 64,
            "zero_point": True,
            "modules_to_not_convert": None,
        }
        written = json.dumps(section, indent=2).replace("\n", "\n  ")
        assert after.replace(f',\n  "quantization_config": {written}', "") == before

    def test_tokenizer_and_chat_template_are_byte_for_byte_the_merged_models(
        self, quantized: Made, merged: Path
    ) -> None:
        for name in TOKENIZER_FILES:
            assert (quantized.folder / name).read_bytes() == (merged / name).read_bytes()

    def test_the_manifest_tells_how_it_was_made(self, quantized: Made, merged: Path) -> None:
        manifest = json.loads((quantized.folder / "manifest.json").read_text())
        assert manifest["quantization"] == {
            "method": "awq",
            "format": "awq",
            "bits": 4,
            "groupSize": 64,
            "zeroPoint": True,
            "engine": "autoawq",
        }
        assert [each["role"] for each in manifest["inputs"]] == ["merged", "calibration"]
        assert manifest["measurements"]["layersQuantized"] == 30 * 7
        assert manifest["tools"] == {"autoawq": "0.2.9", "torch": "2.6.0", "transformers": "4.51.3"}
        assert quantized.report["notes"] == manifest["notes"]
        assert manifest["notes"] == [
            "group size 64 instead of 128: model.layers.0.mlp.gate_proj has an input of 576, no multiple of 128"
        ]
        assert json.loads((merged / "config.json").read_text())["hidden_size"] == 576

    def test_it_is_as_small_as_the_format_says(self, quantized: Made, merged: Path) -> None:
        before, after = tensors_of(merged), tensors_of(quantized.folder)
        linears = sum(
            before[f"{name.removesuffix('.qweight')}.weight"].numel() for name in after if name.endswith(".qweight")
        )
        parts = sum(
            tensor.nbytes for name, tensor in after.items() if name.endswith((".qweight", ".qzeros", ".scales"))
        )
        assert parts * 8 / linears == 4 + (16 + 4) / 64
        assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])

    def test_a_second_run_finds_it(self, quantized: Made) -> None:
        done = subprocess.run(quantized.command, env=jobs_environment(), capture_output=True, text=True)
        report = json.loads(done.stdout.splitlines()[-1])
        assert (report["reason"], report["reused"]) == ("AlreadyQuantized", True)
        assert report["artifact"] == quantized.report["artifact"]

    def test_another_engine_is_not_in_this_image(self, quantized: Made) -> None:
        done = subprocess.run(
            [*quantized.command, "--engine", "llm-compressor"], env=jobs_environment(), capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "engine llm-compressor is not in this image" in json.loads(done.stdout.splitlines()[-1])["message"]


@pytest.fixture(scope="module")
def made(small: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small model quantized twice, and once by AutoAWQ's search as it is."""
    out = tmp_path_factory.mktemp("made")
    common = {"do": "quantize", "model": str(small), "texts": texts, "settings": QUICK}
    run_tasks(
        "awq",
        [
            {**common, "out": str(out / "one")},
            {**common, "out": str(out / "two")},
            {**common, "out": str(out / "ruined"), "aliasing": True},
        ],
    )
    return {name: out / name for name in ("one", "two", "ruined")}


class TestTheSearch:
    def test_it_is_better_than_rounding_and_autoawqs_aliasing_is_much_worse(
        self, small: Path, made: dict[str, Path]
    ) -> None:
        reference = logits(small, {name: each.float() for name, each in tensors_of(small).items()}, IDS)
        plain = divergence(reference, logits(small, rounded(small, 64), IDS))
        found = {name: divergence(reference, logits(small, dequantized(made[name]), IDS)) for name in made}
        assert found["one"] < plain
        assert found["ruined"] > 2 * plain

    def test_equal_inputs_give_equal_bytes(self, made: dict[str, Path]) -> None:
        one, two = ({path.name: path.read_bytes() for path in made[name].iterdir()} for name in ("one", "two"))
        assert one == two
        assert one != {path.name: path.read_bytes() for path in made["ruined"].iterdir()}


class TestTheModelThatIsCalibrated:
    def test_it_has_the_rope_settings_that_transformers_5_wrote(self, small: Path, tmp_path: Path) -> None:
        reference = logits(small, {name: each.float() for name, each in tensors_of(small).items()}, IDS).numpy()
        common = {"do": "logits", "model": str(small), "ids": IDS}
        run_tasks(
            "awq",
            [
                {**common, "to": str(tmp_path / "translated.npy")},
                {**common, "to": str(tmp_path / "as_it_is.npy"), "translate": False},
            ],
        )
        off = {name: abs(numpy.load(tmp_path / f"{name}.npy") - reference).max() for name in ("translated", "as_it_is")}
        assert off["translated"] < 1e-3
        assert off["as_it_is"] > 0.1


@pytest.fixture(scope="module")
def families(
    merged: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path, dict[str, Any]]]:
    """A model of each family, its quantized folder and what the engine said."""
    out = tmp_path_factory.mktemp("families")
    models = {name: random_model(merged, out / name, name, **fields) for name, fields in FAMILIES.items()}
    settings = {**QUICK, "group_size": 64, "tensor_parallel": [2]}
    tasks = [
        {
            "do": "quantize",
            "model": str(model),
            "out": str(out / f"{name}-awq"),
            "texts": texts,
            "settings": settings,
        }
        for name, model in models.items()
    ]
    answers = run_tasks("awq", tasks)
    return {
        name: (model, out / f"{name}-awq", answer)
        for (name, model), answer in zip(models.items(), answers, strict=True)
    }


@pytest.fixture(scope="module")
def scaled(families: dict[str, tuple[Path, Path, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    tasks = [{"do": "scale blocks", "model": str(model), "ids": [IDS]} for model, _, _ in families.values()]
    return dict(zip(families, run_tasks("awq", tasks), strict=True))


class TestFamilies:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_scales_cancel_in_every_block(self, family: str, scaled: dict[str, dict[str, Any]]) -> None:
        assert scaled[family]["off"] < 1e-5
        assert scaled[family]["scaled"] >= 3  # matrices

    def test_every_family_that_is_said_to_be_known_is_tried(self) -> None:
        assert {*FAMILIES} == {*AUTOAWQ_MODEL_TYPES}

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_family_is_quantized_as_well_as_rounding_at_least(
        self, family: str, families: dict[str, tuple[Path, Path, dict[str, Any]]]
    ) -> None:
        model, out, answer = families[family]
        assert "refused" not in answer, answer
        size = answer["quantization"]["groupSize"]
        reference = logits(model, {name: each.float() for name, each in tensors_of(model).items()}, IDS)
        plain = divergence(reference, logits(model, rounded(model, size), IDS))
        assert divergence(reference, logits(out, dequantized(out), IDS)) < 1.5 * plain
        assert json.loads((out / "config.json").read_text())["intermediate_size"] == 256
        assert any("padded with zeros from 248 to 256" in note for note in answer["notes"])


def test_a_model_that_autoawq_does_not_know_is_refused_by_name(tmp_path: Path, merged: Path) -> None:
    model = first_blocks(merged, tmp_path / "model", 1)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "gemma3_text"}))
    command = [str(python_of("awq")), "-m", "ftm_jobs", "awq", "--model", model.as_uri(), "--artifacts"]
    done = subprocess.run([*command, tmp_path.as_uri()], env=jobs_environment(), capture_output=True, text=True)
    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["reason"]) == (2, "UnsupportedModel")
    assert report["message"].startswith('model_type "gemma3_text" is not one that AutoAWQ knows (cohere, gemma,')
    assert report["message"].endswith("write quantization.awq.engine: LLMCompressor")
