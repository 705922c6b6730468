"""Hands kopf's watch events to the controller. No handler decides, waits or writes."""

import dataclasses
import os
from typing import Any

import kopf

from ftm_operator.api.v1alpha1 import KIND
from ftm_operator.runtime.cluster import CHILD_SELECTOR, CHILDREN, PLURALS
from ftm_operator.runtime.controller import Controller
from ftm_operator.runtime.view import gpu_inventory

WATCH_RECONNECT_SECONDS = 300


def registry(controller: Controller, *, gpus: bool) -> kopf.OperatorRegistry:
    """Returns handlers for the events of our kinds, and for those that tell of GPUs if they are observed."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)

    def handler(kind: str, api_version: str) -> Any:
        async def hand_over(event: Any, **_: Any) -> None:
            item = dict(event["object"])
            controller.watch_event(event["type"], {**item, "kind": kind, "apiVersion": api_version})

        return hand_over

    for kind in (KIND, *CHILDREN, *(gpu_inventory.KINDS if gpus else ())):
        api_version, plural = PLURALS[kind]
        kopf.on.event(api_version, plural, registry=handlers, id=f"watch-{plural}")(handler(kind, api_version))
    return handlers


def settings() -> kopf.OperatorSettings:
    """Returns kopf's settings: the API server filters children, and kopf itself writes nothing."""
    configured = kopf.OperatorSettings()
    configured.posting.enabled = False
    configured.watching.server_timeout = WATCH_RECONNECT_SECONDS
    configured.networking.request_timeout = 30
    for kind in CHILDREN:
        api_version, plural = PLURALS[kind]
        configured.watching.label_selectors[api_version, plural] = CHILD_SELECTOR
    return configured


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Returns the credentials that `Cluster.connect` takes; in a pod by address, so that no cluster DNS is needed."""
    in_pod = kopf.login_with_service_account(**kwargs)
    if in_pod is None:
        return kopf.login_with_kubeconfig(**kwargs)
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return dataclasses.replace(in_pod, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")
