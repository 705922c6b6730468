"""Argo CD's and Flux's own programs, built from their Go modules."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.go_programs import GoProgram

FOLDER = Path(__file__).parent
ARGOCD = GoProgram("argocd", FOLDER / "argocd", takes="3 to 10 minutes")
"""The application controller, the repo-server and the judgement of health, by the first argument."""
KUSTOMIZE_CONTROLLER = GoProgram(
    "kustomize-controller",
    FOLDER / "flux",
    takes="6 to 15 minutes",
    package="github.com/fluxcd/kustomize-controller",
)
KSTATUS = GoProgram("kstatus", FOLDER / "flux", takes="2 minutes")
"""kstatus and Flux's checker of conditions."""


def judged(command: Sequence[str | Path], items: Sequence[Any]) -> list[dict[str, str]]:
    """The answers of a program that reads objects from stdin, one each."""
    done = subprocess.run(command, input=json.dumps(items), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")
    answers: list[dict[str, str]] = json.loads(done.stdout)
    return answers
