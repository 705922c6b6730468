"""A pure stand-in for a namespace: the objects that an API server would hold, and passes over its resources.

`Namespace.settle` carries out what `reconcile` asks for, as a server would, until no pass asks for anything. Nothing
happens by itself: a scene says when a Job ends, a pod fails or a Deployment becomes available. Every status that a pass
writes must keep the rules of kstatus, and be the same to kstatus and Argo CD.
"""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ftm_jobs.contract.run_time_adapters import HeldAdapters
from ftm_jobs.contract.verification import ServedVerification
from ftm_operator.api.fine_tuned_adapter import KIND as ADAPTER_KIND
from ftm_operator.api.fine_tuned_adapter import model_of
from ftm_operator.observe.canary.figures import CanaryFigures
from ftm_operator.observe.replica_owners import KEEPER
from ftm_operator.observe.warnings import Subject
from ftm_operator.planning.feedback.measurements import Measurement, added
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.reconcile.adapters.observed import ObservedAdapter
from ftm_operator.reconcile.adapters.reconcile_adapter import reconcile_adapter
from ftm_operator.reconcile.engine_feedback import EngineLog, EngineMemory
from ftm_operator.reconcile.passes import Action, Apply, Delete, HandOver, Observed, Result, Touch
from ftm_operator.reconcile.reconcile import reconcile
from ftm_operator.reconcile.refusals import Refusal
from ftm_operator.resources.metadata import MANAGER, STEP, WANTED_ADAPTERS
from ftm_operator.resources.metadata import NAME as OWNER
from ftm_operator.resources.scaling.scaler import SCALERS
from ftm_operator.resources.serving.wanted_config_map import config_map_name
from ftm_operator.resources.versions.canary import canary_name, canary_names
from ftm_operator.runtime.view.object_cache import ObjectCache, key_of
from ftm_operator.settings import Settings
from tests.unit.operator.argocd import disagreements
from tests.unit.operator.kstatus import violations
from tests.unit.operator.objects import NAME, NAMESPACE, SETTINGS, Manifest

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST_PASSES = 10
SCALED = ("Deployment", "LeaderWorkerSet")
"""Kinds that have a number of replicas."""


