"""The agent's core brings any engine to what is wanted, and no name answers with what was not proven."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_jobs.contract.run_time_adapters import AdapterState, HeldAdapter, WantedAdapter, WantedPrompt
from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.serve.actions import GRACE_SECONDS, proving_name
from ftm_jobs.serve.held import held_adapters, unanswered
from tests.unit.jobs.serve.fakes import BASE, FOLDER_BYTES, World, digest, wanted

NAMES = ("support", "sales", "legal")
SOUND, IDLE, BROKEN = (1, 2, 3, 4), (5,), (6,)


def state_of(world: World) -> dict[str, HeldAdapter]:
    return {each.name: each for each in held_adapters(world.state.situation(world.now))}


def test_adapters_come_to_their_names_and_nothing_else_stays() -> None:
    world = World()
    world.want(wanted("support", 1), wanted("sales", 2))
    world.settle()
    assert world.held == {"support": digest(1), "sales": digest(2)}
    assert {each.state for each in state_of(world).values()} == {AdapterState.LOADED}
    world.want(wanted("sales", 2))
    world.settle()
    assert world.held == {"sales": digest(2)}


def test_the_former_version_answers_until_the_new_one_is_proven() -> None:
    world = World()
    world.want(wanted("support", 1))
    world.settle()
    world.want(wanted("support", 2))
    seen = []
    while world.held.get("support") != digest(2):
        world.now += 1
        world.look()
        world.begin()
        world.end_one()
        seen.append((world.held.get("support"), state_of(world)["support"].serving))
    assert set(seen[:-1]) == {(digest(1), digest(1))}
    assert seen[-1] == (digest(2), digest(2))


def test_one_without_effect_is_unloaded_and_the_former_version_stays() -> None:
    world = World()
    world.engine.idle = {digest(5)}
    world.want(wanted("support", 1))
    world.settle()
    world.want(wanted("support", 5), wanted("sales", 2))
    world.settle()
    assert world.held == {"support": digest(1), "sales": digest(2)}
    told = state_of(world)["support"]
    assert (told.state, told.serving, told.reason) == (AdapterState.FAILED, digest(1), "AdapterHasNoEffect")
    assert told.effect
    assert not told.effect.is_seen


def test_under_warn_one_without_effect_is_offered_and_told() -> None:
    world = World()
    world.engine.idle = {digest(5)}
    world.want(wanted("support", 5, policy="Warn"))
    world.settle()
    told = state_of(world)["support"]
    assert (told.state, told.reason, world.held) == (AdapterState.LOADED, "AdapterHasNoEffect", {"support": digest(5)})


def test_another_policy_or_prompt_is_another_trial_and_the_name_goes_on_answering() -> None:
    world = World()
    world.engine.idle = {digest(5)}
    world.want(wanted("support", 5), wanted("sales", 2))
    world.settle()
    world.want(
        wanted("support", 5, policy="Warn"),
        wanted("sales", 2, prompts=(WantedPrompt(messages=({"role": "user", "content": "?"},), expect=("sha256",)),)),
    )
    assert state_of(world)["sales"].serving == digest(2)
    world.settle()
    assert world.held == {"support": digest(5), "sales": digest(2)}
    assert state_of(world)["sales"].answers == ()


def test_one_that_answers_wrongly_is_kept_away_and_the_question_is_told() -> None:
    world = World()
    prompt = WantedPrompt(prompt="Which?", expect=("SHA256", "forty-five"))
    world.want(wanted("support", 1, prompts=(prompt,)))
    world.settle()
    told = state_of(world)["support"]
    assert (told.state, told.reason, world.held) == (AdapterState.FAILED, "AnswerUnexpected", {})
    assert told.answers
    assert 'without "forty-five"' in told.answers[0]


def test_the_engines_own_sentence_is_told_of_one_that_it_refuses_and_the_others_serve() -> None:
    world = World()
    world.engine.broken = {digest(6)}
    world.want(wanted("support", 6), wanted("sales", 2))
    world.settle()
    told = state_of(world)["support"]
    assert (told.state, told.message) == (AdapterState.FAILED, "LoRA rank 64 is greater than max_lora_rank 8")
    assert world.held == {"sales": digest(2)}
    assert world.engine.calls < 20


def test_what_failed_is_tried_again_with_a_new_start_of_the_engine() -> None:
    world = World()
    world.engine.broken = {digest(6)}
    world.want(wanted("support", 6), wanted("sales", 2))
    world.settle()
    world.engine.broken = set()
    world.restart()
    world.settle()
    assert world.held == {"support": digest(6), "sales": digest(2)}


def test_a_store_that_does_not_answer_is_asked_again_and_a_corrupt_artifact_is_not() -> None:
    world = World()
    world.folders.errors = {
        digest(1): Failed(Reason.STORE_UNAVAILABLE, "no answer"),
        digest(2): InvalidInput(Reason.CORRUPT_ARTIFACT, "has another sha256"),
    }
    world.want(wanted("support", 1), wanted("sales", 2))
    for _ in range(20):
        world.now += 1
        world.look()
        world.begin()
        world.end_one()
    told = state_of(world)
    assert (told["support"].state, told["support"].reason) == (AdapterState.LOADING, "StoreUnavailable")
    assert (told["sales"].state, told["sales"].message) == (AdapterState.FAILED, "has another sha256")
    world.folders.errors.clear()
    world.settle()
    assert world.held == {"support": digest(1)}


def test_a_restarted_engine_is_not_ready_before_it_holds_what_was_wanted() -> None:
    world = World()
    world.engine.broken = {digest(6)}
    world.want(wanted("support", 1), wanted("sales", 2), wanted("legal", 6))
    world.settle()
    world.engine.is_up = False
    world.look()
    assert {each.state for each in state_of(world).values()} == {AdapterState.LOADING, AdapterState.FAILED}
    world.engine.is_up = True
    world.restart()
    world.look()
    world.want(wanted("support", 1), wanted("sales", 2), wanted("legal", 6), wanted("later", 3))
    required = world.state.required
    assert required == {"support", "sales", "legal"}
    assert set(unanswered(world.state.situation(world.now), required)) == {"support", "sales", "legal"}
    world.settle()
    assert unanswered(world.state.situation(world.now), required) == []


def test_a_restart_that_was_not_seen_is_known_by_what_is_missing() -> None:
    world = World()
    world.want(wanted("support", 1))
    world.settle()
    starts = world.state.engine_starts
    world.restart()
    world.settle()
    assert world.state.engine_starts == starts + 1
    assert world.held == {"support": digest(1)}


def test_what_an_earlier_agent_loaded_keeps_its_name_while_it_is_proven_anew() -> None:
    world = World()
    world.folders.there = {digest(1), digest(5)}
    world.engine.held = {"support": digest(1), "sales": digest(5), "gone": digest(1)}
    world.engine.idle = {digest(5)}
    world.want(wanted("support", 1), wanted("sales", 5))
    world.look()
    assert unanswered(world.state.situation(0.0), world.state.required) == []
    world.settle()
    assert world.held == {"support": digest(1)}
    assert ("support", digest(1)) not in world.engine.noted


def test_the_disk_is_bounded_by_removing_what_was_used_longest_ago() -> None:
    world = World(disk_bytes=3 * FOLDER_BYTES)
    for number in (1, 2, 3, 4):
        world.want(wanted("support", number))
        world.settle()
        world.now += GRACE_SECONDS
    world.settle()
    assert world.folders.there == {digest(2), digest(3), digest(4)}


def test_one_that_does_not_fit_the_disk_fails_with_both_numbers_until_there_is_room() -> None:
    world = World(disk_bytes=2 * FOLDER_BYTES)
    three = wanted("support", 1), wanted("sales", 2), wanted("legal", 3)
    world.want(*three)
    world.settle()
    told = state_of(world)["legal"]
    assert (told.state, told.reason) == (AdapterState.FAILED, "DiskFull")
    assert (
        told.message == "its 10 B do not fit beside the other adapters in the 20 B that they may take on a pod's disk"
    )
    world.want(*three[1:])
    world.settle()
    assert world.held == {"sales": digest(2), "legal": digest(3)}


def test_a_folder_that_requests_may_still_read_stays_and_so_do_all_while_the_engine_is_silent() -> None:
    world = World()
    world.want(wanted("support", 1))
    world.settle()
    world.want()
    for _ in range(5):
        world.look()
        world.begin()
        world.end_one()
    assert (world.held, world.folders.there) == ({}, {digest(1)})
    world.engine.is_up = False
    world.now += 2 * GRACE_SECONDS
    world.look()
    world.begin()
    assert world.begun == []
    world.engine.is_up = True
    world.settle()
    assert world.folders.there == set()


def test_a_name_like_another_ones_proving_name_is_not_disturbed() -> None:
    adapter = wanted("support", 1)
    clash = wanted(adapter.versioned_name, 2)
    world = World()
    world.want(adapter, clash)
    world.settle()
    assert world.held == {"support": digest(1), clash.name: digest(2)}
    assert proving_name(adapter, {clash.name}) == f"{clash.name}-"


def test_five_hundred_take_a_few_calls_each() -> None:
    world = World()
    adapters = [wanted(f"a{number}", number) for number in range(500)]
    world.want(*adapters)
    world.look()
    while True:
        world.begin(most=1000)
        if not world.begun:
            break
        while world.begun:
            world.end_one()
    assert len(world.held) == 500
    assert world.engine.calls <= 500 * 4 + 3


@dataclass(frozen=True)
class Happening:
    """Something that happens to the agent's world."""

    kind: str
    wanted: tuple[tuple[str, int], ...] = ()
    number: int = 0


