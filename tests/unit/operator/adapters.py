"""A scene in which adapters are served beside the base of one model: their Jobs, and the pods whose agents answer.

scene = shared()
scene.create(adapter("billing"))
scene.keep("billing")
scene.pods("a", "b")
scene.answers(loaded("billing"))
assert scene.of("billing", "Ready").status == "True"
"""

from typing import Any

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.run_time_adapters import AdapterState, Effect, HeldAdapter, HeldAdapters
from ftm_jobs.contract.steps import Step
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import NAMESPACE, Manifest, adapter_facts, base_facts, report, resource
from tests.unit.operator.questions import Condition
from tests.unit.operator.scene import Scene

MODEL = "shared"
KIND = "FineTunedAdapter"
DIGEST = "sha256:" + "1" * 64
NEW_DIGEST = "sha256:" + "2" * 64


def adapter(name: str, created: int = 0, **spec: Any) -> Manifest:
    """Returns an adapter as an API server stores it; of two, the one of the smaller minute is the older."""
    return {
        "apiVersion": "ftm.dev/v1alpha1",
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": f"2026-01-01T00:{created:02}:00Z",
        },
        "spec": {"model": MODEL, "uri": f"s3://tenants/{name}", **spec},
    }


def parsed(item: Manifest) -> FineTunedAdapter:
    return FineTunedAdapter.model_validate(item)


def held(name: str, state: AdapterState, digest: str = DIGEST, **more: Any) -> HeldAdapter:
    return HeldAdapter(name=name, digest=digest, state=state, **more)


def loaded(name: str, digest: str = DIGEST, **more: Any) -> HeldAdapter:
    effect = Effect(difference=0.5, rounding=0.01)
    return held(name, AdapterState.LOADED, digest, **{"serving": digest, "effect": effect, **more})


class AdapterScene(Scene):
    """A scene of adapters."""

    def adapter(self, name: str) -> Manifest:
        return self.get(KIND, name)

    def edit_adapter(self, name: str, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        item = self.adapter(name)
        metadata = {**item["metadata"], "generation": item["metadata"]["generation"] + (0 if annotations else 1)}
        metadata["annotations"] = {**metadata.get("annotations", {}), **(annotations or {})}
        self.create({**item, "metadata": metadata, "spec": {**item["spec"], **spec}})

    def delete(self, kind: str, name: str) -> None:
        """Removes an object, as the API server does at once where nothing holds it."""
        self.cache.remove(kind, (NAMESPACE, name))
        self.settle()

    def of(self, name: str, kind: str) -> Condition:
        """Returns a condition of an adapter."""
        return self.conditions_of(name)[kind]

    def conditions_of(self, name: str) -> dict[str, Condition]:
        stored = self.adapter(name)["status"]["conditions"]
        assert not violations(self.adapter(name))
        return {
            each["type"]: Condition(each["status"], each["reason"], each["message"], each["lastTransitionTime"])
            for each in stored
        }

    def keep(self, name: str, digest: str = DIGEST, rank: int = 8, notes: tuple[str, ...] = ()) -> None:
        """Ends the adapter's Job well."""
        found = Facts(base=base_facts(), adapters=(adapter_facts(rank=rank),))
        key = f"adapter-{digest[-32:]}"
        artifact = Artifact(key=key, uri=f"s3://artifacts/built/{key}", digest=digest, total_bytes=1_000, files=2)
        told = report(Step.ADAPTER, "AdapterKept", facts=found, artifact=artifact, notes=notes)
        self.end_job(Step.ADAPTER, told, name=name)

    def pods(self, *names: str, ready: bool = True, args: tuple[str, ...] = ()) -> None:
        """Has these pods serve the model."""
        for name in names:
            labels = {"ftm.dev/name": MODEL, "ftm.dev/step": "serve", "app.kubernetes.io/name": "vllm"}
            status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
            metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
            spec = {"containers": [{"name": "vllm", "args": list(args)}]}
            self.put({"kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
        self.settle()

    def answers(self, *adapters: HeldAdapter, pods: tuple[str, ...] = ("a",)) -> None:
        """Has the agents of these pods say what their engines hold."""
        for pod in pods:
            self.held[pod] = HeldAdapters(snapshot=1, wanted="0" * 16, adapters=adapters)
        self.settle()


def model(**spec: Any) -> Manifest:
    return resource(MODEL, **{"mode": "Dynamic", "adapters": [], **spec})


def shared(**spec: Any) -> AdapterScene:
    """Returns a namespace with a model of mode Dynamic that is inspected and planned."""
    scene = AdapterScene(model_facts=Facts(base=base_facts(), adapters=()))
    scene.create(model(**spec))
    scene.inspect(name=MODEL)
    return scene
