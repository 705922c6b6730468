"""In mode Dynamic nothing is merged: the base is inspected and served, and adapters are loaded beside it."""

from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.run_time_adapters import AdapterState
from ftm_jobs.contract.steps import Step
from ftm_operator.planning.gpus.accelerators import declared_classes
from tests.unit.operator.adapters import DIGEST, KIND, MODEL, AdapterScene, adapter, held, loaded
from tests.unit.operator.objects import adapter_facts, base_facts, refusal, resource
from tests.unit.operator.planning.catalogue import base_facts_of

OWN = f"{MODEL}-support"


def dynamic(*adapters: str, gpus: str = "", base: str = "", **spec: Any) -> AdapterScene:
    """Returns a model that names these adapters, inspected."""
    named = [{"name": name, "uri": f"s3://models/adapters/{name}"} for name in adapters]
    found = base_facts_of(base) if base else base_facts()
    scene = AdapterScene(model_facts=Facts(base=found, adapters=(adapter_facts(),) * len(adapters)))
    scene.accelerators = tuple(declared_classes([{"name": gpus, "perNode": 4}])) if gpus else ()
    scene.create(resource(MODEL, mode="Dynamic", adapters=named, **spec))
    scene.inspect(name=MODEL)
    return scene


def serving(*adapters: str, **more: Any) -> AdapterScene:
    """Returns a model whose pod holds all of its own adapters."""
    scene = dynamic(*adapters, **more)
    for name in adapters:
        scene.keep(f"{MODEL}-{name}")
    scene.answer(name=MODEL)
    scene.pods("a")
    scene.answers(*map(loaded, adapters))
    return scene


def reason(scene: AdapterScene, kind: str) -> str:
    return scene.condition(kind, MODEL).reason


def ready(scene: AdapterScene) -> str:
    return scene.condition("Ready", MODEL).message


def template(scene: AdapterScene) -> Any:
    return scene.get("Deployment", MODEL)["spec"]["template"]


def wanted(scene: AdapterScene) -> str:
    return str(scene.get("ConfigMap", f"{MODEL}-adapters")["data"]["adapters.json"])


def test_an_inspected_base_is_served_without_a_merge_or_a_verification() -> None:
    scene = dynamic("support")
    assert scene.phase(MODEL) == "Deploying"
    scene = serving("support")
    assert scene.phase(MODEL) == "Ready"
    assert [scene.jobs(step) for step in ("merge", "quantize", "verify")] == [[], [], []]
    assert (reason(scene, "Merged"), reason(scene, "Verified")) == ("NotMerged", "NotVerified")
    room = {"maxRank": 16, "slots": 4, "cpuSlots": 32, "hostBytes": 32_000_000}
    assert scene.plan(MODEL)["adapters"] == room
    assert "artifacts" not in scene.status(MODEL)
    assert not {"Normal NotMerged", "Normal NotVerified"} & set(scene.events)


def test_a_base_alone_is_served_for_adapters_to_come() -> None:
    scene = serving()
    assert scene.condition("Inspected", MODEL).message == "LlamaForCausalLM, 134,515,008 parameters in BF16"
    assert (scene.phase(MODEL), ready(scene)) == ("Ready", "1 of 1 replicas answer; no adapter is there yet")
    assert wanted(scene) == '{"adapters":[],"base":"sha256:base","model":"shared"}'


def test_the_specs_adapters_are_fine_tuned_adapters_of_the_models_own() -> None:
    scene = dynamic("support")
    own = scene.adapter(OWN)
    assert own["spec"] == {"model": MODEL, "uri": "s3://models/adapters/support", "servedName": "support"}
    assert own["metadata"]["ownerReferences"][0]["uid"] == f"uid-{MODEL}"


def test_the_model_is_ready_once_its_own_adapters_answer_and_others_do_not_count() -> None:
    scene = dynamic("support")
    scene.answer(name=MODEL)
    scene.pods("a")
    assert (reason(scene, "Ready"), ready(scene)[:18]) == ("Inspecting", 'adapter "support":')
    scene.keep(OWN)
    assert reason(scene, "Ready") == "Loading"
    scene.answers(held("support", AdapterState.LOADING))
    assert ready(scene) == 'adapter "support": 0 of 1 pods answer for "support"'
    scene.answers(loaded("support"))
    assert ready(scene) == "1 of 1 replicas answer; 1 of 1 adapters are served"
    scene.create(adapter("billing"))
    assert (scene.phase(MODEL), ready(scene)) == ("Ready", "1 of 1 replicas answer; 1 of 2 adapters are served")


def test_an_own_adapter_that_cannot_be_kept_stalls_the_model_with_its_sentence() -> None:
    scene = dynamic("support")
    scene.answer(name=MODEL)
    scene.pods("a")
    scene.end_job(Step.ADAPTER, refusal(Step.ADAPTER, "MissingFile", "there is no adapter_config.json"), name=OWN)
    stalled = scene.condition("Stalled", MODEL)
    assert stalled.reason == "MissingFile"
    assert 'adapter "support": ' in stalled.message
    assert "there is no adapter_config.json" in stalled.message


def test_pods_are_told_of_a_new_list_once() -> None:
    scene = serving()
    scene.put(scene.get("Pod", "a") | {"status": agent_runs()})
    scene.settle()
    first = scene.get("Pod", "a")["metadata"]["annotations"]["ftm.dev/wanted-adapters"]
    scene.applied.clear()
    scene.create(adapter("billing"))
    scene.keep("billing")
    assert [word for word in scene.applied if "ConfigMap" in word or "Pod" in word] == [
        "ConfigMap shared-adapters",
        "touch Pod a",
    ]
    assert scene.get("Pod", "a")["metadata"]["annotations"]["ftm.dev/wanted-adapters"] != first
    assert DIGEST in wanted(scene)
    assert not scene.once(MODEL).actions


