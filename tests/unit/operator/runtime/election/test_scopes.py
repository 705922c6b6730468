"""Who writes in a scope: one operator at a time, whichever others there are, whatever their clocks say."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_operator.runtime.cluster import ApiError
from ftm_operator.runtime.election.lease import (
    CLUSTER_LEASE,
    CLUSTER_LEASE_NAMESPACE,
    KEPT_SECONDS,
    LEASE_SECONDS,
    NAMESPACE_LEASE,
    RENEW_SECONDS,
    RETRY_SECONDS,
)
from ftm_operator.runtime.election.scopes import ClusterScope, NamespaceScope
from tests.unit.operator.runtime.election.api_server import Leases, Time, me, of_cluster, of_namespace

NAMESPACE = "team-a"
OTHER = "elsewhere/ftm-operator"


def writes(scope: NamespaceScope | ClusterScope, namespace: str = NAMESPACE) -> bool:
    return scope.seconds_left(namespace) > 0


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def time() -> Time:
    return Time()


async def keep(time: Time, seconds: float, *scopes: NamespaceScope | ClusterScope) -> None:
    """Lets these operators renew for so long."""
    end = time.now + seconds
    while time.now < end:
        time.now += RETRY_SECONDS
        for scope in scopes:
            await scope.attempt()


async def test_the_first_writes_and_the_second_stands_by_and_names_it(leases: Leases, time: Time) -> None:
    first, second = of_namespace(leases, time, me("a")), of_namespace(leases, time, me("b"))
    await keep(time, 60, first, second)
    assert (writes(first), writes(second)) == (True, False)
    assert second.held_by_others() == {NAMESPACE: "ftm-system/ftm-operator/a"}
    assert first.held_by_others() == {}


async def test_fields_mean_what_they_mean_to_client_go(leases: Leases, time: Time) -> None:
    first, second = of_namespace(leases, time, me("a")), of_namespace(leases, time, me("b"))
    await first.attempt()
    spec = dict(leases.stored[NAMESPACE, NAMESPACE_LEASE]["spec"])
    assert (spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (LEASE_SECONDS, 0)
    assert spec["acquireTime"] == spec["renewTime"]
    await first.attempt()
    renewed = leases.stored[NAMESPACE, NAMESPACE_LEASE]["spec"]
    assert renewed["acquireTime"] == spec["acquireTime"] < renewed["renewTime"]
    await keep(time, LEASE_SECONDS + RETRY_SECONDS, second)
    taken = leases.stored[NAMESPACE, NAMESPACE_LEASE]["spec"]
    assert (taken["leaseTransitions"], taken["holderIdentity"]) == (1, "ftm-system/ftm-operator/b")
    assert taken["acquireTime"] == taken["renewTime"]


async def test_one_request_renews(leases: Leases, time: Time) -> None:
    scope = of_namespace(leases, time, me("a"))
    await scope.attempt()
    before = leases.writes
    await keep(time, 10 * RETRY_SECONDS, scope)
    assert leases.writes - before == 10


async def test_a_holder_that_cannot_renew_has_stopped_before_another_starts(leases: Leases, time: Time) -> None:
    first, second = of_namespace(leases, time, me("a")), of_namespace(leases, time, me("b"))
    await first.attempt()
    await second.attempt()
    time.now += RENEW_SECONDS
    await second.attempt()
    assert (writes(first), writes(second)) == (False, False)
    time.now += LEASE_SECONDS - RENEW_SECONDS
    await second.attempt()
    assert writes(second)
    await first.attempt()
    assert not writes(first)
    await first.attempt()
    assert first.held_by_others() == {NAMESPACE: "ftm-system/ftm-operator/b"}


async def test_a_clean_end_hands_over_to_a_pod_of_the_installation_at_once(leases: Leases, time: Time) -> None:
    first, second = of_namespace(leases, time, me("a")), of_namespace(leases, time, me("b"))
    await keep(time, 4, first, second)
    await first.release()
    assert not writes(first)
    await second.attempt()
    assert writes(second)


async def test_another_installation_waits_in_case_it_is_an_upgrade(leases: Leases, time: Time) -> None:
    first, other = of_namespace(leases, time, me("a")), of_namespace(leases, time, me("b", OTHER))
    await keep(time, 4, first, other)
    await first.release()
    await keep(time, KEPT_SECONDS - RETRY_SECONDS, other)
    assert not writes(other)
    assert other.held_by_others() == {NAMESPACE: "ftm-system/ftm-operator"}
    upgraded = of_namespace(leases, time, me("c"))
    await upgraded.attempt()
    assert writes(upgraded)
    await upgraded.release()
    await keep(time, KEPT_SECONDS + 2 * RETRY_SECONDS, other)
    assert writes(other)


async def test_a_restarted_container_goes_on_at_once(leases: Leases, time: Time) -> None:
    await of_namespace(leases, time, me("a")).attempt()
    again = of_namespace(leases, time, me("a"))
    await again.attempt()
    assert writes(again)


async def test_a_lease_that_is_deleted_by_hand_is_given_up(leases: Leases, time: Time) -> None:
    first, second = of_namespace(leases, time, me("a")), of_namespace(leases, time, me("b", OTHER))
    await keep(time, 4, first, second)
    leases.stored.clear()
    await second.attempt()
    assert writes(second)
    await first.attempt()
    await first.attempt()
    assert not writes(first)


async def test_another_renewal_in_between_is_no_error(leases: Leases, time: Time) -> None:
    scope = of_namespace(leases, time, me("a"))
    await scope.attempt()
    leases.stored[NAMESPACE, NAMESPACE_LEASE]["metadata"] |= {"labels": {"team": "a"}, "resourceVersion": "99"}
    leases.version = 99
    await keep(time, 4, scope)
    assert writes(scope)
    assert leases.stored[NAMESPACE, NAMESPACE_LEASE]["metadata"]["labels"] == {"team": "a"}


async def test_an_installation_of_one_namespace_comes_before_that_of_all(leases: Leases, time: Time) -> None:
    everywhere, narrow = of_cluster(leases, time, me("a")), of_namespace(leases, time, me("b", OTHER))
    await everywhere.attempt()
    assert writes(everywhere)
    await narrow.attempt()
    assert not writes(narrow)
    assert narrow.held_by_others() == {NAMESPACE: "ftm-system/ftm-operator/a"}
    await everywhere.attempt()
    assert not writes(everywhere)
    assert everywhere.held_by_others() == {NAMESPACE: f"{OTHER}/b"}
    assert writes(everywhere, "team-b")
    await keep(time, LEASE_SECONDS, everywhere, narrow)
    assert (writes(everywhere), writes(narrow)) == (False, True)
    await narrow.release()
    await keep(time, KEPT_SECONDS - RETRY_SECONDS, everywhere)
    assert not writes(everywhere)
    await keep(time, 2 * RETRY_SECONDS, everywhere)
    assert writes(everywhere)


async def test_a_lease_that_expires_between_two_looks_may_have_been_renewed(leases: Leases, time: Time) -> None:
    everywhere, narrow = of_cluster(leases, time, me("a")), of_namespace(leases, time, me("b", OTHER))
    await narrow.attempt()
    await everywhere.attempt()
    time.now += RENEW_SECONDS - 1
    await everywhere.attempt()
    await narrow.attempt()
    time.now += LEASE_SECONDS - RENEW_SECONDS + 1
    assert (writes(everywhere), writes(narrow)) == (False, True)
    await everywhere.attempt()
    assert (writes(everywhere), writes(narrow)) == (False, True)


async def test_without_an_installation_of_all_that_of_a_namespace_starts_at_once(leases: Leases, time: Time) -> None:
    narrow = of_namespace(leases, time, me("b"))
    await narrow.attempt()
    assert writes(narrow)


async def test_an_installation_that_names_its_namespaces_now_follows_itself(leases: Leases, time: Time) -> None:
    everywhere = of_cluster(leases, time, me("a"))
    await everywhere.attempt()
    await everywhere.release()
    narrow = of_namespace(leases, time, me("b"))
    await narrow.attempt()
    assert writes(narrow)
    await narrow.release()
    everywhere = of_cluster(leases, time, me("c"))
    await everywhere.attempt()
    assert writes(everywhere)


async def test_an_operator_of_all_that_cannot_read_the_namespaces_leases_writes_nowhere(
    leases: Leases, time: Time
) -> None:
    scope = of_cluster(leases, time, me("a"))
    await scope.attempt()
    leases.answers = 0
    time.now += RENEW_SECONDS
    with pytest.raises(ApiError):
        await scope.attempt()
    assert not writes(scope)


async def test_two_installations_of_all_hold_one_lease(leases: Leases, time: Time) -> None:
    first, second = of_cluster(leases, time, me("a")), of_cluster(leases, time, me("b", OTHER))
    await keep(time, 60, first, second)
    assert (writes(first), writes(second)) == (True, False)
    assert leases.holder(CLUSTER_LEASE_NAMESPACE, CLUSTER_LEASE) == "ftm-system/ftm-operator/a"


OPERATORS = st.tuples(
    st.booleans(), st.sampled_from(["one/ftm", "two/ftm"]), st.floats(-1e6, 1e6), st.floats(0.97, 1.03)
)
"""Whether it serves all namespaces, its installation, where its clock began, and how fast that goes."""
SECONDS = st.sampled_from([0.0, 1.0, 4.0, 8.0, 16.0, 62.0])
DOINGS = st.sampled_from(["attempt", "attempt", "attempt", "stall", "stall", "cut", "release", "restart"])
OPERATORS_AT_MOST = 3


@settings(max_examples=200, deadline=None)
@given(
    operators=st.lists(OPERATORS, min_size=2, max_size=OPERATORS_AT_MOST),
    steps=st.lists(st.tuples(SECONDS, st.tuples(*[DOINGS] * OPERATORS_AT_MOST)), min_size=3, max_size=20),
)
async def test_never_do_two_write_in_one_namespace(
    operators: list[tuple[bool, str, float, float]], steps: list[tuple[float, tuple[str, ...]]]
) -> None:
    """Each operator has a clock of its own, and stalls, is cut off, ends and is started anew at any time."""
    leases, clocks = Leases(), [Time(start) for _, _, start, _ in operators]

    def started(number: int, life: int) -> NamespaceScope | ClusterScope:
        is_wide, installation, _, _ = operators[number]
        make = of_cluster if is_wide else of_namespace
        return make(leases, clocks[number], me(f"pod-{number}-{life}", installation))

    scopes = [started(number, 0) for number in range(len(operators))]
    for life, (seconds, doings) in enumerate(steps, start=1):
        for clock, (_, _, _, speed) in zip(clocks, operators, strict=True):
            clock.now += seconds * speed
        assert sum(map(writes, scopes)) <= 1
        for number, doing in zip(range(len(scopes)), doings, strict=False):
            leases.answers = 1 if doing == "cut" else None
            with contextlib.suppress(ApiError):
                if doing in ("attempt", "cut"):
                    await scopes[number].attempt()
                elif doing == "release":
                    await scopes[number].release()
            if doing == "restart":
                scopes[number] = started(number, life)
            assert sum(map(writes, scopes)) <= 1
