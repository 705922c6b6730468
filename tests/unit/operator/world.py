"""A pure stand-in for a namespace: objects that an API server would hold, and passes over one FineTunedModel.

`World.settle` applies what `reconcile` asks for, as a server would, until a pass asks for nothing. Nothing happens by
itself: a test says when a Job succeeds, a pod fails or a Deployment becomes available.
"""

import copy
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ftm_jobs.contract.facts import AdapterFacts, BaseFacts, Facts
from ftm_jobs.contract.keys import merge_key
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.contract.verification import Check, Verification
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.measurements import Measurement, added
from ftm_operator.reconcile.engine_feedback import EngineLog, Heard
from ftm_operator.reconcile.passes import Apply, Delete, Observed, Result
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.resources.metadata import ARTIFACT, STEP
from ftm_operator.runtime.object_cache import ObjectCache, key_of
from ftm_operator.settings import Settings

Manifest = dict[str, Any]
NAMESPACE = "team-a"
SETTINGS = Settings(
    jobs_image="jobs:1",
    merge_image="merge:1",
    vllm_image="vllm:1",
    llama_cpp_image="llama-cpp:1",
    gguf_image="gguf:1",
    awq_image="awq:1",
    compressor_image="compressor:1",
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def base_facts(**changes: Any) -> BaseFacts:
    known = {
        "uri": "s3://models/base",
        "digest": "sha256:base",
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "dtype": "BF16",
        "parameters": 134_515_008,
        "weight_bytes": 269_030_016,
        "layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "attention_heads": 9,
        "key_value_heads": 3,
        "head_size": 64,
        "vocabulary_size": 49152,
        "max_position_embeddings": 8192,
        "tied_embeddings": True,
    }
    return BaseFacts.model_validate(known | changes)


def adapter_facts(**changes: Any) -> AdapterFacts:
    known = {
        "uri": "s3://models/adapters/support",
        "digest": "sha256:adapter",
        "rank": 8,
        "alpha": 16.0,
        "scaling": 2.0,
        "target_modules": ("q_proj", "v_proj"),
        "layers_adapted": 60,
        "dtype": "F32",
        "weight_bytes": 1_000_000,
    }
    return AdapterFacts.model_validate(known | changes)


def facts(**base_changes: Any) -> Facts:
    return Facts(base=base_facts(**base_changes), adapters=(adapter_facts(),))


def resource(name: str = "support-bot", **spec: Any) -> Manifest:
    """As an API server stores it: CRD defaults are the models' own, so they may be left out."""
    return {
        "apiVersion": "ftm.dev/v1alpha1",
        "kind": "FineTunedModel",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": {
            "base": {"uri": "s3://models/base", "secretName": "models-s3"},
            "adapters": [{"name": "support", "uri": "s3://models/adapters/support"}],
            "artifacts": {"uri": "s3://artifacts/built", "secretName": "artifacts-s3"},
            **spec,
        },
    }


