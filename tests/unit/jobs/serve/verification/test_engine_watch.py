"""An engine is measured once each time that it starts, and a pod is ready by the verdict on the engine that runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ftm_jobs.contract.verification import ReferenceAnswer, ReferenceText, ServedVerification, newest_verdict
from ftm_jobs.errors import Reason
from ftm_jobs.serve.verification.engines import EngineAway
from ftm_jobs.serve.verification.sidecar import FIRST_RETRY_SECONDS, STARTING, EngineWatch


@dataclass
class FakeEngine:
    up: bool | None = True

    def is_up(self) -> bool | None:
        return self.up

    def differences(self, _: Sequence[ReferenceText]) -> list[dict[int, float]]:
        raise NotImplementedError

    def spell(self, _: str) -> list[int]:
        raise NotImplementedError

    def write(self, _: object) -> list[int]:
        raise NotImplementedError

    def answer(self, _: ReferenceAnswer) -> str:
        raise NotImplementedError


def verdict(reason: Reason, message: str = "") -> ServedVerification:
    passed = reason == Reason.SERVED_AS_VERIFIED
    return ServedVerification(reason=reason, message=message or reason, reference="sha256:1", passed=passed)


@dataclass
class Watched:
    engine: FakeEngine = field(default_factory=FakeEngine)
    next_verdict: ServedVerification | None = field(default_factory=lambda: verdict(Reason.SERVED_AS_VERIFIED))
    """None: the engine goes away while it is measured."""
    measured: int = 0
    lines: list[str] = field(default_factory=list)

    def measure(self) -> ServedVerification:
        self.measured += 1
        if self.next_verdict is None:
            raise EngineAway("refused")
        return self.next_verdict

    def watch(self, *, warn_only: bool = False) -> Callable[[float], str | None]:
        watch = EngineWatch(self.engine, self.measure, self.lines.append, warn_only=warn_only)

        def look(now: float) -> str | None:
            watch.look(now)
            return watch.why_not

        return look


def test_an_engine_is_measured_once_and_then_ready() -> None:
    watched = Watched()
    look = watched.watch()
    assert [look(second) for second in range(3)] == [None, None, None]
    assert (watched.measured, len(watched.lines)) == (1, 1)
    assert newest_verdict(["vLLM is up", *watched.lines]) == watched.next_verdict


def test_an_engine_that_starts_anew_is_measured_anew() -> None:
    watched = Watched()
    look = watched.watch()
    assert look(0) is None
    watched.engine.up = False
    assert look(1) == STARTING
    watched.engine.up, watched.next_verdict = True, verdict(Reason.SERVED_DIFFERS, "differs")
    assert look(2) == "differs"
    assert (watched.measured, len(watched.lines)) == (2, 2)


def test_an_engine_that_is_busy_stays_as_it_was() -> None:
    watched = Watched()
    look = watched.watch()
    look(0)
    watched.engine.up = None
    assert look(1) is None
    assert watched.measured == 1


def test_an_engine_that_differs_is_not_ready_however_often_it_is_looked_at() -> None:
    watched = Watched(next_verdict=verdict(Reason.SERVED_DIFFERS, "differs"))
    look = watched.watch()
    assert [look(second) for second in (0, 1, 10_000)] == ["differs"] * 3
    assert watched.measured == 1


def test_policy_warn_makes_it_ready_and_says_so() -> None:
    watched = Watched(next_verdict=verdict(Reason.SERVED_DIFFERS, "differs"))
    assert watched.watch(warn_only=True)(0) is None
    assert newest_verdict(watched.lines) == watched.next_verdict


def test_what_could_not_be_measured_is_measured_again_later_and_said_once() -> None:
    watched = Watched(next_verdict=verdict(Reason.SERVED_UNPROVEN, "500"))
    look = watched.watch()
    assert look(0) == "500"
    assert look(1) == "500"
    assert watched.measured == 1
    assert look(FIRST_RETRY_SECONDS) == "500"
    assert (watched.measured, len(watched.lines)) == (2, 1)
    assert look(2 * FIRST_RETRY_SECONDS) == "500"
    assert watched.measured == 2
    watched.next_verdict = verdict(Reason.SERVED_AS_VERIFIED)
    assert look(3 * FIRST_RETRY_SECONDS) is None
    assert len(watched.lines) == 2


def test_an_engine_that_goes_away_while_it_is_measured_is_waited_for() -> None:
    watched = Watched(next_verdict=None)
    look = watched.watch()
    assert look(0) == STARTING
    watched.next_verdict = verdict(Reason.SERVED_AS_VERIFIED)
    assert look(1) is None
