"""Keeps how often a version of an adapter was tried, and decides whether and when it is tried again. Pure."""

from dataclasses import dataclass, replace

from ftm_jobs.contract.run_time_adapters import Effect
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.errors import InvalidInput, StepError

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
MOST_REFUSALS = 3
"""An engine that says the same this often in a row means it."""


class EngineError(StepError):
    """Says that an engine answered with an error, which may pass and may as well be its last word."""

    outcome = Outcome.FAILED


@dataclass(frozen=True)
class EffectProof:
    """The outcome of a proof."""

    effect: Effect
    unexpected: tuple[str, ...] | None = None
    """The questions that were answered wrongly, as sentences; None where nothing was asked."""
    reason: str | None = None
    """The reason why it is not as it should be, in one word."""
    message: str | None = None


@dataclass(frozen=True)
class AdapterTrial:
    """The standing of one version with the present engine."""

    failures: int = 0
    """Failures in a row."""
    retry_at: float = 0.0
    has_failed: bool = False
    """It is not tried again with this engine."""
    reason: str | None = None
    message: str | None = None
    proof: EffectProof | None = None

    def after_error(self, error: StepError, now: float, jitter: float) -> "AdapterTrial":
        """Returns the standing after an error. `jitter` is a random number from 0 to 1."""
        repeated = error.message == self.message and isinstance(error, EngineError)
        failures = self.failures + 1 if repeated or not isinstance(error, EngineError) else 1
        failed = isinstance(error, InvalidInput) or (isinstance(error, EngineError) and failures >= MOST_REFUSALS)
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 10)) * (1 + jitter) / 2
        return replace(
            self,
            failures=failures,
            retry_at=now + delay,
            has_failed=failed,
            reason=error.reason,
            message=error.message,
        )

    def after_success(self) -> "AdapterTrial":
        """Returns the standing after a step that went well."""
        return AdapterTrial(proof=self.proof, reason=self._of_proof("reason"), message=self._of_proof("message"))

    def after_proof(self, proof: EffectProof, *, blocks: bool) -> "AdapterTrial":
        """Returns the standing after a proof; one that found something ends it where the policy is Block."""
        return AdapterTrial(
            has_failed=blocks and proof.reason is not None, reason=proof.reason, message=proof.message, proof=proof
        )

    def _of_proof(self, name: str) -> str | None:
        value: str | None = getattr(self.proof, name) if self.proof else None
        return value


NOT_TRIED = AdapterTrial()
