"""Decides which adapters llama.cpp loads when it starts, and reads from its pods which it holds. Pure.

They are the model's own: llama.cpp loads none later, and answers for one by its number in a request's `lora`.
"""

from collections.abc import Sequence

from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.run_time_adapters import AdapterState, HeldAdapter, HeldAdapters
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.engines.llama_server import ENGINE, loads_at_start
from ftm_operator.reconcile.adapters.admission import is_kept_for, readable_adapters
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context
from ftm_operator.resources.metadata import Manifest, owned_by
from ftm_operator.resources.serving.llama_server import number_of


def artifacts_at_start(context: Context, plan: Plan, base_digest: str) -> tuple[Artifact, ...] | Hold:
    """Returns the adapters of the spec, in its order, as llama.cpp loads them, or the first that is not kept yet."""
    if not loads_at_start(plan):
        return ()
    model = context.model
    children = readable_adapters(each for each in context.observed.adapters if owned_by(each, model))
    own = {child.served_name: child for child in children}
    artifacts: list[Artifact] = []
    for adapter in model.spec.adapters:
        child = own.get(adapter.name)
        artifact = child.status.artifact if child and child.status else None
        if child is None or artifact is None or not is_kept_for(child, base_digest, ENGINE):
            message = f'adapter "{adapter.name}" is to be checked and converted'
            return Hold("Deploying", OperatorReason.LOADING, message)
        artifacts.append(artifact)
    return tuple(artifacts)


def held_from_start(pods: Sequence[Manifest], served_name: str, digest: str) -> dict[str, HeldAdapters]:
    """Returns which of the pods, whose engines answer, hold the adapter, and how requests name it."""
    numbers = {str(pod["metadata"]["name"]): number_of(digest, pod) for pod in pods}
    return {
        pod: HeldAdapters(snapshot=0, wanted="", adapters=(_held(served_name, digest, number),))
        for pod, number in numbers.items()
        if number is not None
    }


def _held(served_name: str, digest: str, number: int) -> HeldAdapter:
    asked = f'requests name it by "lora": [{{"id": {number}, "scale": 1}}]'
    return HeldAdapter(name=served_name, digest=digest, state=AdapterState.LOADED, serving=digest, message=asked)
