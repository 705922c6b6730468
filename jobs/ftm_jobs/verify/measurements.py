"""Everything that a verification measures, in order: answers, logits, tokens and configs. No bound is known here."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftm_jobs.checkpoint.configs import parse_json
from ftm_jobs.checkpoint.source_files import copy_companions
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.text.calibration import CalibrationText
from ftm_jobs.text.chat_template import load_template
from ftm_jobs.text.prompts import Question, TokenizedQuestion, TokenizedText, ask, held_out
from ftm_jobs.verify.figures import config_parity, tokenizer_parity
from ftm_jobs.verify.figures.difference import Difference
from ftm_jobs.verify.figures.divergence import Divergence, total
from ftm_jobs.verify.model_folder import ModelFolder
from ftm_jobs.verify.models import groups as subjects
from ftm_jobs.verify.models.answers import MOST_TOKENS, Answer, answer
from ftm_jobs.verify.models.groups import ADAPTED, BASE, COARSE, MERGED, PLAIN, QUANTIZED, ModelGroup
from ftm_jobs.verify.models.hf_tokenizer import HfTokenizer
from ftm_jobs.verify.models.layerwise import Logits, compare
from ftm_jobs.verify.tensors.merged_weights import MergedWeights
from ftm_jobs.verify.tensors.sources import StoredTensors

GENERATION_CONFIG = "generation_config.json"
PAIRS = ((ADAPTED, BASE), (ADAPTED, COARSE), (ADAPTED, MERGED), (MERGED, PLAIN), (MERGED, QUANTIZED))
"""Reference and other."""


@dataclass(frozen=True)
class Comparison:
    reference: str
    other: str
    texts: Sequence[Divergence]
    """One for each text that was measured."""

    @property
    def total(self) -> Divergence:
        return total(self.texts)


@dataclass
class VerificationMeasurements:
    texts: list[TokenizedText]
    """Hold-out first, then each question with base+adapter's answer."""
    asked: list[TokenizedQuestion]
    tokenizer: HfTokenizer
    comparisons: dict[tuple[str, str], Comparison] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """By model, in the questions' order."""
    config: list[Difference] = field(default_factory=list)
    tokens: list[Difference] = field(default_factory=list)
    weights: list[Difference] = field(default_factory=list)
    compared: int = 0
    """Tensors of the merged model."""
    tricky: int = 0
    """Texts that both tokenizers wrote."""
    yardstick: str = ""
    engine: str = "transformers, layer by layer, fp32"
    """What ran the quantized model."""
    notes: list[str] = field(default_factory=list)

    def kl(self, reference: str, other: str) -> float:
        return self.comparisons[reference, other].total.kl


@dataclass(frozen=True)
class Task:
    inputs: Inputs
    merged: ModelFolder
    quantized: ModelFolder | None
    calibration: CalibrationText
    questions: Sequence[Question]
    tokens: int
    """Of hold-out text, at most."""
    scratch: Path
    gguf: Path | None = None
    """The quantized model's GGUF file, if it is that."""


def measure(task: Task) -> VerificationMeasurements:
    """Raises InvalidInput and Failed."""
    tokenizer = HfTokenizer(task.merged.local)
    template = load_template(task.merged.local)
    asked = ask(task.questions, tokenizer, template)
    measured = VerificationMeasurements(held_out(task.calibration, tokenizer, template, task.tokens), asked, tokenizer)
    _compare_files(task, measured)
    assert task.merged.tensors
    weights = MergedWeights(task.merged.tensors)
    base, merged = _base(task, measured, weights), subjects.of_merged(task.merged)
    groups = [base, merged]
    if task.quantized:
        if gguf := task.gguf:
            measured.yardstick, types = subjects.add_gguf(task.merged, merged, gguf)
            measured.engine = "llama.cpp"
            measured.notes.append(f"the GGUF file's tensors are {types}")
        else:
            group, measured.yardstick = subjects.add_awq(task.merged, merged, task.quantized)
            groups.append(group)
    ends = _ends(task.merged.local, tokenizer)
    _answer(groups, asked, ends, measured)
    for question, given in zip(asked, measured.answers.get(ADAPTED, []), strict=True):
        measured.texts.append(TokenizedText(question.question.prompt, (*question.tokens, *given.tokens)))
    _compare_models(groups, task.gguf, asked, ends, measured)
    coarse = base.models[COARSE].source
    for name in weights.unseen(coarse.names):
        coarse.read(name)  # what no text runs through: encoders of images, layers beyond the decoder
    measured.weights, measured.compared = weights.differences(), weights.compared
    for group in groups:
        group.shared.close()
    return measured


def _base(task: Task, measured: VerificationMeasurements, weights: MergedWeights) -> ModelGroup:
    base = task.inputs.base
    plain, edited = task.scratch / "base", task.scratch / "adapted"
    for folder in (plain, edited):
        copy_companions(base.store, base.stats.values(), folder)
    stored = StoredTensors(base.store, base.headers)
    for name, content in task.inputs.output.documents.items():
        (edited / name).write_bytes(content)
    group, adapters, apart = subjects.of_base(task.inputs, stored, plain, edited, weights.see)
    shared = len(adapters.changed) - len(apart)
    if shared:
        measured.notes.append(
            f"{shared} of {len(adapters.changed)} changed tensors are no plain LoRA on a Linear layer: base+adapter "
            "was computed there with the merge's own formulae, in fp32"
        )
    return group