VERSIONS = st.sampled_from((*SOUND, *IDLE, *BROKEN))
HAPPENINGS = st.one_of(
    st.builds(
        lambda versions: Happening("want", tuple(versions.items())), st.dictionaries(st.sampled_from(NAMES), VERSIONS)
    ),
    st.builds(Happening, st.sampled_from(("restart", "down", "up", "end", "end", "end", "end", "begin", "look"))),
    st.builds(lambda number: Happening("fail", (), number), st.integers(0, 5)),
)


def adapters(pairs: Sequence[tuple[str, int]]) -> list[WantedAdapter]:
    return [wanted(name, number) for name, number in pairs]


def happen(world: World, happening: Happening) -> None:
    match happening.kind:
        case "want":
            world.want(*adapters(happening.wanted))
        case "restart":
            world.restart()
        case "down" | "up":
            world.engine.is_up = happening.kind == "up"
        case "end":
            world.end_one()
        case "begin":
            world.begin()
        case "look":
            world.look()
        case "fail":
            world.engine.fails_in = happening.number
    world.now += 1.0


@pytest.mark.parametrize("disk_bytes", [None, 4 * FOLDER_BYTES])
@settings(max_examples=100, deadline=None)
@given(
    story=st.lists(HAPPENINGS, max_size=60),
    last=st.dictionaries(st.sampled_from(NAMES), VERSIONS),
    seed=st.integers(0, 99),
)
def test_whatever_happens_the_engine_comes_to_what_is_wanted(
    disk_bytes: int | None, story: list[Happening], last: dict[str, int], seed: int
) -> None:
    world = World(disk_bytes, seed)
    world.engine.idle, world.engine.broken = {digest(number) for number in IDLE}, {digest(number) for number in BROKEN}
    for happening in story:
        happen(world, happening)
        assert all(held in world.folders.there for held in world.held.values())
    world.engine.is_up, world.engine.fails_in = True, None
    world.want(*adapters(tuple(last.items())))
    world.settle()
    sound = {name: digest(number) for name, number in last.items() if number in SOUND}
    assert {name: held for name, held in world.held.items() if name in sound} == sound
    told = state_of(world)
    assert all(told[name].state is AdapterState.LOADED for name in sound)
    assert all(told[name].state is AdapterState.FAILED for name in last if name not in sound)
    public = [(name, held) for name, held in world.engine.noted if name in NAMES]
    assert not [held for _, held in public if held in world.engine.idle | world.engine.broken]
    assert set(world.held) <= set(last)
    assert BASE not in world.held