@dataclass
class Namespace:
    now: datetime = START
    cache: ObjectCache = field(default_factory=ObjectCache)
    settings: Settings = SETTINGS
    applied: list[str] = field(default_factory=list)
    """Everything applied or deleted, in order: `Job ftm-merge-…`."""
    written: int = 0
    """Statuses that passes wrote."""
    progress: dict[str, str] = field(default_factory=dict)
    """Lines read of running pods' logs, by pod."""
    heard: dict[EngineLog, EngineMemory] = field(default_factory=dict)
    """Memory figures read of engines' logs."""
    held: dict[str, HeldAdapters] = field(default_factory=dict)
    """What engines hold beside their base, by their pods' names, as agents logged it."""
    served: dict[str, ServedVerification] = field(default_factory=dict)
    """Verdicts on engines, by their pods' names, as sidecars logged them."""
    canary_figures: CanaryFigures | None = None
    """The last answer of a Prometheus about a canary."""
    measurements: dict[str, Measurement] = field(default_factory=dict)
    accelerators: tuple[AcceleratorClass, ...] = ()
    several_nodes: bool = False
    served_apis: frozenset[str] = frozenset()
    kubernetes: str | None = "v1.37.0"
    warnings: dict[Subject, str] = field(default_factory=dict)
    """Read of Events."""
    refusals: Sequence[Refusal] = ()
    """The writes that the API server does not take, for as long as they are here."""
    contested: set[tuple[str, str]] = field(default_factory=set)
    """Kinds and names of children that another manager sets back after each apply."""
    events: list[str] = field(default_factory=list)
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def put(self, item: Manifest) -> Manifest:
        """Stores an object as it is; no pass follows."""
        stored = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(next(self.versions))
        self.cache.put(stored["kind"], stored)
        return stored

    def get(self, kind: str, name: str = NAME) -> Manifest:
        stored = self.cache.get(kind, (NAMESPACE, name))
        assert stored is not None, f"there is no {kind} {name}"
        return stored

    def resource(self, name: str = NAME) -> Manifest:
        return self.get("FineTunedModel", name)

    def once(self, name: str = NAME) -> Result:
        """Returns what one pass asks for, and carries out none of it."""
        own = (NAMESPACE, name)
        return reconcile(
            Observed(
                resource=copy.deepcopy(self.resource(name)),
                jobs=lambda label, value: self.cache.labelled("Job", NAMESPACE, label, value),
                pods=lambda label, value: self.cache.labelled("Pod", NAMESPACE, label, value),
                deployment=self.cache.get("Deployment", own),
                leader_worker_set=self.cache.get("LeaderWorkerSet", (NAMESPACE, f"{name}-nodes")),
                service=self.cache.get("Service", own),
                disruption_budget=self.cache.get("PodDisruptionBudget", own),
                progress=self.progress,
                accelerators=self.accelerators,
                several_nodes=self.several_nodes,
                scalers=[each for kind in SCALERS for each in self.cache.labelled(kind, NAMESPACE, OWNER, name)],
                http_route=self.cache.get("HTTPRoute", own),
                inference_pool=self.cache.get("InferencePool", own),
                inference_model_rewrite=self.cache.get("InferenceModelRewrite", own),
                served_apis=self.served_apis,
                kubernetes=self.kubernetes,
                engine_memory=self.heard,
                measurements=self.measurements,
                adapters=self.cache.adapters_of(own),
                canary_figures=self.canary_figures,
                revisions=self.cache.labelled("ControllerRevision", NAMESPACE, OWNER, name),
                canaries=[
                    each for kind, canary in canary_names(name) if (each := self.cache.get(kind, (NAMESPACE, canary)))
                ],
                canary_service=self.cache.get("Service", (NAMESPACE, canary_name(name))),
                wanted_config_map=self.cache.get("ConfigMap", (NAMESPACE, config_map_name(name))),
                held=self.held,
                served=self.served,
                refusals=self.refusals,
                contested=lambda kind, child, _: (kind, child) in self.contested,
                warnings=self.warnings,
            ),
            self.settings,
            self.now,
        )

    def adapter_once(self, name: str) -> Result:
        """Returns what one pass over an adapter asks for, and carries out none of it."""
        resource = self.get(ADAPTER_KIND, name)
        model = model_of(resource)
        return reconcile_adapter(
            ObservedAdapter(
                resource=copy.deepcopy(resource),
                model=self.cache.get("FineTunedModel", (NAMESPACE, model)),
                rivals=self.cache.rivals_of(resource),
                jobs=lambda label, value: self.cache.labelled("Job", NAMESPACE, label, value),
                pods=lambda label, value: self.cache.labelled("Pod", NAMESPACE, label, value),
                held=self.held,
                refusals=self.refusals,
                warnings=self.warnings,
            ),
            self.settings,
            self.now,
        )

    def asked(self, kind: str, name: str) -> Result:
        """Returns what one pass over a resource of a kind asks for."""
        return self.adapter_once(name) if kind == ADAPTER_KIND else self.once(name)

    def settle(self, *names: str) -> None:
        """Runs passes over every resource, or the named models, until none asks for anything."""
        for _ in range(MOST_PASSES):
            models = [name for name in names or self._names() if self._pass("FineTunedModel", name)]
            adapters = [name for _, name in self.cache.keys(ADAPTER_KIND) if self._pass(ADAPTER_KIND, name)]
            if not models + adapters:
                return
        raise AssertionError(f"no rest after {MOST_PASSES} passes")

    def jobs(self, step: str) -> list[Manifest]:
        stored = [self.cache.get("Job", key) for key in self.cache.keys("Job")]
        return [job for job in stored if job and job["metadata"].get("labels", {}).get(STEP) == step]

    def running_job(self, step: str, name: str | None = None) -> Manifest:
        """Returns the one Job of a step that has not ended, of the named resource if several run."""
        (job,) = [job for job in self.jobs(step) if not job.get("status") and name in {None, owner_of(job)}]
        return job

    def _names(self) -> list[str]:
        return [name for _, name in self.cache.keys("FineTunedModel")]

    def _pass(self, kind: str, name: str) -> bool:
        """Carries out one pass; returns whether it asked for anything."""
        result = self.asked(kind, name)
        if not result.actions and result.status is None:
            return False
        for action in result.actions:
            self._execute(action)
        if result.status is not None:
            self.written += 1
            written = self.put(self.get(kind, name) | {"status": result.status})
            assert not (wrong := [*violations(written), *disagreements(written)]), wrong
        self.measurements = added(self.measurements, result.effects.measurements)
        self.events += [f"{notice.type} {notice.reason}" for notice in result.notices]
        return True

    def _execute(self, action: Action) -> None:
        item = action.manifest
        verb = {Apply: "", Delete: "delete ", Touch: "touch ", HandOver: "hand over "}[type(action)]
        self.applied.append(f"{verb}{item['kind']} {item['metadata']['name']}")
        if isinstance(action, Touch):
            annotations = {**item["metadata"].get("annotations", {}), WANTED_ADAPTERS: action.wanted_hash}
            self.put({**item, "metadata": {**item["metadata"], "annotations": annotations}})
            return
        if isinstance(action, Delete):
            self.cache.remove(item["kind"], key_of(item))
            return
        live = self.cache.get(item["kind"], key_of(item)) or {"metadata": {}, "spec": {}}
        if isinstance(action, HandOver):
            self.put(with_replicas(live, live, KEEPER, item["spec"]["replicas"]))
            return
        stored = copy.deepcopy(item)
        stored["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        stored["metadata"]["creationTimestamp"] = self.now.isoformat()
        stored["status"] = live.get("status", {})
        if item["kind"] in SCALED:
            stored = with_replicas(stored, live, MANAGER, item["spec"].get("replicas"))
        self.put(stored)


def with_replicas(
    item: Manifest, live: Manifest, manager: str, number: int | None, subresource: str | None = None
) -> Manifest:
    """Returns an object with the number of replicas, and with its owners, after a write of one field manager.

    As with an API server, a field that nobody owns any more is reset, and another value takes it from all others.
    """
    entries = live["metadata"].get("managedFields") or []
    owners = [each for each in entries if (each["manager"], each.get("subresource")) != (manager, subresource)]
    present = live["spec"].get("replicas", 1)
    if number is None:
        present = present if owners or len(entries) == len(owners) else 1
    else:
        own = {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        kept = owners if number == present else []
        owners = [*kept, own | ({"subresource": subresource} if subresource else {})]
        present = number
    metadata = {**item["metadata"], "managedFields": owners}
    return {**item, "metadata": metadata, "spec": {**item["spec"], "replicas": present}}


def owner_of(job: Manifest) -> str:
    return str(job["metadata"]["ownerReferences"][0]["name"])
