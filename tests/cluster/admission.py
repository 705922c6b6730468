"""Admission policies of a cluster's owners, in the namespace of a Kubectl, in force within a `with`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.kubectl import Kubectl, KubectlError
from tests.cluster.kubelet import eventually

"""The API server looks for policies now and then."""
GROUP = "admissionregistration.k8s.io/v1"


@contextmanager
def deployments_denied(kubectl: Kubectl, why: str) -> Iterator[None]:
    """No Deployment is made."""
    spec = {
        "matchConstraints": {"resourceRules": [_deployments("CREATE")]},
        "validations": [{"expression": "false", "message": why}],
    }
    with _policy(
        kubectl, "Validating", "no-deployments", spec, {"validationActions": ["Deny"]}, lambda told: why in told
    ):
        yield


@contextmanager
def tolerations_added(kubectl: Kubectl) -> Iterator[None]:
    """Every Deployment's pods that tolerate something tolerate `policy` too."""
    patch = (
        "[JSONPatch{op: 'add', path: '/spec/template/spec/tolerations/-', "
        "value: Object.spec.template.spec.tolerations{key: 'policy', operator: 'Exists'}}]"
    )
    tolerations = "object.spec.template.spec.?tolerations.orValue([])"
    once = f"{tolerations}.size() > 0 && !{tolerations}.exists(t, t.key == 'policy')"
    spec = {
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [_deployments("CREATE", "UPDATE")]},
        "matchConditions": [{"name": "once", "expression": once}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
    with _policy(kubectl, "Mutating", "gpu-tolerations", spec, {}, lambda told: '"key": "policy"' in told):
        yield


def _deployments(*operations: str) -> dict[str, Any]:
    return {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": operations, "resources": ["deployments"]}


@contextmanager
def _policy(
    kubectl: Kubectl,
    kind: str,
    name: str,
    spec: dict[str, Any],
    binding: dict[str, Any],
    in_force: Callable[[str], bool],
) -> Iterator[None]:
    """A policy is in force when it shows in what the API server tells of a Deployment that it only tries."""
    namespace = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}}
    bound = {"policyName": name, "matchResources": namespace, **binding}
    identity = {"apiVersion": GROUP, "metadata": {"name": name}}
    kubectl.apply(
        {**identity, "kind": f"{kind}AdmissionPolicy", "spec": {"failurePolicy": "Fail", **spec}},
        {**identity, "kind": f"{kind}AdmissionPolicyBinding", "spec": bound},
    )
    kinds = f"{kind}AdmissionPolicy,{kind}AdmissionPolicyBinding".lower()
    try:
        eventually("the policy", lambda: in_force(_tried(kubectl)))
        yield
    finally:
        kubectl("delete", kinds, name)
        eventually("no policy", lambda: not in_force(_tried(kubectl)))


def _tried(kubectl: Kubectl) -> str:
    tolerant = {"containers": [{"name": "a", "image": "a"}], "tolerations": [{"key": "k", "operator": "Exists"}]}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": tolerant}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "try"}, "spec": spec}
    try:
        return kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(deployment))
    except KubectlError as error:
        return str(error)
