"""Holds the errors that `ftm` prints on stderr; the class says with which code the command exits.

LocalError      1: something failed that may work the next time, such as an engine that did not start
├── WrongUse    2: the command cannot work as it was called
├── Infeasible  3: no plan serves the model as asked
└── StepFailed  the step's own code
Stopped       128 + n: signal n asked the command to end; passes through `except Exception`
`ftm_operator.api.errors.InvalidManifest` exits with 2.
"""


class LocalError(Exception):
    """A command failed; the text is the sentence for the person who called it."""

    exit_code = 1


class WrongUse(LocalError):
    """The command cannot work as it was called; the text says what to write instead."""

    exit_code = 2


class Infeasible(LocalError):
    """No plan serves the model as asked."""

    exit_code = 3


class StepFailed(LocalError):
    """A Job's command ended without its result."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stopped(SystemExit):
    """A signal asked the command to end; raised in the main thread, where asyncio too lets a SystemExit through."""

    def __init__(self, number: int, how_to_go_on: str = "") -> None:
        self.number = number
        self.exit_code = 128 + number
        self.message = f"stopped; {how_to_go_on}" if how_to_go_on else "stopped"
        super().__init__(self.exit_code)
