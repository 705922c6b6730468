"""Times a plan on one processor: each public model of the unit tests, over a cluster of many kinds of GPU.

`python -m tests.bench.plan` prints the median and the slowest, and fails when one takes longer than 50 ms.
"""

import statistics
import sys
import time

from ftm_jobs.contract.byte_counts import MIB
from ftm_operator.planning.gpus.accelerators import KNOWN, accelerator_class
from ftm_operator.planning.model.architecture import architecture
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.request import Request
from tests.unit.operator.planning.catalogue import MODELS, base_facts_of

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


def main() -> None:
    taken = {name: seconds(name) for name in MODELS}
    slowest = max(taken, key=lambda name: taken[name])
    median = statistics.median(taken.values())
    print(
        f"{len(taken)} models over {len(CLASSES)} kinds of GPU: median {median * 1e3:.1f} ms, "
        f"slowest {taken[slowest] * 1e3:.1f} ms ({slowest})"
    )
    if taken[slowest] > LIMIT_SECONDS:
        sys.exit(f"bench: {slowest} takes longer than {LIMIT_SECONDS * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
