"""Builds the HTTPRoute by which a Gateway leads to a model. Source: sigs.k8s.io/gateway-api, apis/v1."""

from ftm_operator.api.spec.gateway import Gateway
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.gateway import inference_pool
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.service import service_port
from ftm_operator.resources.serving.serving_labels import serving_labels
from ftm_operator.resources.versions.canary import canary_name

KIND = "HTTPRoute"
API_VERSION = "gateway.networking.k8s.io/v1"
PLURAL = "httproutes"


def http_route(model: FineTunedModel, plan: Plan, asked: Gateway, canary_weight: int = 0) -> Manifest:
    """Returns the route to the model's Service, or to its InferencePool where the spec has one.

    `canary_weight` is the percentage of requests that go to the Service of a canary.
    """
    return with_spec_hash(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {
                "parentRefs": [{"name": asked.name, "namespace": asked.namespace or model.metadata.namespace}],
                **({"hostnames": list(asked.hostnames)} if asked.hostnames else {}),
                "rules": [{**_matched(asked.path), "backendRefs": _backends(model, asked, canary_weight)}],
            },
        }
    )


def _matched(path: str | None) -> Manifest:
    """Returns the paths that lead here. The engine sees what follows `path`."""
    matches = [{"path": {"type": "PathPrefix", "value": path or "/"}}]
    if path is None:
        return {"matches": matches}
    rewritten = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    return {"matches": matches, "filters": [{"type": "URLRewrite", "urlRewrite": rewritten}]}


def _backends(model: FineTunedModel, asked: Gateway, canary_weight: int) -> list[Manifest]:
    own = _backend(model, asked)
    if not canary_weight:
        return [own]
    canary = {"name": canary_name(model.metadata.name), "port": service_port(model), "weight": canary_weight}
    return [{**own, "weight": 100 - canary_weight}, canary]


def _backend(model: FineTunedModel, asked: Gateway) -> Manifest:
    if asked.inference_pool:
        return {"group": inference_pool.GROUP, "kind": inference_pool.KIND, "name": model.metadata.name}
    return {"name": model.metadata.name, "port": service_port(model)}
