"""A change of a model, of its pods or of what they hold concerns the adapters that it is about, and no others."""

from typing import Any

from ftm_jobs.contract.run_time_adapters import HeldAdapters
from ftm_operator.runtime.passes.model_changes import ModelChanges
from tests.unit.operator.adapters import NEW_DIGEST, adapter, loaded, model
from tests.unit.operator.runtime.logs.test_adapter_reports import pod

KEY = ("team-a", "shared")
ADAPTERS = [adapter("billing"), adapter("legal", servedName="law")]
ALL = [("team-a", "billing"), ("team-a", "legal")]


def holds(*adapters: Any) -> dict[str, HeldAdapters]:
    return {"a": HeldAdapters(snapshot=1, wanted="0" * 16, adapters=adapters)}


def test_the_first_look_at_a_model_concerns_all_and_the_second_none() -> None:
    changes = ModelChanges()
    assert changes.concerned(KEY, model(), [pod()], {}, ADAPTERS) == ALL
    assert changes.concerned(KEY, model(), [pod()], {}, ADAPTERS) == []


def test_what_a_pod_holds_concerns_the_adapters_that_are_served_so() -> None:
    changes = ModelChanges()
    changes.concerned(KEY, model(), [pod()], holds(loaded("billing"), loaded("law")), ADAPTERS)
    held = holds(loaded("billing"), loaded("law", NEW_DIGEST))
    assert changes.concerned(KEY, model(), [pod()], held, ADAPTERS) == [("team-a", "legal")]
    assert changes.concerned(KEY, model(), [pod()], holds(loaded("law", NEW_DIGEST)), ADAPTERS) == [ALL[0]]


def test_the_spec_the_plan_and_the_pods_that_answer_concern_all() -> None:
    changes = ModelChanges()
    changes.concerned(KEY, model(), [pod()], {}, ADAPTERS)
    assert changes.concerned(KEY, model(suspend=True), [pod()], {}, ADAPTERS) == ALL
    planned = model(suspend=True) | {"status": {"plan": {"engine": "vLLM"}}}
    assert changes.concerned(KEY, planned, [pod()], {}, ADAPTERS) == ALL
    assert changes.concerned(KEY, planned, [pod(ready=False)], {}, ADAPTERS) == ALL
    told = planned | {"status": planned["status"] | {"phase": "Deploying", "readyReplicas": 1}}
    assert changes.concerned(KEY, told, [pod(ready=False)], {}, ADAPTERS) == []
    assert changes.concerned(KEY, None, [], {}, ADAPTERS) == ALL


def test_a_model_without_adapters_is_forgotten() -> None:
    changes = ModelChanges()
    changes.concerned(KEY, model(), [], {}, ADAPTERS)
    assert changes.concerned(KEY, model(), [], {}, []) == []
    assert changes.concerned(KEY, model(), [], {}, ADAPTERS) == ALL
