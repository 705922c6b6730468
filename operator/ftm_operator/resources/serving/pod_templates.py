"""Finds the templates of the pods in a child that serves: a Deployment's one, a LeaderWorkerSet's two."""

from ftm_operator.engines import llama_server, vllm
from ftm_operator.resources.metadata import ARTIFACT_DIGEST, POD_TEMPLATE, Manifest


def templates(child: Manifest) -> Manifest:
    """Returns the part of a child's spec that describes its pods."""
    part: Manifest = child["spec"][_field(child)]
    return part


def with_templates(child: Manifest, part: Manifest) -> Manifest:
    """Returns the child with another such part."""
    return {**child, "spec": {**child["spec"], _field(child): part}}


def answering_template(child: Manifest) -> Manifest:
    """Returns the template of the pods that answer."""
    part = templates(child)
    template: Manifest = part.get("leaderTemplate", part)
    return template


def template_hash(made: Manifest) -> str | None:
    """Returns the hash of what a pod, or a template, was made from."""
    return _annotation(made, POD_TEMPLATE)


def artifact_digest(made: Manifest) -> str | None:
    """Returns the digest of the artifact that a pod, or a template's pods, serve."""
    return _annotation(made, ARTIFACT_DIGEST)


def engine_image(child: Manifest) -> str:
    """Returns the image of the engine that answers."""
    containers = answering_template(child)["spec"]["containers"]
    return next((str(each["image"]) for each in containers if each["name"] in (vllm.NAME, llama_server.NAME)), "")


def _field(child: Manifest) -> str:
    return "template" if "template" in child["spec"] else "leaderWorkerTemplate"


def _annotation(made: Manifest, name: str) -> str | None:
    value: str | None = (made["metadata"].get("annotations") or {}).get(name)
    return value