def _answer(
    groups: Sequence[ModelGroup], asked: Sequence[TokenizedQuestion], ends: set[int], measured: VerificationMeasurements
) -> None:
    measured.answers[ADAPTED] = []
    if not asked:
        return
    for group in groups:
        for name in (BASE, ADAPTED, MERGED, QUANTIZED):
            if name in group.models:
                measured.answers[name], whole = subjects.answers_of(group.models[name], group.shared, asked, ends)
                if not whole:
                    measured.notes.append(
                        f"{name} does not fit memory: its answers were computed layer by layer and cut after "
                        f"{max(len(each.tokens) for each in measured.answers[name])} tokens"
                    )


def _compare_models(
    groups: Sequence[ModelGroup],
    gguf: Path | None,
    asked: Sequence[TokenizedQuestion],
    ends: set[int],
    measured: VerificationMeasurements,
) -> None:
    prompts = [text.tokens for text in measured.texts]
    progress = Progress("verify", sum(group.total_bytes for group in groups))
    logits: dict[str, Logits] = {}
    for group in groups:
        logits |= group.run(prompts, progress.add)
    with ExitStack() as stack:
        if gguf:
            model = stack.enter_context(
                subjects.gguf_logits(gguf, [*prompts, *(each.tokens for each in asked)], MOST_TOKENS)
            )
            logits[QUANTIZED] = model
            if asked:
                measured.answers[QUANTIZED] = answer(model, asked, ends)
        for reference, other in PAIRS:
            if reference in logits and other in logits:
                found = compare(logits[reference], logits[other])
                measured.comparisons[reference, other] = Comparison(reference, other, found)
    progress.close()


def _compare_files(task: Task, measured: VerificationMeasurements) -> None:
    """Configs and tokenizers: of the merged model against the base's, of the quantized one against the merged's."""
    expected = dict(task.inputs.base.config.content) | _document(task.inputs.output.documents.get("config.json"))
    measured.config = config_parity.differences(expected, task.merged.config, "merged config.json")
    if task.quantized is None:
        return
    texts = [*tokenizer_parity.TRICKY, *_rendered(task), *(question.prompt for question in task.questions)]
    spellings = set(measured.tokenizer.special_spellings)
    if task.gguf:
        from ftm_jobs.verify.models.gguf import GgufTokenizer

        serving = GgufTokenizer(task.gguf)
        _compare_tokenizers(measured, serving, texts, spellings)
        serving.close()
        return
    measured.config += config_parity.differences(task.merged.config, task.quantized.config, "quantized config.json")
    measured.config += _generation_differences(task.merged.local, task.quantized.local)
    other = HfTokenizer(task.quantized.local)
    _compare_tokenizers(measured, other, texts, spellings | set(other.special_spellings))


def _compare_tokenizers(
    measured: VerificationMeasurements, serving: tokenizer_parity.Tokenizer, texts: Sequence[str], spellings: set[str]
) -> None:
    measured.tricky = len(texts) + 2 * len(spellings)
    measured.tokens = tokenizer_parity.differences(measured.tokenizer, serving, texts, sorted(spellings))
    rare = [text for text in tokenizer_parity.EXOTIC if measured.tokenizer.encode(text) != serving.encode(text)]
    if rare:
        measured.notes.append(
            f"the two tokenizers write {len(rare)} of {len(tokenizer_parity.EXOTIC)} texts of rare characters "
            f"differently: {', '.join(map(repr, rare))}"
        )


def _rendered(task: Task) -> list[str]:
    """Conversations as the chat template writes them, special tokens and all."""
    template = load_template(task.merged.local)
    if template is None:
        return []
    told = [sample.messages for sample in task.calibration.samples if sample.messages][:8]
    return [template.render(messages, add_generation_prompt=True) for messages in told]


def _generation_differences(merged: Path, quantized: Path) -> list[Difference]:
    pair = [
        _document((folder / GENERATION_CONFIG).read_bytes()) if (folder / GENERATION_CONFIG).is_file() else {}
        for folder in (merged, quantized)
    ]
    kept = [{name: value for name, value in each.items() if name.endswith("_token_id")} for each in pair]
    return config_parity.differences(kept[0], kept[1], f"quantized {GENERATION_CONFIG}")


def _ends(folder: Path, tokenizer: HfTokenizer) -> set[int]:
    """Tokens that end an answer."""
    path = folder / GENERATION_CONFIG
    named: Any = _document(path.read_bytes()).get("eos_token_id") if path.is_file() else None
    found = set(named) if isinstance(named, list) else {named}
    return {token for token in (*found, tokenizer.special["eos_token"]) if isinstance(token, int)}


def _document(content: bytes | None) -> dict[str, Any]:
    return parse_json("config.json", content) if content else {}
