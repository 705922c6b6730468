"""A field that another manager sets is applied a bounded number of times, and said once."""

from ftm_operator.observe.contests import MOST_APPLIES, PERIOD, Contests

CHILD = ("Deployment", "team-a", "support-bot")
IMAGE = "spec.image: 'mirror/vllm', should be 'vllm'"


def test_a_difference_that_an_apply_did_not_change_is_said_once_and_kept() -> None:
    contests = Contests()
    assert contests.applied(CHILD, "1", "absent", [IMAGE], 0) == [IMAGE]
    assert contests.is_contested(CHILD, IMAGE, 0)
    assert contests.applied(CHILD, "1", "spec.replicas: 3, should be 1", [IMAGE], 1) == []


def test_another_value_of_that_field_is_no_part_of_it() -> None:
    contests = Contests()
    contests.applied(CHILD, "1", "absent", [IMAGE], 0)
    assert not contests.is_contested(CHILD, "spec.image: 'evil', should be 'vllm'", 0)


def test_a_wanted_spec_that_changes_is_applied_anew() -> None:
    contests = Contests()
    contests.applied(CHILD, "1", "absent", [IMAGE], 0)
    assert contests.applied(CHILD, "2", "the wanted spec changed", [], 1) == []
    assert not contests.is_contested(CHILD, IMAGE, 1)


def test_a_field_that_is_written_back_each_time_is_left_alone_for_a_while() -> None:
    contests = Contests()
    news = [contests.applied(CHILD, "1", f"spec.replicas: {n}, should be 1", [], n) for n in range(MOST_APPLIES)]
    assert news == [*([[]] * (MOST_APPLIES - 1)), [f"spec.replicas: {MOST_APPLIES - 1}, should be 1"]]
    assert contests.is_contested(CHILD, "spec.replicas: 9, should be 1", MOST_APPLIES)
    assert not contests.is_contested(CHILD, "spec.image: 'evil', should be 'vllm'", MOST_APPLIES)
    assert not contests.is_contested(CHILD, "spec.replicas: 9, should be 1", PERIOD)


def test_a_child_that_is_gone_is_forgotten() -> None:
    contests = Contests()
    contests.applied(CHILD, "1", "absent", [IMAGE], 0)
    contests.forget(("team-a", "support-bot"))
    assert not contests.is_contested(CHILD, IMAGE, 0)
