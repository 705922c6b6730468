"""Every kind of adapter on every family of models: what transformers loads is PEFT's result, bit for bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.merge.arithmetic.nf4 import LEVELS
from tests.models.families import Adapter, load, make_adapter, make_family, merged_by_peft
from tests.places import Disk
from tests.step_fixtures import Run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

ATTENTION = ["q_proj", "v_proj"]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32

PLAIN = Adapter({"target_modules": LINEAR})
DORA = Adapter({"target_modules": LINEAR, "use_dora": True})
EMBEDDING = Adapter({"target_modules": ["embed_tokens", "q_proj"]}, save={"save_embedding_layers": False})
SAVED_EMBEDDING = Adapter({"target_modules": ["embed_tokens", "q_proj"]})
OUTPUT = Adapter({"target_modules": ["lm_head", "q_proj"]})
TRAINED_EMBEDDING = Adapter({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]})
TRAINED_OUTPUT = Adapter({"target_modules": ATTENTION, "modules_to_save": ["lm_head"]})
TRAINED_BOTH = Adapter({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "lm_head"]})
TRAINED_NORMS = Adapter({"target_modules": ATTENTION, "modules_to_save": ["input_layernorm"]})
KEPT_TIED = Adapter({"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True})
TOKENS = Adapter({"target_modules": ATTENTION, "trainable_token_indices": [5, 3, 60]})
RESIZED_TOKENS = Adapter({"target_modules": ATTENTION, "trainable_token_indices": [5, 66]}, vocabulary=70)
BOTH_TOKENS = Adapter(
    {"target_modules": ATTENTION, "trainable_token_indices": {"embed_tokens": [5, 6], "lm_head": [7]}}
)
RESIZED = Adapter({"target_modules": ATTENTION}, vocabulary=70)
RESIZED_BOTH = Adapter(TRAINED_BOTH.lora, vocabulary=70)
RESIZED_EMBEDDING = Adapter({"target_modules": ["embed_tokens", "lm_head", "q_proj"]}, vocabulary=70)
BIAS = Adapter({"target_modules": ATTENTION, "lora_bias": True})
ALL_BIASES = Adapter({"target_modules": ATTENTION, "bias": "all"})
PATTERNS = Adapter(
    {
        "target_modules": LINEAR,
        "use_rslora": True,
        "rank_pattern": {"layers.0.self_attn.q_proj": 8, "q_proj": 2, "^model.layers.1.mlp.*": 3},
        "alpha_pattern": {".*proj": 3},
    }
)
CONV1D = Adapter({"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True})
EXPERTS = Adapter(
    {"target_modules": ATTENTION, "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
)
FUSED_EXPERTS = Adapter(
    {"target_modules": ATTENTION, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
)
DOWN = Adapter({"target_modules": [], "target_parameters": ["experts.down_proj"]})
ROUTER = Adapter({"target_modules": ATTENTION, "target_parameters": ["gate.weight"]})
ALL_LINEAR = Adapter({"target_modules": "all-linear"})

CASES: dict[str, tuple[str, torch.dtype, list[Adapter]]] = {
    "llama plain": ("llama", BF16, [PLAIN]),
    "llama fp16": ("llama", FP16, [PLAIN]),
    "llama fp32 from bf16": ("llama", FP32, [Adapter(PLAIN.lora, dtype=BF16)]),
    "llama bf16 from fp16": ("llama", BF16, [Adapter(DORA.lora, dtype=FP16)]),
    "llama rsLoRA and patterns": ("llama", BF16, [PATTERNS]),
    "llama DoRA": ("llama", BF16, [DORA]),
    "llama DoRA fp32": ("llama", FP32, [DORA]),
    "llama plain, DoRA, DoRA": ("llama", BF16, [PLAIN, DORA, DORA]),
    "llama DoRA, plain": ("llama", FP16, [DORA, PLAIN]),
    "llama lora_bias": ("llama", BF16, [BIAS]),
    "llama all biases": ("llama", BF16, [ALL_BIASES]),
    "llama VeLoRA": ("llama", BF16, [Adapter({"target_modules": ATTENTION, "velora_config": {"num_groups": 4}})]),
    "llama MonteCLoRA": ("llama", BF16, [Adapter({"target_modules": ATTENTION, "monteclora_config": {}})]),
    "llama MiCA": ("llama", BF16, [Adapter({"target_modules": ATTENTION, "init_lora_weights": "mica"})]),
    "llama embedding": ("llama", BF16, [EMBEDDING]),
    "llama embedding, saved": ("llama", BF16, [SAVED_EMBEDDING]),
    "llama embedding, DoRA": ("llama", BF16, [Adapter({**EMBEDDING.lora, "use_dora": True}, save=EMBEDDING.save)]),
    "llama output": ("llama", BF16, [OUTPUT]),
    "llama trained embedding": ("llama", BF16, [TRAINED_EMBEDDING]),
    "llama trained output": ("llama", FP16, [TRAINED_OUTPUT]),
    "llama trained norms": ("llama", BF16, [TRAINED_NORMS]),
    "llama trained both, then plain": ("llama", BF16, [TRAINED_BOTH, PLAIN]),
    "llama token rows": ("llama", BF16, [TOKENS]),
    "llama token rows, resized": ("llama", BF16, [RESIZED_TOKENS]),
    "llama token rows of both": ("llama", BF16, [BOTH_TOKENS]),
    "llama resized": ("llama", BF16, [RESIZED]),
    "llama resized, trained both": ("llama", BF16, [RESIZED_BOTH]),
    "llama resized, embedding": ("llama", BF16, [RESIZED_EMBEDDING]),
    "tied plain": ("llama tied", BF16, [PLAIN]),
    "tied embedding": ("llama tied", BF16, [EMBEDDING]),
    "tied embedding, saved": ("llama tied", BF16, [SAVED_EMBEDDING]),
    "tied output": ("llama tied", BF16, [OUTPUT]),
    "tied output and embedding": ("llama tied", BF16, [OUTPUT, EMBEDDING]),
    "tied trained embedding": ("llama tied", BF16, [TRAINED_EMBEDDING]),
    "tied trained output": ("llama tied", BF16, [TRAINED_OUTPUT]),
    "tied trained both": ("llama tied", BF16, [TRAINED_BOTH]),
    "tied trained embedding, kept tied": ("llama tied", BF16, [KEPT_TIED]),
    "tied token rows": ("llama tied", BF16, [TOKENS]),
    "tied token rows, resized": ("llama tied", BF16, [RESIZED_TOKENS]),
    "tied token rows of both": ("llama tied", FP16, [BOTH_TOKENS]),
    "tied resized, trained both": ("llama tied", BF16, [RESIZED_BOTH]),
    "tied resized": ("llama tied", BF16, [RESIZED]),
    "gemma plain": ("gemma", BF16, [PLAIN]),
    "gemma trained output": ("gemma", BF16, [TRAINED_OUTPUT]),
    "gemma DoRA": ("gemma", FP32, [DORA]),
    "qwen2 DoRA": ("qwen2", BF16, [DORA]),
    "qwen2 lora_bias": ("qwen2", FP16, [BIAS]),
    "mistral two": ("mistral", BF16, [PLAIN, Adapter({"target_modules": ATTENTION})]),
    "phi3 fused": ("phi3", BF16, [Adapter({"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]})]),
    "gpt2 Conv1D": ("gpt2", BF16, [CONV1D]),
    "gpt2 Conv1D, fp32": ("gpt2", FP32, [CONV1D]),
    "gpt2 Conv1D, DoRA": ("gpt2", BF16, [Adapter({**CONV1D.lora, "use_dora": True})]),
    "gpt2 Conv1D, lora_bias": ("gpt2", BF16, [Adapter({**CONV1D.lora, "lora_bias": True})]),
    "gpt2 embedding": ("gpt2", BF16, [Adapter({"target_modules": ["wte"]})]),
    "gpt2 trained output": ("gpt2", BF16, [Adapter({"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]})]),
    "mixtral attention": ("mixtral", BF16, [Adapter({"target_modules": ATTENTION})]),
    "mixtral experts": ("mixtral", BF16, [EXPERTS]),
    "mixtral router": ("mixtral", BF16, [ROUTER]),
    "qwen2 moe experts": ("qwen2 moe", BF16, [EXPERTS]),
    "qwen2 moe all": ("qwen2 moe", BF16, [ALL_LINEAR]),
    "qwen3 moe experts, fp32": ("qwen3 moe", FP32, [EXPERTS]),
    "qwen3 moe down_proj": ("qwen3 moe", BF16, [DOWN]),
    "gpt-oss experts": ("gpt-oss", BF16, [EXPERTS]),
    "granite moe experts": ("granite moe", BF16, [FUSED_EXPERTS]),
    "phimoe experts": ("phimoe", BF16, [FUSED_EXPERTS]),
    "phimoe router": ("phimoe", BF16, [Adapter({"target_modules": [], "target_parameters": ["router.weight"]})]),
    "gpt-neox output": ("gpt-neox", BF16, [Adapter({"target_modules": ["query_key_value", "lm_head"]})]),
    "nemotron-h": (
        "nemotron-h",
        BF16,
        [
            Adapter(
                {"target_modules": ["q_proj", "in_proj"], "target_parameters": ["experts.up_proj", "experts.down_proj"]}
            )
        ],
    ),
    "gemma3 language and vision": ("gemma3", BF16, [Adapter({"target_modules": ATTENTION})]),
    "llava": ("llava", BF16, [Adapter({"target_modules": ["q_proj", "fc1", "linear_1"]})]),
    "llama vision embedding": ("llama vision", BF16, [SAVED_EMBEDDING]),
    "llava trained output": ("llava", BF16, [TRAINED_OUTPUT]),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, torch.dtype], Path]:
    class Made(dict[tuple[str, torch.dtype], Path]):
        def __missing__(self, key: tuple[str, torch.dtype]) -> Path:
            self[key] = make_family(tmp_path_factory.mktemp("base"), *key)
            return self[key]

    return Made()


def same(found: Any, expected: Any) -> list[str]:
    """Returns what differs between two models."""
    ours, theirs = found.state_dict(), expected.state_dict()
    wrong = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        if ours[name].dtype != theirs[name].dtype or not torch.equal(ours[name], theirs[name]):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(("family", "dtype", "adapters"), CASES.values(), ids=CASES)
def test_a_merged_model_is_peft_s_bit_for_bit(
    family: str,
    dtype: torch.dtype,
    adapters: list[Adapter],
    bases: dict[tuple[str, torch.dtype], Path],
    tmp_path: Path,
    run: Run,
) -> None:
    base = bases[family, dtype]
    folders = [
        make_adapter(tmp_path / f"adapter-{number}", family, base, dtype, adapter, number)
        for number, adapter in enumerate(adapters)
    ]
    scales = [1.0, 0.3, -2.0][: len(adapters)]
    sources = [f"--adapter={path.as_uri()},scale={scale}" for path, scale in zip(folders, scales, strict=True)]
    report = run("merge", "--base", base.as_uri(), *sources, "--artifacts", Disk(tmp_path).artifacts)
    assert report.artifact, report.message
    expected = merged_by_peft(family, base, dtype, folders, scales, adapters[0].vocabulary)
    found = load(family, tmp_path / "artifacts" / report.artifact.key)
    assert same(found, expected) == []
    assert same(found, load(family, base)) != []
    assert found.config.tie_word_embeddings == expected.config.tie_word_embeddings
    assert found.config.get_text_config().vocab_size == expected.config.get_text_config().vocab_size


def test_adapters_of_single_experts_from_before_transformers_5_are_what_peft_makes_of_them(
    tmp_path: Path, run: Run
) -> None:
    for family, experts, parts in (
        ("mixtral", "block_sparse_moe", {"w1": (48, 32), "w3": (48, 32), "w2": (32, 48)}),
        ("qwen3 moe", "mlp", {"gate_proj": (24, 32), "up_proj": (24, 32), "down_proj": (32, 24)}),
    ):
        folder = tmp_path / family
        base = make_family(folder / "base", family, BF16)
        torch.manual_seed(3)
        tensors = {
            f"base_model.model.model.layers.{layer}.{experts}.experts.{expert}.{part}.lora_{side}.weight": torch.randn(
                shape
            )
            * 0.1
            for layer in range(2)
            for expert in range(4)
            for part, (outputs, inputs) in parts.items()
            for side, shape in (("A", (4, inputs)), ("B", (outputs, 4)))
        }
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 10, "target_modules": list(parts), "task_type": None}
        (folder / "adapter").mkdir()
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
        save_file(tensors, folder / "adapter" / "adapter_model.safetensors")
        found = merged(run, folder, base, [folder / "adapter"])
        expected = merged_by_peft(family, base, BF16, [folder / "adapter"], [1.0], None)
        assert same(load(family, found), expected) == [], family


def test_an_untied_or_resized_model_of_many_files_has_an_index_and_a_config_that_say_so(
    tmp_path: Path, run: Run
) -> None:
    base = make_family(tmp_path / "base", "gemma", BF16, shard="20KB")
    before = json.loads((base / INDEX_FILE).read_text())
    adapter = make_adapter(tmp_path / "adapter", "gemma", base, BF16, TRAINED_BOTH)
    out = merged(run, tmp_path, base, [adapter])
    index = json.loads((out / INDEX_FILE).read_text())
    held = {name: file.name for file in out.glob("*.safetensors") for name in load_file(file)}
    assert index["weight_map"] == held == before["weight_map"] | {"lm_head.weight": held["model.embed_tokens.weight"]}
    assert index["metadata"]["total_size"] == before["metadata"]["total_size"] + 64 * 32 * 2
    config, was = (json.loads((folder / "config.json").read_text()) for folder in (out, base))
    assert config == was | {"tie_word_embeddings": False}
    assert same(load("gemma", out), merged_by_peft("gemma", base, BF16, [adapter], [1.0], None)) == []
    resized = make_adapter(tmp_path / "resized", "gemma", base, BF16, RESIZED)
    out = merged(run, tmp_path / "2", base, [resized])
    assert json.loads((out / "config.json").read_text()) == was | {"vocab_size": 70}
    assert json.loads((out / INDEX_FILE).read_text())["weight_map"] == before["weight_map"]
    assert same(load("gemma", out), merged_by_peft("gemma", base, BF16, [resized], [1.0], 70)) == []


def test_a_qlora_adapter_can_be_added_to_what_four_bits_leave_of_the_base(tmp_path: Path, run: Run) -> None:
    base = make_family(tmp_path / "base", "wide llama", BF16)
    adapter = make_adapter(tmp_path / "adapter", "wide llama", base, BF16, Adapter({"target_modules": LINEAR}))
    full = merged(run, tmp_path, base, [adapter])
    assert json.loads((full / "manifest.json").read_text())["quantizedBase"] == "FullPrecision"
    quantized = merged(run, tmp_path, base, [adapter], "--quantized-base", "NF4RoundTrip")
    assert quantized != full
    assert json.loads((quantized / "manifest.json").read_text())["quantizedBase"] == "NF4RoundTrip"
    rounded = tmp_path / "rounded"
    shutil.copytree(base, rounded)
    tensors = load_file(base / "model.safetensors")
    for name, weight in tensors.items():
        if "proj.weight" in name:
            blocks = weight.float().view(-1, 64)
            largest = blocks.abs().amax(1, keepdim=True)
            nearest = (blocks[..., None] / largest[..., None] - LEVELS).abs().argmin(-1)
            tensors[name] = (LEVELS[nearest] * largest).view(weight.shape).to(weight.dtype)
    save_file(tensors, rounded / "model.safetensors", {"format": "pt"})
    expected = merged_by_peft("wide llama", rounded, BF16, [adapter], [1.0], None)
    assert same(load("wide llama", quantized), expected) == []
    narrow = make_family(tmp_path / "narrow", "llama", BF16)
    adapter = make_adapter(tmp_path / "narrow-adapter", "llama", narrow, BF16, PLAIN)
    sources = "--base", narrow.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(tmp_path).artifacts
    report = run("merge", *sources, "--quantized-base", "NF4RoundTrip")
    assert report.reason == "UnsupportedBase"
    assert "has 48 columns, not a multiple of 64, so NF4RoundTrip" in report.message


@pytest.mark.parametrize(
    ("dtype", "number", "of_base", "sentence"),
    [
        (
            FP16,
            1e4,
            False,
            'tensor "model.layers.1.mlp.up_proj.weight" would hold NaN or infinity after the merge in F16',
        ),
        (BF16, float("nan"), False, '{adapter}/adapter_model.safetensors tensor "{a}" holds NaN or infinity: use an'),
        (BF16, float("inf"), True, '{base}/model.safetensors tensor "model.layers.1.mlp.up_proj.weight" holds NaN or'),
    ],
)
def test_a_result_that_is_not_finite_is_refused_by_the_name_of_what_makes_it_so(
    tmp_path: Path, run: Run, dtype: torch.dtype, number: float, of_base: bool, sentence: str
) -> None:
    base = make_family(tmp_path / "base", "llama", dtype)
    adapter = make_adapter(tmp_path / "adapter", "llama", base, dtype, PLAIN)
    a, b = (f"base_model.model.model.layers.1.mlp.up_proj.lora_{part}.weight" for part in "AB")
    file = base / "model.safetensors" if of_base else adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    if of_base:
        tensors["model.layers.1.mlp.up_proj.weight"][7, 2] = number
    else:
        tensors[a][2], tensors[b][7, 2] = number, 10
    save_file(tensors, file, {"format": "pt"})
    sources = "--base", base.as_uri(), "--adapter", adapter.as_uri(), "--artifacts", Disk(tmp_path).artifacts
    report = run("merge", *sources)
    assert report.reason == ("UnsupportedBase" if of_base else "UnsupportedAdapter")
    assert report.message.startswith(sentence.format(adapter=adapter.as_uri(), base=base.as_uri(), a=a))
    assert not list((tmp_path / "artifacts").rglob("*.safetensors"))


def test_kernels_that_see_chunks_of_rows_give_what_they_give_for_whole_matrices(tmp_path: Path, run: Run) -> None:
    for family, adapter in (
        (
            "large llama",
            Adapter({"target_modules": ["q_proj", "down_proj", "embed_tokens"], "use_dora": True, "r": 16}),
        ),
        ("large gpt2", Adapter({"target_modules": ["c_attn", "wte"], "r": 16})),
    ):
        folder = tmp_path / family
        base = make_family(folder / "base", family, FP32)
        made = make_adapter(folder / "adapter", family, base, FP32, adapter)
        expected = merged_by_peft(family, base, FP32, [made], [1.0], None)
        assert same(load(family, merged(run, folder, base, [made])), expected) == []


COMBINED = st.fixed_dictionaries(
    {
        "target_modules": st.sets(st.sampled_from([*LINEAR, "embed_tokens", "lm_head"]), min_size=1).map(sorted),
        "r": st.integers(1, 9),
        "lora_alpha": st.integers(1, 40),
        "use_rslora": st.booleans(),
        "use_dora": st.booleans(),
        "lora_bias": st.booleans(),
        "rank_pattern": st.dictionaries(
            st.sampled_from(["q_proj", r"layers\.1\..*", "mlp.up_proj"]), st.integers(1, 5), max_size=2
        ),
        "layers_to_transform": st.sampled_from([None, [0], [0, 1]]),
        "modules_to_save": st.sampled_from([None, ["norm"], ["input_layernorm", "norm"]]),
    }
)


@given(
    family=st.sampled_from(["llama", "llama tied", "qwen2"]),
    dtype=st.sampled_from([BF16, FP16, FP32]),
    configs=st.lists(COMBINED, min_size=1, max_size=2),
)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_merged_is_what_peft_merges(
    family: str,
    dtype: torch.dtype,
    configs: list[dict[str, Any]],
    bases: dict[tuple[str, torch.dtype], Path],
    tmp_path_factory: pytest.TempPathFactory,
    run: Run,
) -> None:
    folder, base = tmp_path_factory.mktemp("made"), bases[family, dtype]
    made: list[Path] = []
    for number, config in enumerate(configs):
        try:
            made.append(make_adapter(folder / str(number), family, base, dtype, Adapter(config), number))
            expected = merged_by_peft(family, base, dtype, made, [1.0, 0.5][: len(made)], None)
        except (ValueError, RuntimeError):
            assume(False)
    sources = [f"--adapter={path.as_uri()},scale={scale}" for path, scale in zip(made, [1.0, 0.5], strict=False)]
    report = run("merge", "--base", base.as_uri(), *sources, "--artifacts", Disk(folder).artifacts)
    if report.artifact is None:
        assert report.reason in ("UnsupportedAdapter", "AdapterMismatch")
        event(report.message.rpartition(": ")[2])
        return
    event("merged")
    assert same(load(family, folder / "artifacts" / report.artifact.key), expected) == []


def merged(run: Run, folder: Path, base: Path, adapters: list[Path], *options: str) -> Path:
    """The folder of the merged model."""
    sources = [f"--adapter={path.as_uri()}" for path in adapters]
    report = run("merge", "--base", base.as_uri(), *sources, "--artifacts", Disk(folder).artifacts, *options)
    assert report.artifact, report.message
    return folder / "artifacts" / report.artifact.key
