"""Makes the content of verification.json: each figure beside its bound, a verdict and a sentence per check.

The report page draws it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ftm_jobs.verify.figures import checks
from ftm_jobs.verify.figures.checks import Finding
from ftm_jobs.verify.figures.divergence import Divergence
from ftm_jobs.verify.figures.model_names import ADAPTED, BASE, COARSE, MERGED, PLAIN, QUANTIZED
from ftm_jobs.verify.measurements.measure import Comparison, VerificationMeasurements
from ftm_jobs.verify.models.answers import Answer

SCHEMA_VERSION = 1
SHOWN_AROUND_FLIP = 12
"""Tokens before a flip that a report shows."""
MEANINGS = {
    (ADAPTED, BASE): "what the adapter changes",
    (ADAPTED, COARSE): "what rounding the merged weights with less precision would change",
    (ADAPTED, MERGED): "what the merge changed",
    (MERGED, PLAIN): "what plain rounding would change",
    (MERGED, QUANTIZED): "what the quantizer changed",
}


def findings(measured: VerificationMeasurements, quantized: bool, maximum: float | None) -> list[Finding]:
    """Returns the findings by weight: the first that failed is the verification's reason."""
    rounding = measured.kl(ADAPTED, COARSE)
    results = [
        checks.adapter_effect(measured.kl(ADAPTED, BASE), rounding),
        checks.merge_agrees(measured.kl(ADAPTED, MERGED), rounding),
        checks.merged_weights(measured.weights, measured.compared_weights),
        checks.config_parity(measured.files.config),
    ]
    if measured.files.merged_tokenizer:
        results.append(checks.merged_tokenizer(measured.files.merged_tokenizer))
    if quantized:
        kl = measured.kl(MERGED, QUANTIZED)
        results.append(checks.tokenizer_parity(measured.files.tokenizer.differences, measured.files.tokenizer.texts))
        results.append(checks.better_than_rounding(kl, measured.kl(MERGED, PLAIN), measured.yardstick))
        if maximum is not None:
            results.append(checks.max_divergence(kl, maximum))
    expected = [(place, text) for place, asked in enumerate(measured.questions) for text in asked.question.expect]
    if expected:
        served = QUANTIZED if quantized else MERGED
        missing = [
            (measured.questions[place].question.prompt, text, _says(measured, ADAPTED, place, text))
            for place, text in expected
            if not _says(measured, served, place, text)
        ]
        results.append(checks.expected_answers(missing, len(expected)))
    return results


def verification_content(
    measured: VerificationMeasurements, names: Mapping[str, Any], notes: Sequence[str], maximum: float | None
) -> dict[str, Any]:
    """Returns the content; `names` are the models' URIs."""
    quantized = names["quantized"] is not None
    results = findings(measured, quantized, maximum)
    verdict = checks.verification(results)
    reason, message = checks.summary(results)
    return {
        "schemaVersion": SCHEMA_VERSION,
        "passed": verdict.passed,
        "reason": str(reason),
        "message": message,
        "checks": [each.check.to_json() | {"sentence": each.sentence} for each in results],
        "models": dict(names),
        "engine": measured.engine,
        "yardstick": measured.yardstick,
        "comparisons": [_comparison(measured, each) for each in measured.comparisons.values()],
        "answers": _answers(measured),
        "differences": {
            "weights": [str(each) for each in measured.weights],
            "config": [str(each) for each in measured.files.config],
            "tokenizer": [
                str(each) for each in (*measured.files.merged_tokenizer, *measured.files.tokenizer.differences)
            ],
        },
        "notes": list(notes),
    }


def _comparison(measured: VerificationMeasurements, compared: Comparison) -> dict[str, Any]:
    return {
        "reference": compared.reference,
        "other": compared.other,
        "meaning": MEANINGS[compared.reference, compared.other],
        **_figures(compared.total),
        "flips": [
            {
                "text": _before(measured, flip.prompt, flip.position),
                "wanted": measured.tokenizer.decode([flip.wanted]),
                "found": measured.tokenizer.decode([flip.given]),
                "margin": _rounded(flip.margin),
            }
            for flip in compared.total.flips
        ],
        "texts": [
            {"name": text.name, **_figures(found)} for text, found in zip(measured.texts, compared.texts, strict=True)
        ],
    }


def _figures(divergence: Divergence) -> dict[str, Any]:
    return {
        "tokens": divergence.tokens,
        "kl": _rounded(divergence.kl),
        "klLargest": _rounded(divergence.kl_largest),
        "sameTopToken": _rounded(divergence.same_top),
        "flipped": divergence.flipped,
        "perplexity": {
            "reference": _rounded(divergence.reference_perplexity),
            "other": _rounded(divergence.other_perplexity),
        },
    }


def _answers(measured: VerificationMeasurements) -> list[dict[str, Any]]:
    entries = []
    for place, asked in enumerate(measured.questions):
        given = {name: answers[place] for name, answers in measured.answers.items() if answers}
        reference = given.get(ADAPTED)
        entries.append(
            {
                "prompt": asked.question.prompt,
                "expect": list(asked.question.expect),
                "answers": [
                    {
                        "model": name,
                        "text": measured.tokenizer.decode(answer.tokens).strip(),
                        "ended": answer.ended,
                        "smallestMargin": _rounded(min(answer.margins)),
                        "lacks": [text for text in asked.question.expect if not _says(measured, name, place, text)],
                        **_flip(measured, reference, answer),
                    }
                    for name, answer in given.items()
                ],
            }
        )
    return entries


def _flip(measured: VerificationMeasurements, reference: Answer | None, answer: Answer) -> dict[str, Any]:
    """Returns where an answer leaves the reference's, and how sure each was there; empty where it does not."""
    if reference is None or reference is answer:
        return {}
    pairs = zip(reference.tokens, answer.tokens, strict=False)
    at = next((place for place, (wanted, given) in enumerate(pairs) if wanted != given), None)
    if at is None:
        return {}
    return {
        "leavesAt": {
            "token": at + 1,
            "wanted": measured.tokenizer.decode([reference.tokens[at]]),
            "found": measured.tokenizer.decode([answer.tokens[at]]),
            "referenceMargin": _rounded(reference.margins[at]),
            "margin": _rounded(answer.margins[at]),
        }
    }


def _says(measured: VerificationMeasurements, model: str, place: int, text: str) -> bool:
    answers = measured.answers.get(model)
    return (
        answers is not None
        and bool(answers)
        and text.casefold() in measured.tokenizer.decode(answers[place].tokens).casefold()
    )


def _before(measured: VerificationMeasurements, text: int, position: int) -> str:
    tokens = measured.texts[text].tokens[: position + 1]
    return measured.tokenizer.decode(tokens[-SHOWN_AROUND_FLIP:])


def _rounded(value: float) -> float | None:
    """Returns six digits, or None for what is not finite: JSON has no word for it."""
    return float(f"{value:.6g}") if value == value and abs(value) != float("inf") else None
