"""Builds what all our pods share: Pod Security `restricted`, credentials and claims as mounts, no service links.

A container's root file system is read-only; /tmp is an emptyDir and the home directory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ftm_jobs.contract.mounts import AGENT_PORT, CLAIMS
from ftm_operator.api.schema import Resource
from ftm_operator.api.spec.pod_fields import PodFields
from ftm_operator.api.spec.pod_names import OWN_CONTAINERS
from ftm_operator.api.spec.pod_template import TemplateMetadata
from ftm_operator.resources.metadata import Manifest
from ftm_operator.resources.strategic_merge import merged
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
SIDECAR: Manifest = {
    "restartPolicy": "Always",
    "readinessProbe": {
        "httpGet": {"path": "/ready", "port": AGENT_PORT},
        "periodSeconds": 2,
        "failureThreshold": 1,
        "timeoutSeconds": 5,
    },
}
"""The fields of a native sidecar of ours: the pod is ready while it is, which it says at AGENT_PORT."""


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


def pod_spec(
    settings: Settings,
    fields: PodFields,
    sources: Sequence[SourceArgument] = (),
    volumes: Sequence[Manifest] = (),
    node_selector: Mapping[str, str] | None = None,
    tmp: Manifest = TMP_VOLUME,
) -> Manifest:
    """Returns the fields of a pod's spec that all our pods share; only those with claims say who owns files.

    `volumes` are the pod's own, beside `tmp` for /tmp and the sources; `node_selector` is the plan's, which the
    spec's goes before.
    """
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
        "volumes": [tmp, *volumes, *_source_volumes(sources), *_written(fields.volumes)],
        **_set(
            imagePullSecrets=_pull_secrets(settings, fields),
            serviceAccountName=fields.service_account_name,
            nodeSelector={**(node_selector or {}), **fields.node_selector},
            tolerations=_written(fields.tolerations),
            affinity=fields.affinity,
            topologySpreadConstraints=list(fields.topology_spread_constraints),
            priorityClassName=fields.priority_class_name,
            runtimeClassName=fields.runtime_class_name,
            schedulerName=fields.scheduler_name,
        ),
    }


def with_template(pod: Manifest, fields: PodFields) -> Manifest:
    """Returns a pod's spec with what spec.….podTemplate says of it, without containers of ours that it does not run."""
    template = fields.pod_template
    if template is None or template.spec is None:
        return pod
    patch = template.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for kind in ("containers", "initContainers"):
        runs = {container["name"] for container in pod.get(kind, [])}
        asked = patch.pop(kind, [])
        patch |= _set(**{kind: [each for each in asked if each["name"] in runs or each["name"] not in OWN_CONTAINERS]})
    result: Manifest = merged(pod, patch)
    return result


def user_metadata(fields: PodFields) -> Manifest:
    """Returns the labels and annotations that the spec gives a pod."""
    template = (fields.pod_template and fields.pod_template.metadata) or TemplateMetadata()
    return _set(
        labels={**fields.pod_labels, **template.labels},
        annotations={**fields.pod_annotations, **template.annotations},
    )


def with_user_metadata(metadata: Manifest, fields: PodFields) -> Manifest:
    """Returns the metadata of a pod's template with those of the spec."""
    return {**metadata, **{name: {**own, **metadata.get(name, {})} for name, own in user_metadata(fields).items()}}


def with_user_fields(container: Manifest, fields: PodFields, own: Sequence[Manifest] = ()) -> Manifest:
    """Returns the container of an engine or a step with its own variables, and the variables and mounts of the spec.

    A variable of the spec wins over one of ours.
    """
    users = _written(fields.env)
    names = {variable["name"] for variable in users}
    return {
        **container,
        "env": [
            *(variable for variable in own if variable["name"] not in names),
            *users,
            *([] if HOME["name"] in names else [HOME]),
        ],
        **_set(envFrom=_written(fields.env_from)),
        "volumeMounts": [*container["volumeMounts"], *_written(fields.volume_mounts)],
    }


def _pull_secrets(settings: Settings, fields: PodFields) -> list[Manifest]:
    names = (*settings.image_pull_secrets, *(secret.name for secret in fields.image_pull_secrets))
    return [{"name": name} for name in dict.fromkeys(names)]


def _written(items: Sequence[Resource]) -> list[Manifest]:
    return [item.to_json() for item in items]


def _set(**values: Any) -> Manifest:
    """Returns the fields that have a value."""
    return {name: value for name, value in values.items() if value}


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
