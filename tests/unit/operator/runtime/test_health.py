"""When the operator should be restarted."""

from ftm_operator.runtime.health import Health


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_healthy_while_lists_succeed_and_the_queue_moves() -> None:
    clock = Clock()
    health = Health(300, clock)
    clock.now = 900
    assert health.problem() is None


def test_unhealthy_when_lists_stop_succeeding() -> None:
    clock = Clock()
    health = Health(300, clock)
    clock.now = 961
    assert health.problem() == "no full list has succeeded for 961 s"
    health.resync_finished()
    assert health.problem() is None


def test_unhealthy_when_a_key_waits_too_long() -> None:
    health = Health(300, Clock())
    health.queue_wait_seconds = lambda: 301.0
    assert health.problem() == "a resource has waited for a worker for 301 s"


def test_unhealthy_when_a_watch_stays_silent_about_what_a_list_found() -> None:
    clock = Clock()
    health = Health(300, clock)
    health.watch_missed("Job", 7)
    clock.now = 61
    assert health.problem() == "the watch of Job missed a change and has been silent for 61 s"
    health.watch_delivered("Job", 6)
    assert health.problem()
    health.watch_delivered("Job", 7)
    assert health.problem() is None


def test_a_kind_that_the_cluster_no_longer_has_is_not_waited_for() -> None:
    clock = Clock()
    health = Health(300, clock)
    health.watch_missed("LeaderWorkerSet", 7)
    health.watch_ended("LeaderWorkerSet")
    clock.now = 61
    assert health.problem() is None
