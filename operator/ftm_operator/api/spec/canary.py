"""Holds the settings by which a new version gets a share of the requests before it gets all of them."""

from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field

from ftm_operator.api.schema import ATOMIC_LIST, Resource, Rule
from ftm_operator.api.spec.autoscaling import PrometheusAddress


class CanaryStep(Resource):
    """A share of the requests, and how long the new version keeps it."""

    weight: Annotated[int, Field(strict=True, ge=1, le=100)]
    """The new version's share of the Gateway's requests, in percent."""
    pause_seconds: Annotated[int, Field(strict=True, ge=0, le=604_800)] | None = None
    """Seconds until the next step; absent: until `ftm promote`."""


class CanaryAnalysis(Resource):
    """The figures of the new version that are held against the old one's, from vLLM's metrics."""

    prometheus: PrometheusAddress | None = None
    """The address of the Prometheus that reads the engines' metrics; absent: the installation's."""
    interval_seconds: Annotated[int, Field(strict=True, ge=5, le=3600)] = 30
    """Seconds from one look at the figures to the next."""
    min_requests: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 20
    """Requests that the new version must have answered before it is judged. A step lasts at least until then."""
    max_error_percent: Annotated[int, Field(strict=True, ge=0, le=100)] = 1
    """Percent of requests that may fail, or be refused with 4xx, beyond the old version's share."""
    max_slowdown_percent: Annotated[int, Field(strict=True, ge=0, le=1000)] = 50
    """Percent by which the mean time to the first token, and per token after it, may be above the old version's."""


class Canary(Resource):
    """The way of a new version from its first request to all of them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "a later step has no more requests than the one before it; write the steps by rising weight",
            "!has(self.steps) || (self.steps.map(step, step.weight).isSorted() && "
            "self.steps.all(step, self.steps.exists_one(other, other.weight == step.weight)))",
            lambda canary: all(before.weight < after.weight for before, after in pairwise(canary.steps)),
        ),
    )
    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1, max_length=16), ATOMIC_LIST] = (
        CanaryStep(weight=10, pause_seconds=300),
        CanaryStep(weight=50, pause_seconds=300),
    )
    """The shares of the requests, one after the other; after the last one the new version gets all of them."""
    replicas: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """Pods of the new version until it gets all requests."""
    analysis: CanaryAnalysis | None = None
    """The figures by which a new version is rolled back; absent: it is rolled back where its Pods do not answer, or
    where served verification fails."""
