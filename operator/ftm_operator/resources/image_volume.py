"""Mounts an artifact that was pushed to a registry in the place of files that are fetched.

The volume is an image by its digest, so the kubelet's runtime proves every layer while it pulls; a node pulls it once.
"""

from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.serving.engine import MODEL_VOLUME, ServedWeights
from ftm_operator.steps.publish import image_repository


def model_volume(weights: ServedWeights) -> Manifest:
    """Returns the volume with the model."""
    if weights.image is None:
        return MODEL_VOLUME
    return {"name": MODEL_VOLUME["name"], "image": {"reference": weights.image, "pullPolicy": "IfNotPresent"}}


def with_pull_secret(pod: Manifest, model: FineTunedModel, weights: ServedWeights) -> Manifest:
    """Returns the pod with the Secret by which the kubelet pulls the model's image; it has none per volume."""
    repository = image_repository(model)
    if weights.image is None or repository is None or repository.secret_name is None:
        return pod
    names = [{"name": repository.secret_name}, *pod.get("imagePullSecrets", [])]
    return {**pod, "imagePullSecrets": [secret for at, secret in enumerate(names) if secret not in names[:at]]}
