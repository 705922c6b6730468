"""One merge in a process of its own: `python -m tests.bench.sides ours|peft …` prints its seconds without imports.

Only what the side itself needs is imported here, so that its start and its memory are its own.
"""

import json
import sys
import time


def ours(arguments: list[str]) -> float:
    import torch  # noqa: F401 - its import is not part of these seconds

    import ftm_jobs.adapted  # noqa: F401
    from ftm_jobs.__main__ import main

    start = time.monotonic()
    code = main(arguments)
    if code:
        sys.exit(code)
    return time.monotonic() - start


def peft(base: str, adapter: str, out: str) -> float:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    start = time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
    return time.monotonic() - start


if __name__ == "__main__":
    side, *rest = sys.argv[1:]
    seconds = ours(rest) if side == "ours" else peft(*rest)
    print(json.dumps({"seconds": seconds}), flush=True)
