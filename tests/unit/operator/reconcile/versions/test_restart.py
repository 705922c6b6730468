"""An operator that is killed between any two writes goes on where it was, and all ends as if nothing had happened."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from ftm_operator.reconcile.passes import Action
from tests.unit.operator.objects import resource
from tests.unit.operator.reconcile.versions.canaries import (
    CANARY,
    GATEWAY_API,
    annotate,
    asked,
    canary_answers,
    canary_pod,
    change,
    gateway_follows,
    has_canary,
    keys,
    progress,
)
from tests.unit.operator.scene import Scene


class Killed(Exception):
    """The operator ends."""


class MortalScene(Scene):
    """A scene whose operator is killed once, after so many writes of children, and is started again."""

    lives_for: int = 10**6
    writes: int = 0

    def _pass(self, kind: str, name: str) -> bool:
        try:
            return super()._pass(kind, name)
        except Killed:
            return True

    def _execute(self, action: Action) -> None:
        super()._execute(action)
        self.writes += 1
        if self.writes == self.lives_for:
            raise Killed


def promoted(scene: Scene) -> None:
    """A canary takes all of its steps, by a pause and by hand."""
    change(scene)
    canary_answers(scene)
    gateway_follows(scene)
    scene.later(300)
    gateway_follows(scene)
    annotate(scene, "promote", f"{keys(scene, 'Canary')[0]}/1")
    assert progress(scene)["state"] == "Replacing"
    scene.answer()
    gateway_follows(scene)
    scene.later(5)
    assert keys(scene, "Kept")


def fails(scene: Scene) -> None:
    """A canary that gets requests crashes."""
    change(scene)
    canary_answers(scene)
    gateway_follows(scene)
    canary_pod(scene, {"conditions": [{"type": "Ready", "status": "False"}]})
    canary_answers(scene, 0)
    gateway_follows(scene)
    scene.later(5)
    assert keys(scene, "RolledBack")


def pinned(scene: Scene) -> None:
    """A user goes back to the old version while a canary is on its way."""
    change(scene)
    canary_answers(scene)
    annotate(scene, "serve-version", keys(scene, "Serving")[0])
    gateway_follows(scene)
    scene.later(5)


def prepared() -> MortalScene:
    """Returns a model that serves its first version behind a Gateway."""
    scene = MortalScene()
    scene.put(resource(serving=asked()))
    scene.served_apis = GATEWAY_API
    scene.reach("Deploying")
    scene.answer()
    gateway_follows(scene)
    scene.writes = 0
    return scene


def end(scene: Scene) -> dict[str, Any]:
    """Returns all that is there, without numbers that count writes."""
    there: dict[str, Any] = {"status": scene.status()}
    for kind in ("Deployment", "Service", "HTTPRoute", "ControllerRevision"):
        for key in scene.cache.keys(kind):
            item = copy.deepcopy(scene.cache.get(kind, key) or {})
            there[f"{kind} {key[1]}"] = [item.get(part) for part in ("spec", "data", "revision")]
    return there


@pytest.mark.parametrize("story", [promoted, fails, pinned])
def test_wherever_it_is_killed(story: Callable[[Scene], None]) -> None:
    begun = prepared()
    whole = copy.deepcopy(begun)
    story(whole)
    wanted = end(whole)
    assert whole.writes > 5
    assert not has_canary(whole)
    assert CANARY not in str(sorted(wanted))
    assert not whole.once().actions
    for number in range(1, whole.writes + 1):
        scene = copy.deepcopy(begun)
        scene.lives_for = number
        story(scene)
        assert end(scene) == wanted, f"killed after write {number} of {whole.writes}"
