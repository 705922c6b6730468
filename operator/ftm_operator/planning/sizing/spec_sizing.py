"""Sizes a model for what its spec asks and a cluster offers; says what would fit where nothing does. Pure.

AWQ's groups must divide what each rank holds, so a smaller group may allow a size that a larger one forbids: of the
groups that may be, the one that takes the fewest GPUs is chosen, and of those the largest. So it is with the slots for
adapters: as many as take no GPU more than one slot would.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ftm_jobs.contract.facts import BaseFacts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.memory.engine_setup import AdapterSlots, EngineSetup, version_of_image
from ftm_operator.planning.model.architecture import Architecture, architecture
from ftm_operator.planning.rules.awq import GROUP_SIZES, AwqChoice
from ftm_operator.planning.rules.rejection import Rejection
from ftm_operator.planning.sizing.adapter_room import AdapterRoom
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.offered_classes import nothing_offered, offered
from ftm_operator.planning.sizing.outcome import NoFit, RejectedLayout, Sizing
from ftm_operator.planning.sizing.remedies import remedies
from ftm_operator.planning.sizing.request import DEFAULT_ENGINE, KnownEngine, Request, request_of


@dataclass(frozen=True)
class Offer:
    """The GPUs that exist, whether a replica may be spread over nodes, and what is known of the engine."""

    classes: tuple[AcceleratorClass, ...]
    several_nodes: bool = True
    engine: KnownEngine = DEFAULT_ENGINE
    room: AdapterRoom | None = None
    """The room for adapters that is wanted beside the base; None in mode Merged."""


@dataclass(frozen=True)
class NothingFits(Rejection):
    """The refusal of every layout; `reason` is the shortfall and the remedies in one sentence."""

    shortfall: str
    """The rejection that says most, with its numbers."""
    remedies: tuple[str, ...]
    """Sentences that each say what to write so that the model fits."""
    rejected: tuple[RejectedLayout, ...]


def size_spec(spec: FineTunedModelSpec, base: BaseFacts, awq: AwqChoice | None, offer: Offer) -> Sizing | Rejection:
    """Returns where the model is served and how, or what is too large, or which rule is broken, and what would fit."""
    classes = offered(spec, offer.classes)
    if not classes:
        return Rejection("NoAccelerators", nothing_offered(spec, offer.classes))
    model, requests = architecture(base), _requests(spec, awq, offer)
    answers = [size(model, request, classes) for request in requests]
    fitting = [answer for answer in answers if isinstance(answer, Sizing)]
    if fitting:
        return min(fitting, key=lambda sizing: (sizing.option.layout.gpus, sizing.option.layout.nodes))
    closest = -1 if offer.room else 0
    return _refusal(model, requests[closest], classes, answers[closest])


def _refusal(
    model: Architecture, request: Request, classes: Sequence[AcceleratorClass], answer: Sizing | NoFit
) -> Rejection:
    assert isinstance(answer, NoFit)
    if not answer.rejected:
        return Rejection(answer.rule, answer.reason)
    changes = tuple(remedies(model, request, classes, answer))
    sentence = "; ".join([answer.reason, *changes])
    return NothingFits(answer.rule, sentence, answer.reason, changes, answer.rejected)


def _requests(spec: FineTunedModelSpec, awq: AwqChoice | None, offer: Offer) -> list[Request]:
    """Returns a request for each way in which the weights may be packed, the preferred one first."""
    asked, engine, image = request_of(spec), offer.engine, spec.serving.image
    request = replace(
        asked,
        several_nodes=offer.several_nodes and not offer.room,
        corrections=engine.corrections,
        engine=replace(asked.engine, version=version_of_image(image) if image else engine.version),
    )
    if room := offer.room:
        return [replace(request, room=room, engine=_with_slots(request.engine, room, count)) for count in room.slots]
    if awq is None:
        return [request]
    groups = [awq.group_size]
    if spec.quantization.awq.group_size is None:
        groups += [group for group in GROUP_SIZES if group < awq.group_size]
    return [replace(request, scheme=awq.scheme(group)) for group in groups]


def _with_slots(engine: EngineSetup, room: AdapterRoom, count: int) -> EngineSetup:
    return replace(engine, slots=AdapterSlots(count, room.max_rank))
