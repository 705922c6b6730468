"""Refuses a way of loading weights that cluster, engine or store do not have, before anything is built."""

import re

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import Plan
from ftm_operator.engines import llama_server
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context
from ftm_operator.steps.source import SourceArgument

IMAGE_VOLUMES = (1, 36)
"""The version of Kubernetes in which image volumes are stable."""
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def loading_objection(context: Context, plan: Plan, store: SourceArgument) -> Hold | None:
    """Returns why the weights cannot come to the engine as spec.serving.loading says, if they cannot."""
    objections = {"Image": _no_image_volumes(context.observed.kubernetes), "Stream": _no_stream(plan, store)}
    objection = objections.get(context.model.spec.serving.loading)
    if objection is None:
        return None
    message = f"spec.serving.loading {context.model.spec.serving.loading} {objection}"
    return Hold("Failed", OperatorReason.LOADING_NOT_POSSIBLE, message, stalled=True)


def _no_image_volumes(kubernetes: str | None) -> str | None:
    version = _VERSION.match(kubernetes or "")
    if version is None or (int(version[1]), int(version[2])) >= IMAGE_VOLUMES:
        return None
    oldest = ".".join(map(str, IMAGE_VOLUMES))
    return f"takes Kubernetes {oldest} and newer, and this is {kubernetes}; set it to Fetch"


def _no_stream(plan: Plan, store: SourceArgument) -> str | None:
    if plan.engine == llama_server.ENGINE:
        return "is vLLM's, and llama.cpp serves this model; set it to Fetch"
    if not store.uri.startswith("s3://"):
        return f"reads from S3, and the artifact store is {store.uri}; set it to Fetch, or spec.artifacts.uri to s3://"
    return None
