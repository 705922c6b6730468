"""Holds each figure of a verification against its bound, with a sentence for the outcome.

    AdapterEffect        KL(base+adapter ‖ base) must exceed what rounding the adapted weights does: an effect that
                         drowns in the rounding of a merge is none (all-zero B, lost scaling, names that match nothing)
    MergeAgrees          KL(base+adapter ‖ merged) must not exceed KL(base+adapter ‖ merged with a bit less per weight)
    MergedWeights        tensors of the merged model that are not base+adapter but for rounding: none
    ConfigParity         fields of config.json that the next step lost or changed: none
    TokenizerParity      texts and special tokens that the two tokenizers write differently: none
    BetterThanRounding   KL(merged ‖ quantized) must be below KL(merged ‖ plain rounding at the same bits and groups)
    MaxDivergence        KL(merged ‖ quantized) must not exceed verification.maxDivergence, where it is set
    ExpectedAnswers      answers without a text that the user expects: none

No bound is a tuned constant: `yardsticks/rounding.py` derives the factor between one rounding and one with a bit less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.contract.verification import Check, Verification
from ftm_jobs.errors import Reason
from ftm_jobs.verify.figures.difference import Difference

NATS = "nats/token"
NOT_FINITE = 1e308
"""Stands in JSON for a divergence that is infinite or not a number."""


@dataclass(frozen=True)
class Finding:
    """A check and its meaning."""

    check: Check
    reason: Reason
    """The verification's reason, if this check failed."""
    sentence: str


def adapter_effect(kl: float, floor: float) -> Finding:
    """Checks that the adapter changes more than rounding its weights does."""
    passed = kl > floor
    sentence = (
        f"the adapter changes what the base says by {_nats(kl)}, more than the {_nats(floor)} of rounding its weights"
        if passed
        else f"base and base+adapter differ by {_nats(kl)}, no more than the {_nats(floor)} of rounding the weights: "
        "the adapter does nothing; check that it was trained and saved (B is all zero before training), its alpha, "
        "and its scale"
    )
    return Finding(_check("AdapterEffect", kl, floor, NATS, passed), Reason.ADAPTER_HAS_NO_EFFECT, sentence)


def merge_agrees(kl: float, bound: float) -> Finding:
    """Checks that merged and base+adapter differ by rounding alone."""
    passed = kl <= bound
    sentence = (
        f"merged and base+adapter differ by {_nats(kl)}, within the {_nats(bound)} that rounding explains"
        if passed
        else f"merged and base+adapter differ by {_nats(kl)}, more than the {_nats(bound)} that rounding explains: "
        "the merged model is not base+adapter; delete the artifact and merge again"
    )
    return Finding(_check("MergeAgrees", kl, bound, NATS, passed), Reason.MERGE_DIFFERS, sentence)


def merged_weights(wrong: Sequence[Difference], tensors: int) -> Finding:
    """Checks that no tensor of the merged model is wrong."""
    sentence = (
        f"all {tensors} tensors of the merged model are base+adapter but for rounding"
        if not wrong
        else f"{_listed(wrong)}: the merged model is not base+adapter; delete the artifact and merge again"
    )
    return Finding(_check("MergedWeights", len(wrong), 0, "tensors", not wrong), Reason.MERGE_DIFFERS, sentence)


def config_parity(changed: Sequence[Difference]) -> Finding:
    """Checks that no field of config.json was lost or changed."""
    sentence = (
        "no field of config.json was lost or changed"
        if not changed
        else f"{_listed(changed)}: quantize again with a tool that leaves config.json as it is"
    )
    return Finding(_check("ConfigParity", len(changed), 0, "differences", not changed), Reason.CONFIG_DIFFERS, sentence)


