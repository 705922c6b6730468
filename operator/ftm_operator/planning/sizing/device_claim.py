"""Selects the devices that a ResourceClaim may take for a plan, in CEL over what a DRA driver publishes. Pure.

The floor is what the plan needs of the GPU that holds most, not what the chosen kind has: a larger GPU will do. The
engine takes a share of what it sees, and sees a little less than the driver publishes, so

    floor = (weights + reserves + needed KV cache) / utilization · published / seen

in whole MiB, rounded up; for the kind that was chosen it never exceeds what that publishes.
"""

from math import ceil

from ftm_jobs.contract.byte_counts import MIB
from ftm_operator.planning.gpus.accelerators import DRA_DRIVER
from ftm_operator.planning.sizing.outcome import Sizing


def device_selector(sizing: Sizing) -> str:
    """Returns the expression of a ResourceClaim's `selectors[].cel.expression`."""
    option, request = sizing.option, sizing.request
    kind = option.accelerator
    needed = option.memory.held + option.memory.cache.needed_bytes(request.concurrency, option.context)
    published = ceil(needed / request.utilization * kind.memory_bytes / kind.usable_bytes)
    floor = min(-(-published // MIB), kind.memory_bytes // MIB)
    return f"device.capacity['{DRA_DRIVER}'].memory.compareTo(quantity('{floor}Mi')) >= 0"
