"""base+adapter, layer by layer and unrounded, is what PEFT computes unmerged in fp32."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from ftm_jobs.contract.keys import QuantizedBase
from ftm_jobs.merge.artifact import merge
from ftm_jobs.stores import open_artifacts
from ftm_jobs.stores.source import parse_source
from ftm_jobs.verify.figures.divergence import Divergence, total
from ftm_jobs.verify.figures.model_names import ADAPTED, BASE, COARSE, MERGED
from ftm_jobs.verify.model_folder import open_model_folder
from ftm_jobs.verify.models.groups import base_group, merged_group
from ftm_jobs.verify.models.layerwise import LayerwiseModel, compare, run
from ftm_jobs.verify.tensors.merged_weights import MergedWeights
from tests.models.families import Adapter, load, make_adapter, make_family
from tests.verify.models import inputs_of, stored

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 60], list(range(3, 30))]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, tuple[str, list[Adapter], int]] = {
    "plain": ("llama", [Adapter({"target_modules": LINEAR})], 0),
    "two, rsLoRA": ("qwen2", [Adapter({"target_modules": LINEAR, "use_rslora": True})] * 2, 0),
    "patterns": ("mistral", [Adapter({"target_modules": LINEAR, "rank_pattern": {"q_proj": 2}})], 0),
    "fused layers": ("phi3", [Adapter({"target_modules": "all-linear"})], 0),
    "DoRA": ("llama", [Adapter({"target_modules": ["q_proj"], "use_dora": True})], 2),
    "output layer": ("llama", [Adapter({"target_modules": ["lm_head", "q_proj"]})], 1),
    "trained output layer": (
        "llama tied",
        [Adapter({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]})],
        1,
    ),
    "embedding": (
        "llama",
        [Adapter({"target_modules": ["embed_tokens", "q_proj"]}, save={"save_embedding_layers": False})],
        1,
    ),
    "Conv1D": ("gpt2", [Adapter({"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True})], 8),
    "bias": ("llama", [Adapter({"target_modules": ["q_proj"], "lora_bias": True})], 2),
    "experts": (
        "mixtral",
        [Adapter({"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj"]})],
        16,
    ),
    "vision and language": ("llava", [Adapter({"target_modules": r".*language_model.*\.(q_proj|v_proj)"})], 0),
}


def by_peft(family: str, base: Path, adapters: list[Path]) -> Any:
    names = [f"adapter{number}" for number in range(len(adapters))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = PeftModel.from_pretrained(load(family, base).float(), adapters[0], adapter_name=names[0])
        for name, folder in zip(names[1:], adapters[1:], strict=True):
            model.load_adapter(folder, adapter_name=name)
        model.base_model.set_adapter(names)
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_base_with_adapters_is_as_peft_computes_it(tmp_path: Path, case: str) -> None:
    family, kinds, through_merge = CASES[case]
    base = make_family(tmp_path / "base", family, torch.bfloat16)
    adapters = [
        make_adapter(tmp_path / f"adapter{number}", family, base, torch.bfloat16, kind, seed=number)
        for number, kind in enumerate(kinds)
    ]
    adapted = base_group(inputs_of(base, adapters), stored(base), base, _edited(tmp_path, base, adapters))
    assert adapted.through_merge == through_merge
    group = adapted.group
    run([group.models[name] for name in (BASE, ADAPTED, COARSE)], PROMPTS, group.shared)
    peft = by_peft(family, base, adapters)
    effect, rounding = Divergence(), Divergence()
    for number, tokens in enumerate(PROMPTS):
        found = {name: logits(model, number) for name, model in group.models.items()}
        with torch.no_grad():
            wanted = peft(input_ids=torch.tensor([tokens])).logits[0]
        torch.testing.assert_close(found[ADAPTED], wanted, rtol=1e-4, atol=1e-4)
        effect.add(found[ADAPTED], found[BASE])
        rounding.add(found[ADAPTED], found[COARSE])
    assert effect.kl > rounding.kl > 0


def test_a_quantized_base_is_rounded_before_it_is_adapted(tmp_path: Path) -> None:
    base = make_family(tmp_path / "base", "wide llama", torch.bfloat16)
    adapter = make_adapter(tmp_path / "adapter", "wide llama", base, torch.bfloat16, CASES["plain"][1][0])
    found = []
    for kind in QuantizedBase:
        group = base_group(inputs_of(base, [adapter], kind), stored(base), base, base).group
        run([group.models[ADAPTED]], PROMPTS, group.shared)
        found.append(logits(group.models[ADAPTED], 0))
    assert (found[0] - found[1]).abs().max() > 0.01


def logits(model: LayerwiseModel, prompt: int) -> torch.Tensor:
    with model.ready():
        return model.of(prompt, 0, len(PROMPTS[prompt]))


def _edited(tmp_path: Path, base: Path, adapters: list[Path]) -> Path:
    """config.json as the adapters change it."""
    folder = tmp_path / "edited"
    folder.mkdir()
    documents = inputs_of(base, adapters).output.documents
    (folder / "config.json").write_bytes(documents.get("config.json") or (base / "config.json").read_bytes())
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3])
def test_a_merge_is_closer_than_its_bound_in_every_dtype(tmp_path: Path, dtype: torch.dtype, count: int) -> None:
    base = make_family(tmp_path / "base", "wide llama", dtype)
    kind = CASES["plain"][1][0]
    adapters = [make_adapter(tmp_path / f"{at}", "wide llama", base, dtype, kind, seed=at) for at in range(count)]
    report = merge(inputs_of(base, adapters), open_artifacts(parse_source((tmp_path / "store").as_uri())))
    assert report.artifact
    weights = MergedWeights(stored(tmp_path / "store" / report.artifact.key))
    group = base_group(inputs_of(base, adapters), stored(base), base, base, weights.see).group
    run(list(group.models.values()), PROMPTS, group.shared)
    merged = merged_group(open_model_folder(parse_source(report.artifact.uri), tmp_path / "small"))
    run(list(merged.models.values()), PROMPTS, merged.shared)
    found = total(compare(group.models[ADAPTED], merged.models[MERGED])).kl
    bound = total(compare(group.models[ADAPTED], group.models[COARSE])).kl
    effect = total(compare(group.models[ADAPTED], group.models[BASE])).kl
    assert found <= bound < effect / 100
    assert not weights.differences()
