"""Reads from serving pods what concerns their sidecars: the agent for adapters, and the check of the engine. Pure."""

from collections.abc import Mapping, Sequence

from ftm_jobs.contract.verification import ServedVerification
from ftm_operator.observe.pod_trouble import container_statuses
from ftm_operator.observe.status_conditions import true_condition
from ftm_operator.resources.metadata import STEP, WANTED_ADAPTERS, Manifest
from ftm_operator.resources.serving.serving_labels import AGENT, CANARY, SERVE, SERVED_CHECK, answers

MAX_RANK_FLAG = "--max-lora-rank"
"""vLLM's flag for the largest rank of an adapter, with the number as the next argument."""


def answering_pods(pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns the pods of a model that serve requests now, by name."""
    ready = [pod for pod in pods if _serves(pod) and true_condition(pod, "Ready")]
    return sorted(ready, key=lambda pod: str(pod["metadata"]["name"]))


def with_agents(pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns the pods of a model whose agent runs."""
    return [pod for pod in pods if _serves(pod) and _runs(pod, AGENT)]


def checked_pods(pods: Sequence[Manifest]) -> list[Manifest]:
    """Returns the pods of a model and of its canary whose sidecar, that holds the engine to what was verified, runs."""
    return [pod for pod in pods if _is_of(pod, SERVE, CANARY) and _runs(pod, SERVED_CHECK)]


def verdicts(pods: Sequence[Manifest], said: Mapping[str, ServedVerification]) -> list[ServedVerification]:
    """Returns the verdicts on the engines that run now, those that failed first; `said` are those by pod."""
    names = (str(pod["metadata"]["name"]) for pod in checked_pods(pods))
    return sorted((said[name] for name in names if name in said), key=lambda verdict: verdict.passed)


def runs(pod: Manifest) -> object:
    """Returns what tells the runs of a pod's containers from those before one was started again, or of another pod."""
    restarts = [(str(each.get("name")), int(each.get("restartCount") or 0)) for each in container_statuses(pod)]
    return pod["metadata"].get("uid"), restarts


def takes_rank(pod: Manifest, rank: int) -> bool:
    """Tells whether a pod's engine was started with room for adapters of this rank, as far as its arguments say."""
    words = [str(word) for each in pod["spec"].get("containers") or [] for word in each.get("args") or []]
    limits = [words[at + 1] for at, word in enumerate(words[:-1]) if word == MAX_RANK_FLAG]
    return all(int(limit) >= rank for limit in limits if limit.isdigit())


def is_touched(pod: Manifest, wanted: str) -> bool:
    """Tells whether a pod is annotated with this hash of wanted adapters."""
    return (pod["metadata"].get("annotations") or {}).get(WANTED_ADAPTERS) == wanted


def _serves(pod: Manifest) -> bool:
    return _is_of(pod, SERVE)


def _is_of(pod: Manifest, *steps: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return labels.get(STEP) in steps and answers(pod) and "deletionTimestamp" not in pod["metadata"]


def _runs(pod: Manifest, sidecar: str) -> bool:
    return "running" in _state(pod, sidecar)


def _state(pod: Manifest, container: str) -> Manifest:
    found = next((each for each in container_statuses(pod) if each.get("name") == container), {})
    state: Manifest = found.get("state") or {}
    return state
