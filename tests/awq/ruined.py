"""An AWQ model as AutoAWQ 0.2.9 leaves it on a CPU: exit code 0, right shapes, and weights that are noise.

For whoever must prove that a ruined model is held back. `python -m tests.awq.ruined MODEL OUT` takes as long as
quantizing does.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftm_jobs.text.calibration import bundled
from ftm_jobs.text.chat_template import load_template, render
from tests.awq.environments import run_tasks

SAMPLES = 4


def write_ruined(model: Path, out: Path, texts: Sequence[str] = ()) -> dict[str, Any]:
    """Fill `out` with the ruined model, all files but a manifest; returns what the engine said of it."""
    samples = list(texts) or render(bundled().samples[:SAMPLES], load_template(model))
    task = {"do": "quantize", "model": str(model), "out": str(out), "texts": samples, "aliasing": True}
    (found,) = run_tasks("awq", [task])
    return found


if __name__ == "__main__":
    print(write_ruined(Path(sys.argv[1]), Path(sys.argv[2])))
