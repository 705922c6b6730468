"""Times a plan on one processor: each public model of the unit tests, over a cluster of many kinds of GPU.

`python -m tests.bench.plan` prints how far predictions are from what vLLM logged, then the median and the slowest plan,
all once more as JSON in the last line, and fails when a plan takes longer than 50 ms.
"""

import json
import statistics
import sys
import time

from ftm_jobs.contract.byte_counts import MIB
from ftm_operator.planning.gpus.accelerators import KNOWN, accelerator_class
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.request import Request
from tests.unit.operator.planning.catalogue import MODELS, base_facts_of
from tests.unit.operator.planning.vllm_logs import LOGS

LIMIT_SECONDS = 0.05
REPEATS = 5
CLASSES = [accelerator_class(each.label, each.memory_mib * MIB, 8, 4) for each in KNOWN]


def seconds(name: str) -> float:
    """Returns the processor time of the fastest of a few plans, from the facts on."""
    facts = base_facts_of(name)
    taken = []
    for _ in range(REPEATS):
        began = time.process_time()
        size(architecture(facts), Request(min(8192, facts.max_position_embeddings or 2048)), CLASSES)
        taken.append(time.process_time() - began)
    return min(taken)


def errors() -> dict[str, dict[str, float]]:
    """Returns the errors of each log's items, as shares of what was logged."""
    return {log.name: {item: log.error(item) for item in log.fields["compare"]} for log in LOGS}


def print_errors(found: dict[str, dict[str, float]]) -> None:
    items = ("weights", "kv_bytes", "kv_tokens")
    print(f"{'predicted beside logged':<36} {'weights':>9} {'KV bytes':>9} {'tokens':>9}  verdict")
    for name, each in found.items():
        cells = " ".join(f"{f'{each[item]:+.1%}' if item in each else '':>9}" for item in items)
        verdict = ("wrong" if each["verdict"] else "right") if "verdict" in each else ""
        print(f"{name:<36} {cells}  {verdict}".rstrip())


def main() -> None:
    found = errors()
    print_errors(found)
    taken = {name: seconds(name) for name in MODELS}
    slowest = max(taken, key=lambda name: taken[name])
    median = statistics.median(taken.values())
    print(
        f"{len(taken)} models over {len(CLASSES)} kinds of GPU: median {median * 1e3:.1f} ms, "
        f"slowest {taken[slowest] * 1e3:.1f} ms ({slowest})"
    )
    figures = {"models": len(taken), "median_ms": median * 1e3, "slowest_ms": taken[slowest] * 1e3, "slowest": slowest}
    print(json.dumps({**figures, "errors": found}))
    if taken[slowest] > LIMIT_SECONDS:
        sys.exit(f"bench: {slowest} takes longer than {LIMIT_SECONDS * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
