"""What goes from a cache: never what is used, always what was used least recently, no more than it takes."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ftm_jobs.contract.mounts import CACHED_ARTIFACTS
from ftm_jobs.node_cache.entries import CacheEntry
from ftm_jobs.node_cache.room import KeptEntry, evictions, make_room

KEPT = st.lists(
    st.builds(
        KeptEntry,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        bytes=st.integers(0, 50),
        last_used=st.integers(0, 5).map(float),
        in_use=st.booleans(),
    ),
    unique_by=lambda entry: entry.name,
    max_size=8,
)


@given(KEPT, st.integers(-20, 200))
def test_what_goes_is_enough_and_never_used_and_never_more_than_it_takes(kept: list[KeptEntry], needed: int) -> None:
    chosen = evictions(kept, needed)
    free = [entry for entry in kept if not entry.in_use]
    if chosen is None:
        assert sum(entry.bytes for entry in free) < needed
        return
    assert not any(entry.in_use for entry in chosen)
    assert sum(entry.bytes for entry in chosen) >= needed
    assert sum(entry.bytes for entry in chosen[:-1]) < max(needed, 1)


@given(KEPT, st.integers(0, 200))
def test_what_stays_of_what_may_go_was_used_later_than_all_that_goes(kept: list[KeptEntry], needed: int) -> None:
    chosen = evictions(kept, needed) or []
    stays = [entry for entry in kept if not entry.in_use and entry not in chosen]
    assert all(gone.last_used <= entry.last_used for gone in chosen for entry in stays)


def test_room_that_one_pod_keeps_free_is_not_counted_by_another(tmp_path: Path) -> None:
    first, second = (CacheEntry(tmp_path, CACHED_ARTIFACTS, name) for name in "ab")
    for entry in (first, second):
        entry.folder.mkdir(parents=True)
        entry.renew("pod")
    assert make_room(first, 6, 10) is None
    assert make_room(second, 6, 10) == (
        "pods use what else is in the cache of 10 B, which holds 6 B, and "
        f"{(make_room(second, 6, 10) or '').rpartition(', and ')[2]}"
    )
    first.end_lease("pod")
    assert make_room(second, 6, 10) is None
    assert not first.folder.exists()
