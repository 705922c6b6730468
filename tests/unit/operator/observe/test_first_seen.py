"""What was seen first stays known, however often it is asked for."""

from datetime import UTC, datetime, timedelta

from ftm_operator.observe.first_seen import MOST_REMEMBERED, FirstSeen

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(number: int) -> dict[str, dict[str, str]]:
    return {"metadata": {"uid": str(number)}}


def test_asking_again_forgets_nothing() -> None:
    seen = FirstSeen()
    for number in range(MOST_REMEMBERED):
        seen.of(job(number), START)
    later = START + timedelta(hours=1)
    assert {seen.of(job(number), later) for number in range(MOST_REMEMBERED)} == {START}


def test_the_oldest_is_forgotten_for_one_more() -> None:
    seen = FirstSeen()
    for number in range(MOST_REMEMBERED + 1):
        seen.of(job(number), START)
    later = START + timedelta(hours=1)
    assert (seen.of(job(1), later), seen.of(job(0), later)) == (START, later)