def tokenizer_parity(different: Sequence[Difference], texts: int) -> Finding:
    """Checks that both tokenizers write all texts alike."""
    sentence = (
        f"both tokenizers write {texts} tricky texts alike"
        if not different
        else f"{_listed(different)}: convert again from the merged model's own tokenizer files"
    )
    return Finding(
        _check("TokenizerParity", len(different), 0, "differences", not different), Reason.TOKENIZER_DIFFERS, sentence
    )


def merged_tokenizer(different: Sequence[Difference]) -> Finding:
    """Fails: the merged model's tokenizer is not the one that was trained with."""
    sentence = f"{_listed(different)}: the merged model has another tokenizer than was trained with; merge again"
    check = _check("MergedTokenizer", len(different), 0, "differences", passed=False)
    return Finding(check, Reason.TOKENIZER_DIFFERS, sentence)


def better_than_rounding(kl: float, rounding: float, yardstick: str) -> Finding:
    """Checks the divergence against plain rounding's; `yardstick` tells bits and groups."""
    passed = kl < rounding
    sentence = (
        f"quantized and merged differ by {_nats(kl)}; plain rounding ({yardstick}) would by {_nats(rounding)}"
        if passed
        else f"quantized and merged differ by {_nats(kl)}, and plain rounding ({yardstick}) would by only "
        f"{_nats(rounding)}: a quantizer that does worse than rounding is broken; quantize again or choose another "
        "engine or type"
    )
    return Finding(_check("BetterThanRounding", kl, rounding, NATS, passed), Reason.WORSE_THAN_ROUNDING, sentence)


def max_divergence(kl: float, bound: float) -> Finding:
    """Checks the divergence against the largest that the user allows."""
    passed = kl <= bound
    sentence = f"quantized and merged differ by {_nats(kl)}, " + (
        f"within verification.maxDivergence {bound:g}"
        if passed
        else f"more than verification.maxDivergence {bound:g}: choose more bits, a smaller group or a larger type"
    )
    return Finding(_check("MaxDivergence", kl, bound, NATS, passed), Reason.DIVERGENCE_TOO_LARGE, sentence)


def expected_answers(missing: Sequence[tuple[str, str, bool]], expected: int) -> Finding:
    """Checks answers; `missing` holds prompt, expected text, and whether base+adapter's answer has that."""
    if not missing:
        sentence = f"all {expected} expected texts are in the answers"
    else:
        prompt, text, taught = missing[0]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        blame = "base+adapter says it" if taught else "base+adapter does not say it either: train more, or expect less"
        sentence = f'the answer to "{_short(prompt)}" lacks "{_short(text)}"{more}; {blame}'
    return Finding(
        _check("ExpectedAnswers", len(missing), 0, "answers", not missing), Reason.ANSWER_UNEXPECTED, sentence
    )


def verification(findings: Sequence[Finding]) -> Verification:
    """Returns the verdict of all checks."""
    return Verification(
        passed=all(finding.check.passed for finding in findings), checks=tuple(finding.check for finding in findings)
    )


def summary(findings: Sequence[Finding]) -> tuple[Reason, str]:
    """Returns the report's reason and message: the first failure, or the closest figure."""
    failed = [finding for finding in findings if not finding.check.passed]
    if failed:
        more = f" ({len(failed)} of {len(findings)} checks failed)" if len(failed) > 1 else ""
        return failed[0].reason, f"{failed[0].sentence}{more}"
    closest = (f for f in reversed(findings) if f.check.unit == NATS and f.check.name != "MaxDivergence")
    last = next(
        closest,
        findings[-1],
    )
    return Reason.VERIFIED, f"all {len(findings)} checks passed: {last.sentence}"


def _check(name: str, value: float, bound: float, unit: str, passed: bool) -> Check:
    return Check(name=name, value=_finite(value), bound=_finite(bound), unit=unit, passed=passed)


def _finite(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else NOT_FINITE


def _nats(value: float) -> str:
    return f"{value:.3g} nats/token"


def _listed(differences: Sequence[Difference]) -> str:
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return f"{differences[0]}{more}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:60]}…"