@dataclass
class World:
    now: datetime = START
    cache: ObjectCache = field(default_factory=ObjectCache)
    settings: Settings = SETTINGS
    applied: list[str] = field(default_factory=list)
    """What was applied or deleted, in order: `Job ftm-merge-…`."""
    progress: dict[str, str] = field(default_factory=dict)
    """What was read of running pods' logs, by pod."""
    heard: dict[EngineLog, Heard] = field(default_factory=dict)
    """What was read of engines' logs."""
    measurements: dict[str, Measurement] = field(default_factory=dict)
    accelerators: tuple[AcceleratorClass, ...] = ()
    several_nodes: bool = False
    events: list[str] = field(default_factory=list)
    versions: Any = field(default_factory=lambda: itertools.count(2))

    def put(self, item: Manifest) -> Manifest:
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(next(self.versions))
        self.cache.put(stored["kind"], stored)
        return stored

    def resource(self, name: str = "support-bot") -> Manifest:
        found = self.cache.get("FineTunedModel", (NAMESPACE, name))
        assert found is not None
        return found

    def edit(self, name: str = "support-bot", annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """A user's change: a new generation."""
        changed = copy.deepcopy(self.resource(name))
        changed["spec"].update(spec)
        changed["metadata"]["generation"] += 0 if annotations else 1
        changed["metadata"].setdefault("annotations", {}).update(annotations or {})
        self.put(changed)

    def once(self, name: str = "support-bot") -> Result:
        """One pass, without carrying out what it asks for."""
        own = (NAMESPACE, name)
        return reconcile(
            Observed(
                resource=copy.deepcopy(self.resource(name)),
                jobs=lambda label, value: self.cache.labelled("Job", NAMESPACE, label, value),
                pods=lambda label, value: self.cache.labelled("Pod", NAMESPACE, label, value),
                deployment=self.cache.get("Deployment", own),
                leader_worker_set=self.cache.get("LeaderWorkerSet", (NAMESPACE, f"{name}-nodes")),
                service=self.cache.get("Service", own),
                progress=self.progress,
                accelerators=self.accelerators,
                several_nodes=self.several_nodes,
                heard=self.heard,
                measurements=self.measurements,
            ),
            self.settings,
            self.now,
        )

    def settle(self, name: str = "support-bot") -> Result:
        """Passes until one asks for nothing; returns that one."""
        for _ in range(10):
            result = self.once(name)
            if not result.actions and result.status is None:
                return result
            for action in result.actions:
                self._execute(action)
            if result.status is not None:
                self.put(self.resource(name) | {"status": result.status})
            self.measurements = added(self.measurements, result.measurements)
            self.events += [f"{notice.type} {notice.reason}" for notice in result.notices]
        raise AssertionError(f"no rest after ten passes: {result}")

    def _execute(self, action: Apply | Delete) -> None:
        item = action.manifest
        verb = "delete " if isinstance(action, Delete) else ""
        self.applied.append(f"{verb}{item['kind']} {item['metadata']['name']}")
        if isinstance(action, Delete):
            self.cache.remove(item["kind"], key_of(item))
            return
        known = self.cache.get(item["kind"], key_of(item)) or {"metadata": {}}
        stored = copy.deepcopy(item)
        stored["metadata"]["generation"] = known["metadata"].get("generation", 0) + 1
        stored["metadata"]["creationTimestamp"] = self.now.isoformat()
        stored["status"] = known.get("status", {})
        self.put(stored)

    # --- what a cluster would do ------------------------------------------------------------------

    def jobs(self, step: str) -> list[Manifest]:
        found = [self.cache.get("Job", key) for key in self.cache.keys("Job")]
        return [job for job in found if job and job["metadata"]["labels"][STEP] == step]

    def running_job(self, step: str) -> Manifest:
        (job,) = [job for job in self.jobs(step) if not job.get("status")]
        return job

    def end_job(self, step: str, report: Report | None = None, **terminated: Any) -> None:
        """The running Job of a step ends as its report says, or without one."""
        job = self.running_job(step)
        done = report is not None and report.outcome is Outcome.DONE
        message = {"message": report.termination_message()} if report else {}
        self.put(pod_of(job, {"terminated": {"finishedAt": self.now.isoformat(), **message, **terminated}}))
        condition = {"type": "Complete" if done else "Failed", "status": "True", "message": "BackoffLimitExceeded"}
        conditions = [condition | {"lastTransitionTime": self.moment()}]
        self.put(job | {"status": {"conditions": conditions, "completionTime": self.moment()}})

    def inspected(self, found: Facts | None = None) -> None:
        self.end_job("inspect", report(Step.INSPECT, "Inspected", facts=found or facts()))

    def merged(self) -> Artifact:
        uri = self.store_of("merge")
        key = f"merge-{self.expected_key()}"
        built = Artifact(key=key, uri=f"{uri}/{key}", digest=f"sha256:{key}", total_bytes=271_000_000, files=7)
        self.end_job("merge", report(Step.MERGE, "Merged", artifact=built))
        return built

    def quantized(self, *notes: str, method: str = "gguf") -> Artifact:
        key = f"{method}-{'1' * 32}"
        built = Artifact(
            key=key, uri=f"{self.store_of('quantize')}/{key}", digest=f"sha256:{key}", total_bytes=90_000_000, files=1
        )
        self.end_job("quantize", report(Step.QUANTIZE, "Quantized", artifact=built, notes=notes))
        return built

    def verified(self, *failed: str) -> Artifact:
        """With every check passed but those named."""
        key = f"verify-{'2' * 32}"
        built = Artifact(
            key=key, uri=f"{self.store_of('verify')}/{key}", digest=f"sha256:{key}", total_bytes=9_000, files=2
        )
        checks = [
            Check(
                name=name,
                value=0.5 if name in failed else 0.01,
                bound=0.2,
                unit="nats/token",
                passed=name not in failed,
            )
            for name in ("MergeAgrees", "QuantizedDivergence")
        ]
        found = Verification(passed=not failed, checks=tuple(checks))
        reason = "VerificationFailed" if failed else "Verified"
        self.end_job("verify", report(Step.VERIFY, reason, artifact=built, verification=found))
        return built

    def store_of(self, step: str) -> str:
        arguments = self.running_job(step)["spec"]["template"]["spec"]["containers"][0]["args"]
        return str(arguments[arguments.index("--artifacts") + 1]).split(",")[0]

    def expected_key(self) -> str:
        """The key is the merge Job's to say; a Job that gives another is the subject of a test of its own."""
        from ftm_operator.api.v1alpha1 import FineTunedModel
        from ftm_operator.planning.input_hashes import merged_key

        owner = self.resource(self.running_job("merge")["metadata"]["ownerReferences"][0]["name"])
        model = FineTunedModel.model_validate(owner)
        assert model.status
        assert model.status.facts
        return merged_key(model.spec, model.status.facts).removeprefix("merge-")

    def available(self, replicas: int = 1, name: str = "support-bot") -> None:
        deployment = self.cache.get("Deployment", (NAMESPACE, name))
        assert deployment is not None
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas),
        }
        self.put(deployment | {"status": status})

    def groups(self, name: str = "support-bot") -> Manifest:
        found = self.cache.get("LeaderWorkerSet", (NAMESPACE, f"{name}-nodes"))
        assert found is not None
        return found

    def groups_answer(self, count: int = 1, *, leaders_ready: bool = True) -> None:
        """Every group is of the present template, with all its pods, and its controller says that it is ready."""
        found = self.groups()
        for number in range(count):
            self.group_pod("leaderTemplate", f"{number}", ready=leaders_ready)
            self.group_pod("workerTemplate", f"{number}-1", ready=True)
        status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
        self.put(found | {"status": status})

    def group_pod(self, template: str, number: str, *, ready: bool, **status: Any) -> Manifest:
        found = self.groups()
        made_of = found["spec"]["leaderWorkerTemplate"][template]
        metadata = {"name": f"{found['metadata']['name']}-{number}", "namespace": NAMESPACE, **made_of["metadata"]}
        state = {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "vllm", "ready": ready, "state": {"running": {}}}],
        }
        return self.put({"kind": "Pod", "metadata": metadata, "spec": made_of["spec"], "status": state | status})

    def serving_pod(self, state: Manifest, number: int = 0, *, ready: bool = False, **status: Any) -> Manifest:
        """A pod of the Deployment as it is now."""
        deployment = self.cache.get("Deployment", (NAMESPACE, "support-bot"))
        assert deployment is not None
        template = deployment["spec"]["template"]
        made_of = template["metadata"]["annotations"]["ftm.dev/pod-template"]
        metadata = {"name": f"support-bot-{made_of[:5]}-{number}", "namespace": NAMESPACE, **template["metadata"]}
        container = {"name": "vllm", "ready": ready, "state": state, **status}
        return self.put(
            {
                "kind": "Pod",
                "metadata": metadata,
                "spec": template["spec"],
                "status": {"containerStatuses": [container]},
            }
        )

    def serve(self, name: str = "support-bot") -> None:
        """From a new resource to a served model."""
        self.settle(name)
        self.inspected()
        self.settle(name)
        self.merged()
        self.settle(name)
        self.verified()
        self.settle(name)
        self.available(name=name)
        self.settle(name)

    def moment(self) -> str:
        """Now, as Kubernetes writes times."""
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def condition(self, kind: str, name: str = "support-bot") -> Manifest | None:
        conditions = self.resource(name).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), None)


