"""Compares configs and tokenizers: merged with base, quantized with merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftm_jobs.checkpoint.configs import CONFIG_FILE, parse_json
from ftm_jobs.checkpoint.source_files import copy_companions
from ftm_jobs.companions.tokenizer_files import is_tokenizer_file
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.text.chat_template import ChatTemplate
from ftm_jobs.verify.figures import config_parity, tokenizer_parity
from ftm_jobs.verify.figures.difference import Difference
from ftm_jobs.verify.measurements.task import VerificationTask
from ftm_jobs.verify.models.hf_tokenizer import HfTokenizer

GENERATION_CONFIG = "generation_config.json"
CONVERSATIONS = 8
"""Conversations of the calibration text that both tokenizers write."""


@dataclass(frozen=True)
class TokenizerComparison:
    """The differences of two tokenizers on the same texts."""

    differences: tuple[Difference, ...] = ()
    texts: int = 0
    """Texts that both wrote."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileComparison:
    """The differences of configs and tokenizers."""

    config: tuple[Difference, ...]
    tokenizer: TokenizerComparison = TokenizerComparison()
    merged_tokenizer: tuple[Difference, ...] = ()
    """The differences of the merged model's tokenizer to the one that was trained with."""


def write_expected_files(inputs: Inputs, folder: Path) -> None:
    """Fills a folder with the files that the merged model must have beside its weights. Raises as copying does."""
    for store, stat in inputs.copied:
        copy_companions(store, [stat], folder)
    for path, content in inputs.output.documents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def compare_files(
    task: VerificationTask, tokenizer: HfTokenizer, template: ChatTemplate | None, wanted: Path
) -> FileComparison:
    """Returns how files differ.

    `tokenizer` and `template` are the merged model's, `wanted` holds the files that it must have.
    """
    changed = task.inputs.output.documents.get(CONFIG_FILE)
    expected = {**task.inputs.base.config.content, **(parse_json(CONFIG_FILE, changed) if changed else {})}
    config = config_parity.differences(expected, task.merged.config, "merged config.json")
    texts = [
        *tokenizer_parity.TRICKY,
        *_conversations(task, template),
        *(question.prompt for question in task.questions),
    ]
    spellings = set(tokenizer.special_spellings)
    merged = _merged_differences(wanted, task.merged.local, tokenizer, texts)
    if task.quantized is None:
        return FileComparison(tuple(config), merged_tokenizer=merged)
    if task.gguf:
        from ftm_jobs.verify.models.gguf import GgufTokenizer

        serving = GgufTokenizer(task.gguf)
        compared = _compare_tokenizers(tokenizer, serving, texts, spellings)
        serving.close()
        return FileComparison(tuple(config), compared, merged)
    config += config_parity.differences(task.merged.config, task.quantized.config, "quantized config.json")
    config += _generation_differences(task.merged.local, task.quantized.local)
    other = HfTokenizer(task.quantized.local)
    spellings |= set(other.special_spellings)
    return FileComparison(tuple(config), _compare_tokenizers(tokenizer, other, texts, spellings), merged)


def ends_of_answers(folder: Path, tokenizer: HfTokenizer) -> frozenset[int]:
    """Returns the tokens that end an answer."""
    named: Any = _generation_config(folder).get("eos_token_id")
    tokens = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*tokens, tokenizer.special["eos_token"]) if isinstance(token, int))


def _merged_differences(
    expected: Path, merged: Path, tokenizer: HfTokenizer, texts: Sequence[str]
) -> tuple[Difference, ...]:
    """Returns how the merged model's tokenizer differs from the expected one; equal files are not loaded again."""
    if _tokenizer_files(expected) == _tokenizer_files(merged):
        return ()
    trained = HfTokenizer(expected)
    spellings = sorted({*trained.special_spellings, *tokenizer.special_spellings})
    return tuple(tokenizer_parity.differences(trained, tokenizer, texts, spellings))


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if is_tokenizer_file(name)}


def _compare_tokenizers(
    trained: tokenizer_parity.Tokenizer,
    serving: tokenizer_parity.Tokenizer,
    texts: Sequence[str],
    spellings: set[str],
) -> TokenizerComparison:
    differences = tokenizer_parity.differences(trained, serving, texts, sorted(spellings))
    rare = [text for text in tokenizer_parity.EXOTIC if trained.encode(text) != serving.encode(text)]
    note = (
        f"the two tokenizers write {len(rare)} of {len(tokenizer_parity.EXOTIC)} texts of rare characters "
        f"differently: {', '.join(map(repr, rare))}"
    )
    return TokenizerComparison(tuple(differences), len(texts) + 2 * len(spellings), (note,) if rare else ())


def _conversations(task: VerificationTask, template: ChatTemplate | None) -> list[str]:
    """Returns conversations as the chat template writes them, special tokens and all."""
    if template is None:
        return []
    conversations = [sample.messages for sample in task.calibration.samples if sample.messages]
    return [template.render(messages, add_generation_prompt=True) for messages in conversations[:CONVERSATIONS]]


def _generation_differences(merged: Path, quantized: Path) -> list[Difference]:
    before, after = (
        {name: value for name, value in _generation_config(folder).items() if name.endswith("_token_id")}
        for folder in (merged, quantized)
    )
    return config_parity.differences(before, after, f"quantized {GENERATION_CONFIG}")


def _generation_config(folder: Path) -> Mapping[str, Any]:
    """Returns the file's content; empty where there is none."""
    path = folder / GENERATION_CONFIG
    return parse_json(GENERATION_CONFIG, path.read_bytes()) if path.is_file() else {}
