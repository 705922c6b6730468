"""However a model is run, whole, layer by layer or in pieces, it says the same; and stores are all alike."""

from pathlib import Path
from typing import NoReturn

import pytest
import torch

from ftm_jobs.errors import Failed, Reason
from ftm_jobs.text.prompts import Question, TokenizedQuestion
from ftm_jobs.verify.models import groups
from ftm_jobs.verify.models.answers import answer_layerwise
from ftm_jobs.verify.models.groups import ModelGroup
from ftm_jobs.verify.models.layerwise import LayerwiseModel, NotStreamable
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.sources import SharedTensors
from tests.models.families import make_family
from tests.places import S3
from tests.verify.conftest import Merged, Run
from tests.verify.models import stored
from tests.verify.test_traps import failed

PROMPTS = [[5, 6, 7, 8], [9, 10, 11]]


@pytest.fixture
def group(tmp_path: Path) -> ModelGroup:
    folder = make_family(tmp_path, "llama", torch.bfloat16)
    tensors = stored(folder)
    shared = SharedTensors(tensors)
    return ModelGroup(tensors, shared, {"merged": LayerwiseModel(Skeleton(folder, shared.names), shared)})


def test_a_model_that_does_not_fit_memory_answers_the_same(group: ModelGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [TokenizedQuestion(Question("?"), tuple(tokens)) for tokens in PROMPTS]
    model = group.models["merged"]
    whole, was_whole = groups.answers_of(model, group.shared, asked, set())
    layerwise = answer_layerwise(model, group.shared, asked, set(), 6)
    assert was_whole
    assert [each.tokens for each in layerwise] == [each.tokens[:6] for each in whole]
    monkeypatch.setattr(groups, "free_memory", lambda: 0)
    cut, was_whole = groups.answers_of(model, group.shared, asked, set())
    assert not was_whole
    assert [each.tokens for each in cut] == [each.tokens[: len(cut[0].tokens)] for each in whole]


def test_a_family_that_cannot_be_streamed_is_run_whole_if_it_fits(
    group: ModelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = _logits(group)

    def refuse(*_: object) -> NoReturn:
        raise NotStreamable(Reason.OUT_OF_MEMORY, "it computes between its layers")

    monkeypatch.setattr(groups, "run", refuse)
    torch.testing.assert_close(_logits(group), streamed, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(groups, "free_memory", lambda: 1000)
    with pytest.raises(Failed, match=r"computes between its layers, which takes .* but 1.0 kB are free: end other"):
        group.run(PROMPTS, lambda _: None)


def _logits(group: ModelGroup) -> torch.Tensor:
    found = group.run(PROMPTS, lambda _: None)["merged"]
    with found.ready():
        return torch.cat([found.of(number, 1, len(tokens) - 1) for number, tokens in enumerate(PROMPTS)])


def test_models_are_read_and_reports_are_written_in_s3(s3: S3, run: Run, small: Merged) -> None:
    report = run(
        *("verify", "--base", s3.upload(small.assets.base), "--adapter", s3.upload(small.assets.adapter)),
        *("--model", s3.upload(small.model), "--artifacts", s3.artifacts, "--tokens", "40"),
    )
    assert not failed(report)
    assert report.artifact
    written = {path.rpartition("/")[2] for path in s3.built()}
    assert written == {"manifest.json", "reference.json", "report.html", "verification.json"}


def test_a_model_that_computes_between_its_layers_is_noticed(
    group: ModelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = group.models["merged"]
    decoder = model.skeleton.decoder

    def forward(input_ids: torch.Tensor, **_: object) -> None:
        hidden = decoder.embed_tokens(input_ids)
        for layer in decoder.layers:
            hidden = layer(hidden) * 2

    monkeypatch.setattr(decoder, "forward", forward)
    with pytest.raises(NotStreamable, match="LlamaForCausalLM computes between its decoder layers"):
        model.begin(PROMPTS)
