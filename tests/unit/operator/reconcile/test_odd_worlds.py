"""Whatever others write into Jobs, pods, children and statuses, a pass raises nothing, and passes come to rest."""

import copy
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftm_operator.runtime.resource_queue import KINDS as RESOURCES
from tests.unit.operator.objects import Manifest, pod_of
from tests.unit.operator.scene import Scene, scene_of

PHASES = {"Inspecting": "inspect", "Merging": "merge", "Deploying": None, "Ready": None}
KINDS = ("Job", "Pod", "Deployment", "Service", "FineTunedModel")
EDITABLE = ("labels", "annotations", "ownerReferences")
NAMELESS = '{"step":"inspect","outcome":"InvalidInput","reason":"","message":"m"}'
PACKED = '{"step":"inspect","outcome":"Done","reason":"a b","message":"x","factsPacked":"AAAA"}'
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "80"))
ABSENT = object()
ODD: tuple[Any, ...] = ("", "x", "abc", "-1", "²", "🚀", "2026-01-01", NAMELESS, PACKED, 0, [], {}, {"a": "b"}, ABSENT)
PYTHON = ("Traceback", "NoneType", "<class", "object at 0x")


@cache
def _world(phase: str) -> Scene:
    scene = scene_of()
    scene.reach(phase)
    if step := PHASES[phase]:
        job, ended = scene.running_job(step), {"message": "x", "exitCode": 1, "finishedAt": scene.moment()}
        scene.put(pod_of(job, {"terminated": ended}, phase="Failed"))
        failed = {"type": "Failed", "status": "True", "message": "m", "lastTransitionTime": scene.moment()}
        scene.create(job | {"status": {"conditions": [failed]}})
    else:
        scene.serving_pod({"waiting": {"reason": "ImagePullBackOff"}})
    return scene


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of everything within a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inside:
        yield (*path, name)
        yield from _places(item, (*path, name))


def edited(item: Manifest, number: int, odd: Any) -> bool:
    """Edits a place in what anyone may write: labels, annotations, owners and the status, within its type."""
    places = [("status", *place) for place in _places(item.get("status") or {})]
    places += [("metadata", name, *place) for name in EDITABLE for place in _places(item["metadata"].get(name) or {})]
    *way, last = places[number % len(places)] if places else ("status", "none")
    holder: Any = item
    for name in way:
        holder = holder.get(name) if isinstance(holder, dict) else holder[name]
    if not holder:
        return False
    if odd is ABSENT:
        del holder[last]
    elif type(odd) is type(holder[last]) or (way[0] == "status" and item["kind"] in RESOURCES):
        holder[last] = copy.deepcopy(odd)
    return True


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.sampled_from(list(PHASES)), st.sampled_from(KINDS), st.integers(0, 300), st.sampled_from(ODD))
@example("Inspecting", "Pod", 6, NAMELESS)
def test_a_pass_raises_nothing_and_comes_to_rest(phase: str, kind: str, number: int, odd: Any) -> None:
    scene = copy.deepcopy(_world(phase))
    for key in scene.cache.keys(kind)[:1]:
        item = copy.deepcopy(scene.cache.get(kind, key))
        if item and edited(item, number, odd):
            scene.create(item)
            assert scene.once() == scene.once()
            messages = " ".join(condition.message for condition in scene.conditions().values())
            assert not [word for word in PYTHON if word in messages]


def _edit(scene: Scene, kind: str, way: tuple[Any, ...], odd: Any) -> None:
    item = copy.deepcopy(scene.cache.get(kind, scene.cache.keys(kind)[0]))
    holder: Any = item
    for name in way[:-1]:
        holder = holder[name]
    if odd is ABSENT:
        del holder[way[-1]]
    else:
        holder[way[-1]] = odd
    assert item
    scene.create(item)


CHANGED = ("status", "conditions", 0, "lastTransitionTime")
LAST_WORDS = ("status", "containerStatuses", 0, "state", "terminated", "message")


@pytest.mark.parametrize(
    ("phase", "kind", "way", "odd"),
    [
        ("Inspecting", "Job", CHANGED, ""),
        ("Inspecting", "Job", CHANGED, ABSENT),
        ("Inspecting", "Job", CHANGED, "2026-01-01"),
        ("Inspecting", "Job", ("metadata", "labels", "ftm.dev/attempt"), "abc"),
        ("Inspecting", "Job", ("metadata", "annotations", "ftm.dev/first-attempt"), "²"),
        ("Inspecting", "Pod", LAST_WORDS, NAMELESS),
        ("Inspecting", "Pod", LAST_WORDS, PACKED),
        ("Deploying", "Pod", ("status", "containerStatuses", 0), {"a": "b"}),
        ("Merging", "FineTunedModel", ("status", "facts", "adapters", 0), ABSENT),
    ],
)
def test_what_once_raised_an_exception(phase: str, kind: str, way: tuple[Any, ...], odd: Any) -> None:
    scene = copy.deepcopy(_world(phase))
    _edit(scene, kind, way, odd)
    assert scene.condition("Ready").message
