"""Keeps the pods of what serves as they are while only the installation changes: its images, its builders.

A child that serves remembers what of the spec, the plan and the weights its pods were made from, and the template that
was applied. While the former is the same, the latter stays, and the installation's own waits for the next change.
"""

import json

from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources.metadata import Manifest, with_spec_hash
from ftm_operator.resources.serving.engine import LEFT_REPLICAS, ReplicaCount, ServedModel
from ftm_operator.resources.serving.pod_templates import (
    answering_template,
    artifact_digest,
    engine_image,
    template_hash,
    templates,
    with_templates,
)

ROLLOUT_ANNOTATION = "ftm.dev/rollout"
"""Another value of it on a FineTunedModel makes its pods anew, as the installation makes them now."""
SERVING_INPUTS = "ftm.dev/serving-inputs"
"""Annotates a child that serves with a hash of what its pods were made from, without anything of the installation."""
APPLIED_TEMPLATE = "ftm.dev/applied-template"
"""Annotates a child that serves with the templates of its pods that were applied, as JSON."""
MOST_TEMPLATE_BYTES = 128 * 1024
"""Half of what an object's annotations may hold. A larger template is not remembered, and follows the installation."""
NOT_OF_THE_PODS = {
    "replicas",
    "strategy",
    "canary",
    "kept_versions",
    "service",
    "disruption_budget",
    "autoscaling",
    "gateway",
}
"""Fields of spec.serving that change no pod."""
EXPLANATIONS = {"reasons", "rejected", "measured", "shortage", "memory", "kv_cache_tokens", "input_hash"}
"""Fields of a plan that explain it."""


def with_memory(child: Manifest, key: str, count: ReplicaCount) -> Manifest:
    """Returns the child with the hashes by which changes are noticed, and with the templates that are applied."""
    hashed = with_spec_hash(child)
    left = {LEFT_REPLICAS: count.left_to} if count.left_to else {}
    annotations = {**hashed["metadata"]["annotations"], SERVING_INPUTS: key, **left}
    applied = json.dumps(templates(child), ensure_ascii=False, separators=(",", ":"))
    if len(applied.encode()) <= MOST_TEMPLATE_BYTES:
        annotations[APPLIED_TEMPLATE] = applied
    return {**hashed, "metadata": {**hashed["metadata"], "annotations": annotations}}


def with_kept_templates(made: Manifest, live: Manifest, served: ServedModel, *, was_served: bool) -> Manifest:
    """Returns the child with the templates that were applied before, if all that they were made from is the same.

    A child of a version that remembered nothing is as the spec says if `was_served`: its present generation was ready.
    """
    annotations = live["metadata"].get("annotations") or {}
    template = answering_template(live)
    if template_hash(template) == template_hash(answering_template(made)):
        return made
    if SERVING_INPUTS not in annotations:
        same = was_served and artifact_digest(template) == served.weights.digest
        return _with_templates(made, templates(live), served) if same else made
    if annotations[SERVING_INPUTS] != inputs_hash(served):
        return made
    try:
        return _with_templates(made, json.loads(annotations[APPLIED_TEMPLATE]), served)
    except (KeyError, ValueError):
        return made


def kept_back(child: Manifest, made: Manifest) -> str:
    """Returns what to say of a child whose pods are not as the installation makes them now; nothing where they are."""
    if template_hash(answering_template(child)) == template_hash(answering_template(made)):
        return ""
    until = f"until spec.serving changes, or the annotation {ROLLOUT_ANNOTATION}"
    present, installed = engine_image(child), engine_image(made)
    if present != installed:
        return f"the installation's {installed} is not rolled out in the place of {present} {until}"
    return f"the Pods stay as an earlier version of the operator made them {until}"


def inputs_hash(served: ServedModel) -> str:
    """Returns the key of a version: a hash of what its pods are made from, without anything of the installation."""
    model, plan = served.model, served.plan
    spec = model.spec.serving.model_dump(mode="json", exclude_defaults=True, exclude=NOT_OF_THE_PODS)
    decided = plan.model_dump(mode="json", exclude_defaults=True, exclude=EXPLANATIONS)
    source = served.weights.source
    loaded = [source_image] if (source_image := served.weights.image) else []
    beside = [[adapter.uri, adapter.digest] for adapter in served.started_with]
    weights = [source.uri, source.digest, source.secret_name, *loaded, *beside]
    checked = [[served.reference.digest, model.spec.verification.policy]] if served.reference else []
    return short_hash([spec, decided, weights, model.metadata.annotations.get(ROLLOUT_ANNOTATION), *checked], 16)


def _with_templates(made: Manifest, part: Manifest, served: ServedModel) -> Manifest:
    bare = {name: value for name, value in made["metadata"].items() if name != "annotations"}
    return with_memory(with_templates({**made, "metadata": bare}, part), inputs_hash(served), served.count)


def key_of(child: Manifest) -> str | None:
    """Returns the key of the version that a child has; None where it remembers none."""
    key: str | None = (child["metadata"].get("annotations") or {}).get(SERVING_INPUTS)
    return key