def world(*resources: Manifest, settings: Settings = SETTINGS) -> World:
    made = World(settings=settings)
    for item in resources or (resource(),):
        made.put(item)
    return made


def report(step: Step, reason: str, outcome: Outcome = Outcome.DONE, message: str = "done", **more: Any) -> Report:
    return Report(step=step, outcome=outcome, reason=reason, message=message, **more)


def merged_report(found: Facts | None = None) -> Report:
    """Of the first adapter, unscaled."""
    found = found or facts()
    key = merge_key(found.base.digest, [(found.adapters[0].digest, 1.0)])
    artifact = Artifact(key=key, uri=f"s3://artifacts/built/{key}", digest="sha256:m", total_bytes=1, files=1)
    return report(Step.MERGE, "Merged", artifact=artifact)


def verified_report() -> Report:
    artifact = Artifact(key="verify-1", uri="s3://artifacts/built/verify-1", digest="sha256:v", total_bytes=1, files=1)
    check = Check(name="MergeAgrees", value=0.0, bound=0.1, unit="nats/token", passed=True)
    found = Verification(passed=True, checks=(check,))
    return report(Step.VERIFY, "Verified", artifact=artifact, verification=found)


def refusal(step: Step, reason: str, message: str) -> Report:
    return report(step, reason, Outcome.INVALID_INPUT, message)


def pod_of(job: Manifest, state: Manifest, number: int = 0, **status: Any) -> Manifest:
    name = job["metadata"]["name"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{number}",
            "namespace": NAMESPACE,
            "labels": {**labels, "batch.kubernetes.io/job-name": name},
        },
        "spec": job["spec"]["template"]["spec"],
        "status": {"containerStatuses": [{"name": labels[STEP], "state": state}], **status},
    }


def artifact_label(job: Manifest) -> str:
    label: str = job["metadata"]["labels"][ARTIFACT]
    return label
