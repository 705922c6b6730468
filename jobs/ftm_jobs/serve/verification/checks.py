"""Holds what an engine answered against the reference, each figure beside its bound.

    ServedLogprobs       mean |ln p(engine) − ln p(reference)| of the texts' tokens must not exceed twice what rounding
                         does to the same tokens
    ServedAdapter        |Σ e·d| / Σ d², the share of the adapters' effect d that its differences e take away or
                         add, must be below one half: nearer to the model than to its base, or to the effect doubled
    ServedTokenizer      texts that the engine writes as other tokens: none
    ServedChatTemplate   conversations that the engine writes as other tokens: none
    ServedAnswers        strings that the verified model's answers held and the engine's do not: none

No bound is a tuned constant. The difference that rounding makes grows with the unit in the last place, so computing
with one bit less doubles it: an engine within that has rounded as bfloat16 does, a few times more or fewer. float16
has three bits more of mantissa than bfloat16, so its bound is an eighth. float32 has the same as float16, since matrix
units round what enters them to TF32's ten bits. Where keys and values are kept in fewer bits, the bound is that of all
numbers in so many: they are a part of them. The share is left out where rounding could decide it: where half an
effect is less than four standard deviations of it. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftm_jobs.contract.verification import Check, ReferenceConversation, ReferenceSpelling, ReferenceText
from ftm_jobs.errors import Reason

NOT_FINITE = 1e308
"""Stands in JSON for a difference that is infinite or not a number."""
ONE_BIT_LESS = 2.0
"""The factor by which a unit in the last place grows."""
ROUNDING_OF = {"bfloat16": 1.0, "float16": 2.0**-3, "float32": 2.0**-3}
"""Rounding of a dtype's mantissa, as a share of bfloat16's."""
AS_COMPUTED = "auto"
"""The dtype of keys and values that is the one of computing."""
CACHE_ROUNDING = dict.fromkeys((AS_COMPUTED, *ROUNDING_OF), 0.0) | {
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_inc", "fp8_ds_mla", "fp8_per_token_head", "int8_per_token_head"), 2.0**4),
    "fp8_e5m2": 2.0**5,
}
"""The same by the dtype that keys and values are kept in: e4m3 has 3 bits of mantissa, and bfloat16 7."""
FOUR_BITS_ROUNDING = 2.0**6
"""The same for every other dtype: e2m1 has one bit of mantissa."""
HALF = 0.5
DEVIATIONS = 4
"""Standard deviations beyond which chance decides nothing: one start in 30,000."""
SHOWN_TOKENS = 6


@dataclass(frozen=True)
class Precision:
    """The dtypes that an engine computes in, and keeps keys and values in."""

    dtype: str = "bfloat16"
    cache: str = AS_COMPUTED

    @property
    def rounding(self) -> float:
        """The engine's share of the rounding that the reference has."""
        return max(ROUNDING_OF[self.dtype], CACHE_ROUNDING.get(self.cache, FOUR_BITS_ROUNDING))

    @property
    def words(self) -> str:
        """Names the dtype of keys and values where it decides the bound."""
        return f" with keys and values in {self.cache}" if self.rounding > ROUNDING_OF[self.dtype] else ""


DEFAULT = Precision()


@dataclass(frozen=True)
class ServedFinding:
    """A check and its meaning."""

    check: Check
    sentence: str


def logprobs(
    texts: Sequence[ReferenceText], measured: Sequence[Mapping[int, float]], precision: Precision = DEFAULT
) -> ServedFinding:
    """Checks an engine's log-probabilities.

    `measured` are differences to the reference in nats by the token's place in `logprobs`, for each text.
    """
    differences = [abs(value) for places in measured for value in places.values()]
    explained = [text.rounding[at] for text, places in zip(texts, measured, strict=True) for at in places]
    value = sum(differences) / max(1, len(differences))
    bound = ONE_BIT_LESS * precision.rounding * sum(explained) / max(1, len(explained))
    passed = value <= bound  # false for NaN
    if not math.isfinite(value):
        sentence = (
            f"log-probabilities of {len(differences)} tokens are infinite or no numbers: the engine's values overflow; "
            "check its dtype, its other flags, its image and this node's GPU"
        )
        return _finding("ServedLogprobs", value, bound, "nats/token", passed, sentence)
    sentence = (
        f"log-probabilities of {len(differences)} tokens differ from the verified model's by {_nats(value)}, "
        f"{'within' if passed else 'more than'} the {_nats(bound)} that rounding{precision.words} explains"
    )
    if not passed:
        sentence += (
            ": the engine computes another model; check its dtype, its other flags, its image and this node's GPU"
        )
    return _finding("ServedLogprobs", value, bound, "nats/token", passed, sentence)


