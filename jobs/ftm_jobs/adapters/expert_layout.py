"""Tells which dimension of stacked experts an adapter's A reads, where their shape does not. Pure.

Experts of one tensor are (experts, out, in) in memory, in some models (experts, in, out), which PEFT calls transposed.
A of PEFT 0.19 and later reads the inputs of both. Before, it read the second dimension of both, which for most models
are the outputs: A and B have changed places (peft/tuners/lora/layer.py, ParamWrapper.update_layer).
"""

import re

from ftm_jobs.adapters.adapter_tensors import AppliedAdapter

STORED_BY_INPUT = {"aria", "gpt_oss", "openai_privacy_filter", "qwen3_vl_moe"}
"""Model types whose experts of one tensor are (experts, in, out) on disk."""
TRANSPOSED_IN_MEMORY = {"aria", "gpt_oss", "openai_privacy_filter"}
"""Model types whose experts are (experts, in, out) in memory too, so that all versions of PEFT read the same."""
_SWAPPED_SINCE = (0, 19)


def reads_outer(model_type: str, adapter: AppliedAdapter) -> bool | None:
    """Returns whether A reads the second of three dimensions on disk, by what PEFT's version does with the model.

    None: the version is not known.
    """
    if model_type in TRANSPOSED_IN_MEMORY:
        return True
    swapped = _swapped(adapter.config.peft_version)
    return None if swapped is None else swapped is (model_type in STORED_BY_INPUT)


def _swapped(version: str | None) -> bool | None:
    """Returns whether this version of PEFT, as in 0.18.1, makes A read the inputs; None: it cannot be told."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(?P<development>0\.dev))?", version or "")
    if match is None or (match["development"] and (int(match[1]), int(match[2])) == _SWAPPED_SINCE):
        return None
    return (int(match[1]), int(match[2])) >= _SWAPPED_SINCE
