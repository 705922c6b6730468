"""Measures a merged model, and a quantized one, against base+adapter: answers first, then logits and weights."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.checkpoint.source_files import copy_companions
from ftm_jobs.contract.verification import ReferenceText, ServedReference
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.text.chat_template import load_template
from ftm_jobs.text.prompts import TokenizedQuestion, TokenizedText, held_out, tokenize_questions
from ftm_jobs.verify.figures.difference import Difference
from ftm_jobs.verify.figures.divergence import Divergence, total
from ftm_jobs.verify.figures.model_names import ADAPTED, BASE, COARSE, MERGED, PAIRS, QUANTIZED
from ftm_jobs.verify.measurements.files import FileComparison, compare_files, ends_of_answers, write_expected_files
from ftm_jobs.verify.measurements.reference import reference_texts, served_reference
from ftm_jobs.verify.measurements.task import VerificationTask
from ftm_jobs.verify.models.answers import MOST_TOKENS, Answer, answer
from ftm_jobs.verify.models.groups import (
    OWN_ENGINE,
    BaseGroup,
    ModelGroup,
    QuantizedGroups,
    answers_of,
    awq_groups,
    base_group,
    gguf_groups,
    merged_group,
)
from ftm_jobs.verify.models.hf_tokenizer import HfTokenizer
from ftm_jobs.verify.models.layerwise import Logits, compare
from ftm_jobs.verify.tensors.merged_weights import MergedWeights
from ftm_jobs.verify.tensors.sources import StoredTensors


@dataclass(frozen=True)
class Comparison:
    """Two models on the same texts."""

    reference: str
    other: str
    texts: Sequence[Divergence]
    """One for each text that was measured."""

    @property
    def total(self) -> Divergence:
        return total(self.texts)


@dataclass(frozen=True)
class VerificationMeasurements:
    """All figures of a verification."""

    tokenizer: HfTokenizer
    texts: Sequence[TokenizedText]
    """Hold-out first, then each question with base+adapter's answer."""
    questions: Sequence[TokenizedQuestion]
    answers: Mapping[str, Sequence[Answer]]
    """Answers by model, in the questions' order."""
    comparisons: Mapping[tuple[str, str], Comparison]
    files: FileComparison
    weights: Sequence[Difference]
    compared_weights: int
    """Tensors of the merged model that were compared."""
    yardstick: str
    engine: str
    notes: Sequence[str]
    reference: ServedReference
    """It is held against an engine once one serves the model."""

    def kl(self, reference: str, other: str) -> float:
        return self.comparisons[reference, other].total.kl


@dataclass(frozen=True)
class ComparedModels:
    """All that is read from the logits of the models."""

    answers: Mapping[str, list[Answer]]
    """Those of a model that llama.cpp runs."""
    comparisons: Mapping[tuple[str, str], Comparison]
    texts: Sequence[ReferenceText]


def measure(task: VerificationTask) -> VerificationMeasurements:
    """Measures all that a report shows. Raises InvalidInput and Failed."""
    tokenizer, template = HfTokenizer(task.merged.local), load_template(task.merged.local)
    questions = tokenize_questions(task.questions, tokenizer, template)
    expected = task.scratch / "adapted"
    write_expected_files(task.inputs, expected)
    files = compare_files(task, tokenizer, template, expected)
    assert task.merged.tensors
    weights = MergedWeights(task.merged.tensors)
    base, quantized = _base_group(task, expected, weights), _groups(task)
    groups = [base.group, *quantized.groups]
    ends = ends_of_answers(task.merged.local, tokenizer)
    answers, cut = _answers(groups, questions, ends)
    texts = held_out(task.calibration, tokenizer, template, task.tokens)
    for question, given in zip(questions, answers[ADAPTED], strict=True):
        texts.append(TokenizedText(question.question.prompt, (*question.tokens, *given.tokens)))
    compared = _compare_models(task, groups, texts, questions, ends)
    answers |= compared.answers
    served = answers.get(QUANTIZED if task.quantized else MERGED, [])
    coarse = base.group.models[COARSE].source
    for name in weights.unseen(coarse.names):
        coarse.read(name)  # no text runs through it: encoders of images, layers beyond the decoder
    for group in groups:
        group.shared.close()
    return VerificationMeasurements(
        tokenizer,
        texts,
        questions,
        answers,
        compared.comparisons,
        files,
        weights.differences(),
        weights.compared,
        quantized.yardstick,
        quantized.engine,
        [*files.tokenizer.notes, *_notes(base), *quantized.notes, *cut],
        served_reference(
            compared.texts,
            quantized.engine,
            tokenizer,
            template,
            list(zip(questions, served, strict=True)),
            by_llama_cpp=task.gguf is not None,
        ),
    )


def _base_group(task: VerificationTask, expected: Path, weights: MergedWeights) -> BaseGroup:
    base, plain = task.inputs.base, task.scratch / "base"
    copy_companions(base.store, base.stats.values(), plain)
    return base_group(task.inputs, StoredTensors(base.store, base.headers), plain, expected, weights.see)


def _notes(base: BaseGroup) -> list[str]:
    if not base.through_merge:
        return []
    note = (
        f"{base.through_merge} of {len(base.adapters.changed)} changed tensors are no plain LoRA on a Linear layer: "
        "base+adapter was computed there with the merge's own formulae, in fp32"
    )
    return [note]


def _groups(task: VerificationTask) -> QuantizedGroups:
    if task.quantized is None:
        return QuantizedGroups((merged_group(task.merged),), "", OWN_ENGINE)
    return gguf_groups(task.merged, task.gguf) if task.gguf else awq_groups(task.merged, task.quantized)


def _answers(
    groups: Sequence[ModelGroup], questions: Sequence[TokenizedQuestion], ends: frozenset[int]
) -> tuple[dict[str, list[Answer]], list[str]]:
    """Returns answers by model, and a note for each model whose answers were cut."""
    answers: dict[str, list[Answer]] = {ADAPTED: []}
    notes: list[str] = []
    if not questions:
        return answers, notes
    for group in groups:
        for name in (BASE, ADAPTED, MERGED, QUANTIZED):
            if name in group.models:
                answers[name], whole = answers_of(group.models[name], group.shared, questions, ends)
                if not whole:
                    notes.append(
                        f"{name} does not fit memory: its answers were computed layer by layer and cut after "
                        f"{max(len(each.tokens) for each in answers[name])} tokens"
                    )
    return answers, notes


def _compare_models(
    task: VerificationTask,
    groups: Sequence[ModelGroup],
    texts: Sequence[TokenizedText],
    questions: Sequence[TokenizedQuestion],
    ends: frozenset[int],
) -> ComparedModels:
    prompts = [text.tokens for text in texts]
    progress = Progress("verify", sum(group.total_bytes for group in groups))
    logits: dict[str, Logits] = {}
    for group in groups:
        logits |= group.run(prompts, progress.add)
    answers: dict[str, list[Answer]] = {}
    with ExitStack() as stack:
        if task.gguf:
            from ftm_jobs.verify.models.gguf import running

            longest = [*prompts, *(question.tokens for question in questions)]
            logits[QUANTIZED] = model = stack.enter_context(running(task.gguf, longest, MOST_TOKENS))
            if questions:
                answers[QUANTIZED] = answer(model, questions, ends)
        comparisons = {
            (reference, other): Comparison(reference, other, compare(logits[reference], logits[other]))
            for reference, other in PAIRS
            if reference in logits and other in logits
        }
        kept = reference_texts(logits, texts, by_llama_cpp=task.gguf is not None)
    progress.close()
    return ComparedModels(answers, comparisons, kept)