def agent_runs() -> dict[str, Any]:
    return {
        "conditions": [{"type": "Ready", "status": "True"}],
        "initContainerStatuses": [{"name": "adapters", "state": {"running": {}}}],
    }


def test_an_adapter_more_within_the_plan_changes_no_pod() -> None:
    scene = serving("support")
    before = template(scene)
    named = [{"name": name, "uri": f"s3://models/adapters/{name}"} for name in ("support", "sales")]
    scene.edit(MODEL, adapters=named)
    scene.inspect(scene.model_facts.model_copy(update={"adapters": (adapter_facts(),) * 2}), name=MODEL)
    scene.keep(f"{MODEL}-sales")
    scene.answers(loaded("support"), loaded("sales"))
    assert scene.phase(MODEL) == "Ready"
    assert template(scene) == before


def test_an_adapter_that_the_spec_names_no_more_goes_and_so_do_all_when_they_are_merged() -> None:
    scene = serving("support", "sales")
    scene.edit(MODEL, adapters=[{"name": "support", "uri": "s3://models/adapters/support"}])
    scene.inspect(scene.model_facts.model_copy(update={"adapters": (adapter_facts(),)}), name=MODEL)
    assert scene.cache.keys(KIND) == [("team-a", OWN)]
    assert "sales" not in wanted(scene)
    scene.edit(MODEL, mode="Merged")
    assert scene.cache.keys(KIND), "pods of mode Dynamic answer as long as nothing merged does"
    scene.reach("Ready", MODEL)
    assert (scene.cache.keys(KIND), scene.cache.keys("ConfigMap")) == ([], [])


def test_an_adapter_that_must_be_merged_is_named_and_others_go_on_being_loaded() -> None:
    scene = serving("support")
    scene.edit(MODEL, adapters=[{"name": "support", "uri": "s3://models/adapters/dora"}])
    refused = adapter_facts(dynamic_objections=("vLLM has no DoRA",))
    scene.inspect(scene.model_facts.model_copy(update={"adapters": (refused,)}), name=MODEL)
    stalled = scene.condition("Stalled", MODEL)
    assert (stalled.reason, stalled.message) == (
        "NotServedUnmerged",
        'adapter "support": vLLM has no DoRA; set spec.mode to Merged',
    )
    scene.create(adapter("billing"))
    scene.keep("billing")
    assert "billing" in wanted(scene)
    assert template(scene)


def test_a_larger_rank_of_another_starts_the_engines_anew_on_the_same_gpus() -> None:
    scene = serving(base="mistral-7b-v0.1", gpus="A10G", serving={"maxModelLen": 2048})
    scene.create(adapter("billing"))
    scene.keep("billing", rank=24)
    assert scene.plan(MODEL)["adapters"]["maxRank"] == 32
    arguments = template(scene)["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--max-lora-rank") + 1] == "32"
    scene.create(adapter("huge", created=1))
    scene.keep("huge", rank=512)
    assert scene.plan(MODEL)["adapters"]["maxRank"] == 32, "slots of rank 512 would take more GPUs"
    assert not scene.once(MODEL).actions


def test_a_largest_rank_in_the_spec_is_not_exceeded_for_others() -> None:
    scene = serving(serving={"dynamic": {"maxRank": 8}})
    before = scene.plan(MODEL)
    scene.create(adapter("billing"))
    scene.keep("billing", rank=24)
    assert scene.plan(MODEL) == before


def test_a_base_that_is_gone_is_said_and_nothing_is_built_for_it() -> None:
    scene = dynamic()
    scene.create(resource(mode="Dynamic", adapters=[]))
    scene.inspect(Facts(base=base_facts(), adapters=()), name="support-bot")
    scene.refuse_fetch("SourceNotFound", "s3://models/base has no config.json")
    assert scene.stalled().message == "the model cannot be fetched: s3://models/base has no config.json"
    assert scene.jobs("merge") == []


def test_llama_cpp_serves_a_gguf_file_of_the_base() -> None:
    scene = dynamic("support", serving={"device": "CPU"})
    base = "s3://models/base,digest=sha256:base,credentials=/var/run/ftm/base/models-s3"
    assert scene.arguments("quantize")[:3] == ["gguf", "--model", base]
    scene.reach("Deploying", MODEL)


def test_a_merged_model_rolls_over_to_its_base_and_back() -> None:
    scene = AdapterScene()
    scene.create(resource(MODEL))
    scene.reach("Ready", MODEL)
    scene.edit(MODEL, mode="Dynamic")
    assert "--base" in template(scene)["spec"]["initContainers"][0]["args"]
    scene.edit(MODEL, mode="Merged")
    scene.reach("Ready", MODEL)
    assert "--artifact" in template(scene)["spec"]["initContainers"][0]["args"]


def test_a_config_map_of_somebody_else_is_left_alone() -> None:
    scene = dynamic()
    foreign = {
        "kind": "ConfigMap",
        "metadata": {"name": f"{MODEL}-adapters", "namespace": "team-a"},
        "data": {"a": "b"},
    }
    scene.create(foreign)
    stalled = scene.condition("Stalled", MODEL)
    assert stalled.message.startswith("ConfigMap shared-adapters exists and is not this FineTunedModel's")
    assert scene.get("ConfigMap", f"{MODEL}-adapters")["data"] == {"a": "b"}
