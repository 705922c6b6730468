"""Says what to do about what the cluster's own programs report: refusals, failed mounts and pulls, lost nodes. Pure."""

import re

_REMEDIES = (
    (r"exceeded quota", "raise the namespace's quota, or free some of it"),
    (
        r"must specify|failed quota",
        "set spec.jobs.resources, spec.serving.resources and spec.serving.fetch.resources as the quota asks",
    ),
    (r"is being terminated", "create the FineTunedModel in a namespace that stays"),
    (r"cannot \w+ resource", "install the chart of the operator's version, whose roles allow it"),
    (r"failed calling webhook", "mend the webhook that it names"),
    (
        r"violates PodSecurity.*(ftm-cache.*hostPath|hostPath.*ftm-cache)",
        "set spec.serving.cache.claimName instead of hostPath, or set the namespace's Pod Security level to privileged",
    ),
    (r"violates PodSecurity", "change the namespace's Pod Security level, or the fields of the spec that it names"),
    (r"security context constraint", "let the pods' ServiceAccount use a security context constraint that fits"),
    (
        r"serviceaccount \"[^\"]*\" not found|error looking up service account",
        "create the ServiceAccount, or name another one",
    ),
    (r"no PriorityClass with name", "create the PriorityClass, or name another one"),
    (r"admission webhook|denied|AdmissionPolicy", "change the spec as the policy says, or the policy"),
    (
        r"is invalid|unknown field|strict decoding|Unsupported value|not declared in schema",
        "correct the field of the spec",
    ),
)
_POD_REMEDIES = (
    (r"secret \"[^\"]*\" not found", "create the Secret, or correct its name"),
    (r"configmap \"[^\"]*\" not found", "create the ConfigMap, or correct its name"),
    (r"persistentvolumeclaim \"[^\"]*\" not found", "create the PersistentVolumeClaim, or correct its name"),
    (r"couldn't find key", "add the key, or correct its name"),
    (r"^InvalidImageName", "correct the name of the image"),
    (
        r"^(ErrImagePull|ImagePullBackOff).*(unauthorized|[Ff]orbidden|denied|\b40[13]\b|authorization)",
        "check the image's name, and give the pods an image pull Secret for its registry",
    ),
    (
        r"^(ErrImagePull|ImagePullBackOff|ErrImageNeverPull)",
        "check the image's name, and that the nodes reach its registry",
    ),
    (r"^UnexpectedAdmissionError", "see that the node's device plugin offers the GPUs that it says it has"),
    (r"^Evicted", "request as much memory and ephemeral storage as it uses, or free the nodes"),
    (r"^Preempt|PreemptionByScheduler", "free the nodes, or give it a higher priority class"),
    (r"^NodeLost|DeletionByTaintManager", "see to the node"),
    (r"FailedMount|FailedAttachVolume", "see that the volume can be mounted on the node"),
)


def remedy(said: str) -> str | None:
    """Returns what to do when the API server refuses an object in these words; None where they do not tell."""
    return _first(_REMEDIES, said)


def with_remedy(said: str) -> str:
    """Returns what is said of a pod, with what to do where that is known."""
    found = _first(_POD_REMEDIES, said) or remedy(said)
    return f"{said.rstrip('. ')}; {found}" if found else said


def _first(remedies: tuple[tuple[str, str], ...], said: str) -> str | None:
    return next((advice for pattern, advice in remedies if re.search(pattern, said)), None)
