"""Whatever others write into an adapter's Job, its pods, its model and its status, a pass raises nothing and rests."""

import copy
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from ftm_jobs.contract.run_time_adapters import AdapterState
from tests.unit.operator.adapters import KIND, AdapterScene, adapter, held, loaded, shared
from tests.unit.operator.reconcile.test_odd_worlds import EXAMPLES, ODD, PYTHON, edited

KINDS = (KIND, "FineTunedModel", "Job", "Pod")


@cache
def _world(*, is_kept: bool) -> AdapterScene:
    scene = shared()
    scene.create(adapter("billing"))
    scene.create(adapter("later", 1, servedName="billing"))
    scene.pods("a", "b")
    if is_kept:
        scene.keep("billing")
    scene.answers(loaded("billing"), held("other", AdapterState.FAILED))
    return scene


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.booleans(), st.sampled_from(KINDS), st.integers(0, 300), st.sampled_from(ODD))
def test_a_pass_raises_nothing_and_comes_to_rest(is_kept: bool, kind: str, number: int, odd: object) -> None:
    scene = copy.deepcopy(_world(is_kept=is_kept))
    for key in scene.cache.keys(kind)[:1]:
        item = copy.deepcopy(scene.cache.get(kind, key))
        if item and edited(item, number, odd):
            scene.create(item)
            for name in ("billing", "later"):
                assert scene.adapter_once(name) == scene.adapter_once(name)
                messages = " ".join(condition.message for condition in scene.conditions_of(name).values())
                assert not [word for word in PYTHON if word in messages]
