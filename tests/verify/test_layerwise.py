"""Layer by layer from disk, a model says what transformers says of it whole: families with all their oddities."""

from pathlib import Path

import pytest
import torch

from ftm_jobs.verify.models.layerwise import LayerwiseModel, run
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.sources import SharedTensors
from tests.models.families import make_family
from tests.verify.models import stored, whole_model

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 60], [1, 3], [4], list(range(3, 30))]

FAMILIES = (
    *("llama", "llama tied", "qwen2", "mistral", "gemma", "gpt2", "phi3", "mixtral", "qwen2 moe", "qwen3 moe"),
    *("gpt-oss", "llava"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_whole_model(tmp_path: Path, family: str) -> None:
    folder = make_family(tmp_path, family, torch.bfloat16)
    shared = SharedTensors(stored(folder))
    model = LayerwiseModel(Skeleton(folder, shared.names), shared)
    run([model], PROMPTS, shared)
    whole = whole_model(family, folder)
    with model.ready(), torch.no_grad():
        for number, tokens in enumerate(PROMPTS):
            wanted = whole(input_ids=torch.tensor([tokens])).logits[0]
            parts = [model.of(number, at, min(3, len(tokens) - at)) for at in range(0, len(tokens), 3)]
            torch.testing.assert_close(torch.cat(parts), wanted, rtol=1e-5, atol=1e-5)
    assert all(parameter.is_meta for parameter in model.skeleton.model.parameters())
