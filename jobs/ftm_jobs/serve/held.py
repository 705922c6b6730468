"""Says how each wanted adapter stands with the engine, for the agent's log and its readiness. Pure."""

from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.run_time_adapters import AdapterState, HeldAdapter, WantedAdapter
from ftm_jobs.errors import Reason
from ftm_jobs.serve.actions import Situation, without_room


def held_adapters(situation: Situation) -> tuple[HeldAdapter, ...]:
    """Returns the standing of each wanted adapter, in their order."""
    lacking = without_room(situation)
    return tuple(_held(situation, adapter, adapter.digest in lacking) for adapter in situation.wanted.adapters)


def _held(situation: Situation, adapter: WantedAdapter, lacks_room: bool) -> HeldAdapter:
    trial = situation.trial(adapter)
    serving = (situation.held or {}).get(adapter.name)
    proof = trial.proof
    answered = HeldAdapter(
        name=adapter.name,
        digest=adapter.digest,
        state=AdapterState.LOADING,
        serving=serving,
        reason=trial.reason,
        message=trial.message,
        effect=proof.effect if proof else None,
        answers=proof.unexpected if proof else None,
    )
    if trial.has_failed:
        return answered.model_copy(update={"state": AdapterState.FAILED})
    if lacks_room:
        message = (
            f"its {format_bytes(adapter.total_bytes)} do not fit beside the other adapters in the "
            f"{format_bytes(situation.disk_bytes or 0)} that they may take on a pod's disk"
        )
        full = {"state": AdapterState.FAILED, "reason": Reason.DISK_FULL, "message": message}
        return answered.model_copy(update=full)
    if serving == adapter.digest and proof:
        return answered.model_copy(update={"state": AdapterState.LOADED})
    return answered


def unanswered(situation: Situation, required: frozenset[str]) -> list[str]:
    """Returns those of the required names that are wanted still, have not failed, and that the engine answers not."""
    return [
        held.name
        for held in held_adapters(situation)
        if held.name in required and held.serving is None and held.state is not AdapterState.FAILED
    ]
