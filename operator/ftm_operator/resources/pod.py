"""What all our pods share: Pod Security `restricted`, credentials and claims as mounts, no service links.

A container's root file system is read-only; /tmp is an emptyDir and the home directory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.contract.mounts import CLAIMS
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
    writable: bool = False

    @property
    def claim(self) -> str | None:
        """The PersistentVolumeClaim that holds it, if one does."""
        scheme, _, rest = self.uri.partition("://")
        return rest.partition("/")[0] if scheme == "pvc" else None

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


def source_mounts(sources: Sequence[Source]) -> list[Manifest]:
    """Secrets, and each claim once; a claim is writable if any of the sources in it is."""
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


def source_volumes(sources: Sequence[Source]) -> list[Manifest]:
    """Secrets are optional, so that a missing one is reported by the Job in a sentence and not by a pod that never
    starts; of a missing claim the scheduler tells."""
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


def _claims(sources: Sequence[Source]) -> list[str]:
    return list(dict.fromkeys(source.claim for source in sources if source.claim))


def pod_spec(settings: Settings, sources: Sequence[Source]) -> Manifest:
    """The fields of a pod's spec that never differ between our pods, but for the owner of files in claims."""
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
    }


def container(name: str, image: str, settings: Settings) -> Manifest:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "securityContext": CONTAINER_SECURITY,
    }


def quantity(size_bytes: int) -> str:
    """As the API server writes it back: whole mebibytes, or gibibytes when they are whole."""
    mebibytes = -(-size_bytes // 2**20)
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"
