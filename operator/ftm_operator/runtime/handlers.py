"""Hands kopf's watch events to the controller. No handler decides, waits or writes."""

import asyncio
import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import kopf
from kopf._cogs.clients import errors, watching

from ftm_operator.runtime.controller import Controller
from ftm_operator.runtime.kinds import CHILD_SELECTOR, CHILDREN, PLURALS
from ftm_operator.runtime.resource_queue import KINDS
from ftm_operator.runtime.view import gpu_inventory

WATCH_RECONNECT_SECONDS = 300
NOT_FOUND_SECONDS = 1.0
log = logging.getLogger(__name__)


@contextmanager
def patient_watches() -> Iterator[None]:
    """Has kopf watch again what is not found, which ends it otherwise: its `continuous_watch` lets a 404 through.

    A kind is told of before every API server serves it, as a CRD that was made this moment, and after it has gone.
    """
    original = watching.continuous_watch

    async def patient(**arguments: Any) -> AsyncIterator[Any]:
        try:
            async with aclosing(original(**arguments)) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        except errors.APINotFoundError:
            log.warning("%s is not served, or not yet: it is watched again", arguments["resource"])
            await asyncio.sleep(NOT_FOUND_SECONDS)

    watching.continuous_watch = patient
    try:
        yield
    finally:
        watching.continuous_watch = original


def registry(controller: Controller, *, gpus: bool) -> kopf.OperatorRegistry:
    """Returns handlers for the events of our kinds, and for those that tell of GPUs if they are observed."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)

    def handler(kind: str, api_version: str) -> Any:
        async def hand_over(event: Any, **_: Any) -> None:
            item = dict(event["object"])
            controller.watch_event(event["type"], {**item, "kind": kind, "apiVersion": api_version})

        return hand_over

    for kind in (*KINDS, *CHILDREN, *(gpu_inventory.KINDS if gpus else ())):
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
