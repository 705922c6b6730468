"""Which adapters engines are to hold: those that are kept for this base and have their name to themselves."""

from typing import Any

from ftm_jobs.contract.run_time_adapters import WantedAdapters, to_text
from ftm_operator.api.status import PlannedAdapters
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.reconcile.adapters.admission import readable_adapters
from ftm_operator.reconcile.adapters.wanted import wanted_adapters
from tests.unit.operator.adapters import DIGEST, MODEL, adapter, model
from tests.unit.operator.objects import Manifest, adapter_facts

PLAN = Plan(
    engine="vLLM",
    mode="Dynamic",
    served_model_name="base",
    adapters=PlannedAdapters(max_rank=16, slots=4, cpu_slots=32),
)


def kept(name: str, created: int = 0, digest: str = DIGEST, rank: int = 8, **spec: Any) -> Manifest:
    key = f"adapter-{digest[-32:]}"
    status = {
        "artifact": {"key": key, "uri": f"s3://built/{key}", "digest": digest, "totalBytes": 10, "files": 2},
        "facts": adapter_facts(rank=rank).to_json(),
        "baseDigest": "sha256:base",
        "engine": "vLLM",
        "conditions": [],
    }
    return adapter(name, created, **spec) | {"status": status}


def wanted(*adapters: Manifest, base: str = "sha256:base", plan: Plan = PLAN, **spec: Any) -> WantedAdapters:
    return wanted_adapters(FineTunedModel.model_validate(model(**spec)), plan, base, readable_adapters(adapters))


def names(*adapters: Manifest, **more: Any) -> list[str]:
    return [each.name for each in wanted(*adapters, **more).adapters]


def test_all_that_agents_need_is_said() -> None:
    prompts = [{"messages": [{"role": "user", "content": "Who?"}], "expect": ["Ada"]}, {"prompt": "The", "expect": []}]
    asked = kept("billing", servedName="bills", verification={"prompts": prompts, "policy": "Warn"})
    assert wanted(asked).to_json() == {
        "model": "base",
        "base": "sha256:base",
        "adapters": [
            {
                "name": "bills",
                "artifact": f"s3://built/adapter-{DIGEST[-32:]}",
                "digest": DIGEST,
                "totalBytes": 10,
                "prompts": prompts,
                "policy": "Warn",
            }
        ],
    }


def test_the_older_comes_first_and_has_the_name() -> None:
    older, newer = kept("b", 0, servedName="name"), kept("a", 1, servedName="name")
    other = kept("c", 2, servedName="other")
    assert names(other, newer, older) == ["name", "other"]
    assert wanted(newer, older).adapters[0].digest == DIGEST
    same_age = kept("a", 0, servedName="name", digest="sha256:" + "3" * 64)
    assert wanted(older, same_age).adapters[0].digest == "sha256:" + "3" * 64


def test_an_older_one_that_is_not_kept_yet_has_the_name_all_the_same() -> None:
    assert names(adapter("b", 0, servedName="name"), kept("a", 1, servedName="name")) == []


def test_what_is_kept_for_another_base_or_engine_is_not_loaded() -> None:
    assert names(kept("billing"), base="sha256:another") == []
    assert names(kept("billing"), plan=PLAN.model_copy(update={"engine": "LlamaCpp"})) == []


def test_an_adapter_of_another_model_or_one_that_is_being_deleted_is_not_loaded() -> None:
    going = kept("going")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert names(kept("elsewhere", model="another"), going) == []


def test_a_rank_that_engines_refuse_is_not_loaded_unless_a_former_version_serves() -> None:
    large = kept("billing", rank=64)
    assert names(large) == []
    large["status"]["serving"] = "sha256:former"
    assert names(large) == ["billing"]


def test_nobody_gets_the_name_of_the_base() -> None:
    assert names(kept("billing", servedName=MODEL)) == []


def test_beside_a_merged_model_only_its_own_adapter_is_served_as_a_preview() -> None:
    own, others = kept("shared-own", servedName=MODEL), kept("others")
    own["metadata"]["ownerReferences"] = [{"uid": f"uid-{MODEL}", "kind": "FineTunedModel"}]
    merged: dict[str, Any] = {"mode": "Merged", "adapters": [{"name": "own", "uri": "s3://models/own"}]}
    assert names(own, others, preview="Dynamic", **merged) == [MODEL]
    assert names(own, others, **merged) == []


def test_an_adapter_that_cannot_be_read_takes_no_name() -> None:
    broken = kept("a", 0, servedName="name", uri="ftp://nowhere")
    assert names(broken, kept("b", 1, servedName="name")) == ["name"]


def test_three_hundred_adapters_are_wanted_in_one_text_that_their_order_does_not_change() -> None:
    many = [kept(f"adapter-{number}", number % 60) for number in range(300)]
    found = wanted(*many)
    assert len(found.adapters) == 300
    assert to_text(found) == to_text(wanted(*reversed(many)))
    assert len(to_text(found)) < 1024 * 1024 / 3, "an object is at most 1 MiB"