def adapter(
    texts: Sequence[ReferenceText], measured: Sequence[Mapping[int, float]], precision: Precision = DEFAULT
) -> ServedFinding | None:
    """Checks that the adapters' effect is there; arguments as in `logprobs`.

    None where rounding could decide, and where a difference is not finite.
    """
    places = [
        (text.effect[at], text.rounding[at], value)
        for text, differences in zip(texts, measured, strict=True)
        for at, value in differences.items()
    ]
    whole = sum(effect**2 for effect, _, _ in places)
    deviation = max(1.0, precision.rounding) * math.sqrt(
        sum((effect * rounding) ** 2 for effect, rounding, _ in places)
    )
    if whole == 0 or HALF * whole <= DEVIATIONS * deviation:
        return None
    astray = sum(effect * value for effect, _, value in places) / whole
    if not math.isfinite(astray):
        return None
    passed = abs(astray) < HALF
    sentence = f"the engine shows {1 + astray:.0%} of what the adapters changed" + (
        "" if passed else ": it may serve the base or another adapter; check the model that it has loaded"
    )
    return _finding("ServedAdapter", abs(astray), HALF, "of the effect", passed, sentence)


def tokenizer(spellings: Sequence[ReferenceSpelling], given: Sequence[Sequence[int]]) -> ServedFinding:
    """Checks the tokens that the engine makes of texts."""
    named = [(repr(each.text[:30]), each.tokens) for each in spellings]
    same = f"{len(spellings)} texts have the tokens that they were trained with"
    return _of_tokens("ServedTokenizer", named, given, same, "tokenizer")


def chat_template(conversations: Sequence[ReferenceConversation], given: Sequence[Sequence[int]]) -> ServedFinding:
    """Checks the tokens that the engine makes of conversations."""
    named = [
        (f"the conversation that ends in {each.messages[-1]['content'][:30]!r}", each.tokens) for each in conversations
    ]
    same = f"{len(conversations)} conversations are written as the model's chat template does"
    return _of_tokens("ServedChatTemplate", named, given, same, "chat template")


def answers(missing: Sequence[str], expected: int) -> ServedFinding:
    """Checks answers; `missing` are sentences about those of `expected` strings that the engine did not say."""
    sentence = (
        f"all {expected} expected texts are in the answers"
        if not missing
        else f"{_listed(missing)}, which the verified model said: check the engine's flags"
    )
    return _finding("ServedAnswers", len(missing), 0, "answers", not missing, sentence)


def summary(findings: Sequence[ServedFinding]) -> tuple[Reason, str]:
    """Returns the verdict's reason and message: the sentences of what failed, or the figures."""
    failed = [finding.sentence for finding in findings if not finding.check.passed]
    if failed:
        return Reason.SERVED_DIFFERS, "; ".join(failed)
    return Reason.SERVED_AS_VERIFIED, "; ".join(finding.sentence for finding in findings)


def _of_tokens(
    name: str, wanted: Sequence[tuple[str, Sequence[int]]], given: Sequence[Sequence[int]], same: str, cause: str
) -> ServedFinding:
    """Compares tokens; `wanted` has a name for each text, `same` is said if none differs, else that `cause` differs."""
    wrong = [
        f"{text} as {_apart(tokens, engines)}"
        for (text, tokens), engines in zip(wanted, given, strict=True)
        if list(tokens) != list(engines)
    ]
    sentence = (
        f"the engine writes {_listed(wrong)}: it has another {cause}; remove flags that name one" if wrong else same
    )
    return _finding(name, len(wrong), 0, "differences", not wrong, sentence)


def _finding(name: str, value: float, bound: float, unit: str, passed: bool, sentence: str) -> ServedFinding:
    check = Check(name=name, value=_finite(value), bound=_finite(bound), unit=unit, passed=passed)
    return ServedFinding(check, sentence)


def _apart(wanted: Sequence[int], given: Sequence[int]) -> str:
    pairs = zip(wanted, given, strict=False)
    at = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(wanted), len(given)))
    shown = [list(tokens[at : at + SHOWN_TOKENS]) for tokens in (given, wanted)]
    return f"tokens {shown[0]} from the {at + 1}. on, not {shown[1]}"


def _listed(wrong: Sequence[str]) -> str:
    return wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")


def _finite(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else NOT_FINITE


def _nats(value: float) -> str:
    return f"{value:.3g} nats/token"
