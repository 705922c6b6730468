"""Calibration text becomes blocks of one length; nothing is discarded, and what is wrong is said."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.text.token_blocks import token_blocks
from ftm_jobs.text.tokenizer import encode, load_tokenizer

WORDS = 300
BEGIN = WORDS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of the words w0 … w299, which begins every text with <s>."""
    folder = tmp_path_factory.mktemp("model")
    vocabulary = {**{f"w{number}": number for number in range(WORDS)}, "<s>": BEGIN}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"vocab_size": WORDS + 1}))
    return folder


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{(first + number) % WORDS}" for number in range(count))


def test_long_samples_are_spread_over_blocks_and_not_discarded(model: Path) -> None:
    blocks = token_blocks(model, [words(250), words(260)], 128, 128)
    assert [len(block) for block in blocks] == [128] * 4
    assert blocks[0][:3] == [BEGIN, 0, 1]
    assert blocks[1][:3] == [127, 128, 129]


@given(st.lists(st.integers(1, 400), min_size=4, max_size=30), st.integers(16, 200), st.integers(1, 40))
def test_all_blocks_have_one_length_and_next_to_all_tokens_are_in_them(
    model: Path, sizes: list[int], length: int, most: int
) -> None:
    total = sum(size + 1 for size in sizes)
    samples = [words(size) for size in sizes]
    if total < 128:
        with pytest.raises(InvalidInput, match="at least 128 are needed"):
            token_blocks(model, samples, length, most)
        return
    blocks = token_blocks(model, samples, length, most)
    found = {len(block) for block in blocks}
    assert len(found) == 1
    assert 1 <= len(blocks) <= most
    assert max(found) <= length
    assert sum(map(len, blocks)) > min(total, most * length) - len(blocks)


def test_of_too_much_text_samples_from_all_over_are_taken(model: Path) -> None:
    blocks = token_blocks(model, [words(9, first=10 * number) for number in range(30)], 10, 15)
    begun = [block[1] for block in blocks if block[0] == BEGIN]
    assert len(blocks) == 15
    assert min(begun) < 30
    assert max(begun) > 250


def test_a_template_that_wrote_the_first_token_gets_no_second_one(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    assert encode(tokenizer, "<s> w5 w6") == encode(tokenizer, "w5 w6") == [BEGIN, 5, 6]


def test_a_tokenizer_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 200}))
    with pytest.raises(InvalidInput, match=r"has token 300, but config\.json's vocab_size is 200") as refused:
        token_blocks(tmp_path, [words(200)], 128, 8)
    assert refused.value.reason == Reason.INVALID_CONFIG


def test_a_missing_or_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the model has no tokenizer\.json: load its tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)
