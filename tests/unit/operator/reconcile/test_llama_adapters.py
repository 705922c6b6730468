"""In mode Dynamic llama.cpp loads the spec's adapters when it starts: they are a part of its pods."""

from typing import Any

from ftm_jobs.contract.facts import Facts
from tests.unit.operator.adapters import DIGEST, MODEL, NEW_DIGEST, AdapterScene, adapter
from tests.unit.operator.objects import adapter_facts, base_facts, resource

SUPPORT, LEGAL = f"{MODEL}-support", f"{MODEL}-legal"


def on_processors(*adapters: str) -> AdapterScene:
    """Returns a model whose base is a GGUF file, with these adapters beside it."""
    named = [{"name": name, "uri": f"s3://models/adapters/{name}"} for name in adapters]
    scene = AdapterScene(model_facts=Facts(base=base_facts(), adapters=(adapter_facts(),) * len(adapters)))
    scene.create(resource(MODEL, mode="Dynamic", adapters=named, serving={"engine": "LlamaCpp"}))
    scene.inspect(name=MODEL)
    scene.quantize()
    return scene


def template(scene: AdapterScene) -> Any:
    return scene.get("Deployment", MODEL)["spec"]["template"]["spec"]


def start_pod(scene: AdapterScene, name: str) -> None:
    """Has a pod of the present template serve."""
    labels = {"ftm.dev/name": MODEL, "ftm.dev/step": "serve", "app.kubernetes.io/name": "llama-server"}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    metadata = {"name": name, "namespace": scene.adapter(SUPPORT)["metadata"]["namespace"], "labels": labels}
    scene.put({"kind": "Pod", "metadata": metadata, "spec": template(scene), "status": status})
    scene.settle()


def test_the_pods_wait_for_the_adapters_and_start_with_them_in_the_spec_s_order() -> None:
    scene = on_processors("support", "legal")
    assert not scene.cache.keys("Deployment")
    scene.keep(LEGAL, NEW_DIGEST)
    assert scene.condition("Ready", MODEL).message == 'adapter "support" is to be checked and converted'
    scene.keep(SUPPORT)
    pod = template(scene)
    assert [each["name"] for each in pod["initContainers"]] == ["fetch", "fetch-adapter-0", "fetch-adapter-1"]
    arguments = [each["args"] for each in pod["initContainers"][1:]]
    for number, digest in enumerate((DIGEST, NEW_DIGEST)):
        assert digest in arguments[number][arguments[number].index("--artifact") + 1]
        assert arguments[number][arguments[number].index("--to") + 1] == f"/model/adapters/{number}"
    flags = pod["containers"][0]["args"]
    loaded = [flags[at + 1] for at, flag in enumerate(flags) if flag == "--lora-scaled"]
    assert loaded == ["/model/adapters/0/adapter.gguf:0", "/model/adapters/1/adapter.gguf:0"]
    assert flags[-3:] == ["--no-cache-prompt", "--cache-ram", "0"]
    assert not any(each.get("restartPolicy") for each in pod["initContainers"])


def test_its_job_converts_the_adapter_in_the_image_that_has_the_converter() -> None:
    scene = on_processors("support")
    (container,) = scene.running_job("adapter", SUPPORT)["spec"]["template"]["spec"]["containers"]
    assert container["args"][container["args"].index("--engine") + 1] == "LlamaCpp"
    assert "gguf" in container["image"]


def test_an_adapter_is_ready_where_the_pods_started_with_it_and_says_how_requests_name_it() -> None:
    scene = on_processors("legal", "support")
    scene.keep(LEGAL, NEW_DIGEST)
    scene.keep(SUPPORT)
    scene.answer(name=MODEL)
    start_pod(scene, "a")
    ready = scene.of(SUPPORT, "Ready")
    assert (ready.status, ready.message) == (
        "True",
        '1 pod answers for "support"; requests name it by "lora": [{"id": 1, "scale": 1}]',
    )
    assert scene.phase(MODEL) == "Ready"


def test_another_version_of_an_adapter_rolls_out_new_pods() -> None:
    scene = on_processors("support")
    scene.keep(SUPPORT)
    scene.answer(name=MODEL)
    start_pod(scene, "a")
    scene.edit_adapter(SUPPORT, annotations={"ftm.dev/refresh": "1"})
    scene.keep(SUPPORT, NEW_DIGEST)
    assert NEW_DIGEST in str(template(scene)["initContainers"])
    assert scene.of(SUPPORT, "Ready").status == "False"
    start_pod(scene, "a")
    assert scene.of(SUPPORT, "Ready").status == "True"


def test_adapters_of_others_are_refused_by_name() -> None:
    scene = on_processors("support")
    scene.create(adapter("billing"))
    ready = scene.of("billing", "Ready")
    assert (ready.status, ready.reason) == ("False", "ModelNotDynamic")
    assert ready.message == (
        "FineTunedModel shared is served by llama.cpp, which loads adapters at its start alone; name this one in its "
        "spec.adapters, or serve it with vLLM (spec.serving.engine)"
    )
    assert len(scene.jobs("adapter")) == 1


def test_a_base_alone_starts_without_flags_for_adapters() -> None:
    scene = on_processors()
    flags = template(scene)["containers"][0]["args"]
    assert not {"--lora-scaled", "--no-cache-prompt", "--cache-ram"} & set(flags)
