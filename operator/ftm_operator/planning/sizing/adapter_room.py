"""Works out the room for adapters that an engine gets beside the base in mode Dynamic. Pure.

    rank         the largest of the adapters that there are, LEAST_RANK at least, rounded up to one that vLLM takes
    slots        adapters in one batch, each with memory of its own on the GPU: as many as there are, within SLOTS, and
                 fewer rather than more GPUs
    CPU slots    adapters in the host's memory: as many as there are, LEAST_CPU_SLOTS at least

What the spec says of them goes before. An adapter without a slot takes the one that was used least recently.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ftm_jobs.contract.byte_counts import format_gib
from ftm_jobs.contract.facts import AdapterFacts, Facts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec, PlannedAdapters
from ftm_operator.planning.memory.lora import RANKS, adapter_bytes
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.rules.rejection import Rejection

LEAST_RANK = 16
SLOTS = range(4, 9)
"""The numbers of slots that are chosen where the spec names none; fewer where another GPU would be taken."""
LEAST_CPU_SLOTS = 32
_OTHERS = "others are read from the Pod's disk when they are asked"


@dataclass(frozen=True)
class AdapterRoom:
    """The room that is wanted, with the slots that would do as well."""

    max_rank: int
    slots: tuple[int, ...]
    """The numbers of slots that may be, the preferred one first."""
    cpu_slots: int
    each_bytes: int
    """Bytes of one adapter in the host's memory."""
    why_rank: str
    why_slots: str

    def planned(self, slots: int) -> PlannedAdapters:
        """Returns the room with so many slots, as status shows it."""
        return PlannedAdapters(
            max_rank=self.max_rank, slots=slots, cpu_slots=self.cpu_slots, host_bytes=self.host_bytes
        )

    @property
    def host_bytes(self) -> int:
        """Returns the bytes of the host's memory that the adapters take for each rank of the engine."""
        return self.cpu_slots * self.each_bytes

    def reasons(self, slots: int) -> tuple[str, ...]:
        """Returns why the room is as it is, with the slots that were chosen."""
        preferred = self.slots[0]
        why = f"{preferred} would take more GPUs" if slots < preferred else self.why_slots
        return (
            f"adapters up to rank {self.max_rank}: {self.why_rank}",
            f"{'1 adapter' if slots == 1 else f'{slots} adapters'} in one batch: {why}",
            f"{self.cpu_slots} adapters in the host's memory, {format_gib(self.host_bytes)} for each GPU; {_OTHERS}",
        )


def adapter_room(spec: FineTunedModelSpec, facts: Facts, others: Sequence[AdapterFacts]) -> AdapterRoom | Rejection:
    """Returns the room for the spec's adapters and `others`, or the adapter that the spec leaves no room for."""
    asked, adapters = spec.serving.dynamic, (*facts.adapters, *others)
    largest = max((each.rank for each in adapters), default=0)
    rank = rank_for(asked.max_rank or max(largest, LEAST_RANK))
    beyond = next((own for own, each in zip(spec.adapters, facts.adapters, strict=False) if each.rank > rank), None)
    if beyond:
        limit = f"spec.serving.dynamic.maxRank is {asked.max_rank}; set it to {largest} or more"
        return Rejection("MaxRank", f'adapter "{beyond.name}" has rank {largest}, and {limit}')
    cpu_slots = asked.cpu_slots or max(len(adapters), LEAST_CPU_SLOTS, asked.slots or 0)
    slots, why_slots = _slots(asked.slots, len(adapters), cpu_slots)
    sizes = [each.weight_bytes for each in adapters]
    return AdapterRoom(
        max_rank=rank,
        slots=slots,
        cpu_slots=cpu_slots,
        each_bytes=max(sizes, default=0) or adapter_bytes(architecture(facts.base), rank),
        why_rank=_why_rank(asked.max_rank, largest, rank),
        why_slots=why_slots,
    )


def rank_for(rank: int) -> int:
    """Returns the smallest rank that vLLM takes and that is no smaller; its largest, if there is none."""
    return next((each for each in RANKS if each >= rank), RANKS[-1])


def _slots(asked: int | None, adapters: int, cpu_slots: int) -> tuple[tuple[int, ...], str]:
    if asked:
        return (asked,), "from spec.serving.dynamic.slots"
    least, most = SLOTS[0], SLOTS[-1]
    wanted = min(max(adapters, least), most)
    why = "the least by default" if wanted > adapters else f"of the {adapters} that there are, {most} at most"
    if cpu_slots < wanted:
        wanted, why = cpu_slots, "as many as spec.serving.dynamic.cpuSlots allows"
    return tuple(range(wanted, 0, -1)), why


def _why_rank(asked: int | None, largest: int, rank: int) -> str:
    wanted = asked or max(largest, LEAST_RANK)
    rounded = f"; vLLM takes {rank} for {wanted}" if wanted != rank else ""
    if asked:
        return f"from spec.serving.dynamic.maxRank{rounded}"
    return (f"the largest of those that there are{rounded}") if largest >= LEAST_RANK else "the least that is planned"
