"""Names the steps, the ways they can end, and the line by which a step's log tells how far it is."""

import re
from enum import IntEnum, StrEnum

PROGRESS_LINE = re.compile(r"[a-z]{1,20}: ([0-9.]+ [kMGT]?B of [0-9.]+ [kMGT]?B \([0-9]+ %\), [0-9a-zA-Z ,./]{3,60})")
"""A line of a step's log that tells how far it is: the step, a colon, and the words that status repeats."""


class Step(StrEnum):
    INSPECT = "inspect"
    MERGE = "merge"
    QUANTIZE = "quantize"
    VERIFY = "verify"
    PUBLISH = "publish"
    FETCH = "fetch"
    ADAPTER = "adapter"
    """An adapter is checked and kept as an engine loads it unmerged."""
    ADAPTERS = "adapters"
    """The agent beside a serving engine; no part of a build."""
    ARTIFACTS = "artifacts"
    """A person's command for a store; no part of a build."""
    SERVED = "served"
    """The check of an engine that serves, beside it in its pod; no part of a build."""
    CACHE = "cache"
    """A serving pod's part in its node's cache; no part of a build."""
    PUSH = "push"
    """A person's command for a merged model; no part of a build."""


class ExitCode(IntEnum):
    DONE = 0
    RETRY = 1
    INVALID_INPUT = 2


class Outcome(StrEnum):
    DONE = "Done"
    INVALID_INPUT = "InvalidInput"
    """The input is wrong: a retry without a change is useless."""
    FAILED = "Failed"
    """Something else went wrong: a retry may help."""


EXIT_CODES = {
    Outcome.DONE: ExitCode.DONE,
    Outcome.INVALID_INPUT: ExitCode.INVALID_INPUT,
    Outcome.FAILED: ExitCode.RETRY,
}


def progress_in(log_line: str) -> str | None:
    """Returns the progress in a log line: `3.1 GB of 14.5 GB (21 %), 310 MB/s, 37 s left`; None when it has none."""
    match = PROGRESS_LINE.fullmatch(log_line.strip())
    return match[1] if match else None
