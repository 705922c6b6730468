"""Builds the InferenceModelRewrite by which requests for one name are divided over adapters of a model's pool.

Source: llm-d/llm-d-router, apix/v1alpha2; before that sigs.k8s.io/gateway-api-inference-extension, apix/v1alpha2.
"""

from ftm_operator.api.spec.served_names import ServedName
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.resources.gateway import inference_pool
from ftm_operator.resources.metadata import Manifest, metadata, with_spec_hash
from ftm_operator.resources.serving.serving_labels import serving_labels

KIND = "InferenceModelRewrite"
API_VERSION = "llm-d.ai/v1alpha2"
API_VERSIONS = (API_VERSION, "inference.networking.x-k8s.io/v1alpha2")
"""The versions in which clusters serve it, the newer group first."""
PLURAL = "inferencemodelrewrites"


def inference_model_rewrite(model: FineTunedModel, plan: Plan, api_version: str) -> Manifest:
    """Returns the rules for all of the spec's served names, in the order of the spec."""
    pool = {"group": inference_pool.GROUP, "kind": inference_pool.KIND, "name": model.metadata.name}
    return with_spec_hash(
        {
            "apiVersion": api_version,
            "kind": KIND,
            "metadata": metadata(model, model.metadata.name, serving_labels(model, plan.engine)),
            "spec": {"poolRef": pool, "rules": [_rule(each) for each in model.spec.serving.served_names]},
        }
    )


def _rule(served: ServedName) -> Manifest:
    targets = [{"modelRewrite": target.adapter, "weight": target.weight} for target in served.targets]
    return {"matches": [{"model": {"type": "Exact", "value": served.name}}], "targets": targets}
