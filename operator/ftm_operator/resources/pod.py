"""Builds what all our pods share: Pod Security `restricted`, credentials and claims as mounts, no service links.

A container's root file system is read-only; /tmp is an emptyDir and the home directory.
"""

from collections.abc import Mapping, Sequence

from ftm_jobs.contract.mounts import CLAIMS
from ftm_operator.api.v1alpha1 import Toleration
from ftm_operator.resources.metadata import Manifest
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument

USER = 65532
TERMINATION_LOG = "/dev/termination-log"

CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
TMP_MOUNT: Manifest = {"name": "tmp", "mountPath": "/tmp"}
TMP_VOLUME: Manifest = {"name": "tmp", "emptyDir": {}}
HOME: Manifest = {"name": "HOME", "value": "/tmp"}


def _source_mounts(sources: Sequence[SourceArgument]) -> list[Manifest]:
    """Returns mounts of Secrets, and of each claim once; a claim is writable if any of the sources in it is."""
    secrets = [
        {"name": f"{source.role}-credentials", "mountPath": source.credentials, "readOnly": True}
        for source in sources
        if source.secret_name
    ]
    written = {source.claim for source in sources if source.writable}
    claims = [
        {
            "name": f"claim-{number}",
            "mountPath": f"{CLAIMS}/{claim}",
            **({} if claim in written else {"readOnly": True}),
        }
        for number, claim in enumerate(_claims(sources))
    ]
    return [*secrets, *claims]


def _source_volumes(sources: Sequence[SourceArgument]) -> list[Manifest]:
    """Returns the volumes of Secrets and claims.

    Secrets are optional, so that the Job reports a missing one in a sentence; the scheduler tells of a missing claim.
    """
    secrets = [
        {"name": f"{source.role}-credentials", "secret": {"secretName": source.secret_name, "optional": True}}
        for source in sources
        if source.secret_name
    ]
    claims = [
        {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": claim}}
        for number, claim in enumerate(_claims(sources))
    ]
    return [*secrets, *claims]


def _claims(sources: Sequence[SourceArgument]) -> list[str]:
    return list(dict.fromkeys(source.claim for source in sources if source.claim))


def pod_spec(settings: Settings, sources: Sequence[SourceArgument], volumes: Sequence[Manifest]) -> Manifest:
    """Returns the fields of a pod's spec that all our pods share; only those with claims say who owns files.

    `volumes` are the pod's own, beside /tmp and the sources.
    """
    pull_secrets = [{"name": name} for name in settings.image_pull_secrets]
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # A claim may hold terabytes, which need not change hands at every start.
            **({"fsGroupChangePolicy": "OnRootMismatch"} if _claims(sources) else {}),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
        "volumes": [TMP_VOLUME, *volumes, *_source_volumes(sources)],
    }


def placement(node_selector: Mapping[str, str], tolerations: Sequence[Toleration]) -> Manifest:
    """Returns the fields of a pod's spec that say on which nodes it may run."""
    return {
        **({"nodeSelector": dict(node_selector)} if node_selector else {}),
        **({"tolerations": [toleration.to_json() for toleration in tolerations]} if tolerations else {}),
    }


def container(
    name: str,
    image: str,
    settings: Settings,
    *,
    sources: Sequence[SourceArgument] = (),
    mounts: Sequence[Manifest] = (),
) -> Manifest:
    """Returns the fields of a container that all our containers share.

    `mounts` are the container's own, beside /tmp and those of the sources.
    """
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "securityContext": CONTAINER_SECURITY,
        "env": [HOME],
        "volumeMounts": [TMP_MOUNT, *mounts, *_source_mounts(sources)],
    }
