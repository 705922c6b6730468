"""What all our pods share: Pod Security `restricted`, credentials as mounted Secrets, no service links.

A container's root file system is read-only; /tmp is an emptyDir and the home directory.
"""

from dataclasses import dataclass

from ftm_operator.resources.metadata import Manifest
from ftm_operator.settings import Settings

USER = 65532
CREDENTIALS = "/var/run/ftm"

CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
TMP_MOUNT: Manifest = {"name": "tmp", "mountPath": "/tmp"}
TMP_VOLUME: Manifest = {"name": "tmp", "emptyDir": {}}
HOME: Manifest = {"name": "HOME", "value": "/tmp"}


@dataclass(frozen=True)
class Source:
    """One SOURCE argument of a Job and the Secret that it is read with."""

    role: str
    """base, adapter-0, …, artifacts."""
    uri: str
    secret_name: str | None
    digest: str | None = None
    scale: float = 1.0

    @property
    def credentials(self) -> str:
        """Where the Secret is mounted: the path tells role and name to who reads it in a message."""
        return f"{CREDENTIALS}/{self.role}/{self.secret_name}"

    def argument(self) -> str:
        """URI[,scale=S][,digest=D][,credentials=DIR], as `python -m ftm_jobs` reads it."""
        return ",".join(
            [
                self.uri,
                *([f"scale={self.scale}"] if self.scale != 1.0 else []),
                *([f"digest={self.digest}"] if self.digest else []),
                *([f"credentials={self.credentials}"] if self.secret_name else []),
            ]
        )


def credential_mounts(sources: list[Source]) -> list[Manifest]:
    return [
        {"name": f"{source.role}-credentials", "mountPath": source.credentials, "readOnly": True}
        for source in sources
        if source.secret_name
    ]


def credential_volumes(sources: list[Source]) -> list[Manifest]:
    """Optional, so that a missing Secret is reported by the Job in a sentence and not by a pod that never starts."""
    return [
        {"name": f"{source.role}-credentials", "secret": {"secretName": source.secret_name, "optional": True}}
        for source in sources
        if source.secret_name
    ]


def pod_spec(settings: Settings) -> Manifest:
    """The fields of a pod's spec that never differ between our pods."""
    pull_secrets = [{"name": name} for name in settings.image_pull_secrets]
    return {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
    }


def container(name: str, image: str, settings: Settings) -> Manifest:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "securityContext": CONTAINER_SECURITY,
    }
