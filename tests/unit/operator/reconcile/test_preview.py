"""A preview answers under the model's name until the merged model is verified, and then gives way to it."""

from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_operator.planning.gpus.accelerators import declared_classes
from tests.unit.operator.adapters import KIND, MODEL, AdapterScene, loaded
from tests.unit.operator.objects import adapter_facts, base_facts, resource
from tests.unit.operator.planning.catalogue import base_facts_of

OWN = f"{MODEL}-support"


def asked(**spec: Any) -> AdapterScene:
    scene = AdapterScene(model_facts=Facts(base=base_facts(), adapters=(adapter_facts(),)))
    scene.create(resource(MODEL, preview="Dynamic", **spec))
    return scene


def previewed(**spec: Any) -> AdapterScene:
    """Returns a model whose preview answers while the merge runs."""
    scene = asked(**spec)
    scene.inspect(name=MODEL)
    scene.keep(OWN)
    scene.answer(name=MODEL)
    scene.pods("a")
    assert "a preview answers" not in message(scene), "the base alone does not answer under the model's name"
    scene.answers(loaded(MODEL))
    return scene


def arguments(scene: AdapterScene) -> list[str]:
    (engine,) = scene.get("Deployment", MODEL)["spec"]["template"]["spec"]["containers"]
    return [str(word) for word in engine["args"]]


def message(scene: AdapterScene) -> str:
    return scene.condition("Ready", MODEL).message


def test_the_base_and_its_adapter_answer_under_the_models_name_while_the_merge_runs() -> None:
    scene = previewed()
    assert (scene.phase(MODEL), scene.condition("Ready", MODEL).status) == ("Merging", "False")
    assert scene.status(MODEL)["endpoint"] == "http://shared.team-a.svc/v1"
    assert scene.adapter(OWN)["spec"]["servedName"] == MODEL
    assert scene.of(OWN, "Ready").status == "True"
    told = arguments(scene)
    assert told[told.index("--served-model-name") + 1] == "shared-base"
    assert "--enable-lora" in told
    assert message(scene).endswith(
        'a preview answers: the base with its adapter beside it, and the base alone as "shared-base"'
    )
    assert (scene.plan(MODEL)["mode"], scene.status(MODEL)["preview"]["mode"]) == ("Merged", "Dynamic")
    assert not scene.once(MODEL).actions


def test_the_same_deployment_rolls_over_to_the_merged_model_and_then_the_preview_is_removed() -> None:
    scene = previewed()
    selector = scene.get("Service", MODEL)["spec"]["selector"]
    scene.merge()
    scene.verify()
    assert scene.phase(MODEL) == "Deploying"
    told = arguments(scene)
    assert told[told.index("--served-model-name") + 1] == MODEL
    assert "--enable-lora" not in told
    assert scene.get("Deployment", MODEL)["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert scene.get("Service", MODEL)["spec"]["selector"] == selector
    assert scene.cache.keys(KIND), "pods of the preview answer until the merged model does"
    assert scene.of(OWN, "Ready").status == "True"
    scene.answer(name=MODEL)
    assert scene.phase(MODEL) == "Ready"
    assert "preview" not in scene.status(MODEL)
    assert (scene.cache.keys(KIND), scene.cache.keys("ConfigMap")) == ([], [])


def test_a_merged_model_that_fails_its_verification_leaves_the_preview_answering() -> None:
    scene = previewed()
    scene.merge()
    scene.verify("MergeAgrees")
    assert scene.condition("Stalled", MODEL).reason == "VerificationFailed"
    assert "--enable-lora" in arguments(scene)
    assert "a preview answers" in message(scene)


def test_a_new_version_of_a_model_that_serves_has_no_preview() -> None:
    scene = previewed()
    scene.merge()
    scene.verify()
    scene.answer(name=MODEL)
    before = scene.get("Deployment", MODEL)["spec"]["template"]
    scene.edit(MODEL, adapters=[{"name": "support", "uri": "s3://models/adapters/new"}])
    scene.inspect(scene.model_facts.model_copy(update={"adapters": (adapter_facts(digest="sha256:new"),)}), name=MODEL)
    assert scene.phase(MODEL) == "Merging"
    assert scene.get("Deployment", MODEL)["spec"]["template"] == before
    assert "preview" not in scene.status(MODEL)


def no_preview(scene: AdapterScene, why: str) -> None:
    assert message(scene).endswith(f"there is no preview: {why}")
    assert scene.phase(MODEL) == "Merging"
    assert (scene.cache.keys("Deployment"), scene.cache.keys(KIND)) == ([], [])


def test_what_cannot_be_previewed_is_said_and_merged_all_the_same() -> None:
    scene = asked()
    scene.inspect(Facts(base=base_facts(), adapters=(adapter_facts(dynamic_objections=("vLLM has no DoRA",)),)))
    no_preview(scene, 'adapter "support": vLLM has no DoRA')
    scene = asked(adapters=[{"name": name, "uri": "s3://models/adapters/a"} for name in ("a", "b")])
    scene.inspect(Facts(base=base_facts(), adapters=(adapter_facts(),) * 2))
    no_preview(scene, "2 adapters are merged into one model, and an engine applies one to a request")
    scene = asked(serving={"device": "CPU"})
    scene.inspect()
    no_preview(scene, "llama.cpp serves the merged model, and has no weights before it")


def test_a_base_that_does_not_fit_unmerged_is_said() -> None:
    scene = AdapterScene(model_facts=Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),)))
    scene.accelerators = tuple(declared_classes([{"name": "T4", "perNode": 1}]))
    scene.create(resource(MODEL, preview="Dynamic", quantization={"method": "AWQ"}, serving={"maxModelLen": 2048}))
    scene.inspect(name=MODEL)
    assert "there is no preview: T4, tensor-parallel size 1: each GPU needs" in message(scene)
    assert scene.phase(MODEL) == "Merging"
