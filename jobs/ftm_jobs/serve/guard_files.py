"""Writes the guard of an engine: its module and the agent's secret, into a folder that both read."""

import secrets
from importlib.resources import files
from pathlib import Path

from ftm_jobs.contract.mounts import GUARD_MODULE, GUARD_SECRET_FILE
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain

_SECRET_BYTES = 32
_FOR_OWNER_AND_GROUP = 0o440
"""The mode of the files: the pod's containers share its fsGroup."""


def write_guard(folder: Path) -> None:
    """Writes the module and, where there is none yet, a random secret. Raises StepError as the file system does."""
    module = files("ftm_jobs.serve").joinpath("guard.py").read_bytes()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{GUARD_MODULE}.py", module)
        if not (folder / GUARD_SECRET_FILE).is_file():
            _write(folder / GUARD_SECRET_FILE, secrets.token_hex(_SECRET_BYTES).encode())
    except OSError as error:
        raise explain(error, str(folder)) from error


def read_secret(folder: Path) -> str:
    """Returns the agent's secret. Raises InvalidInput (MissingFile) where it was not written."""
    file = folder / GUARD_SECRET_FILE
    try:
        return file.read_text().strip()
    except OSError as error:
        raise InvalidInput(
            Reason.MISSING_FILE, f"{file} cannot be read ({error.strerror}): the fetch step writes it, with --guard"
        ) from error


def _write(file: Path, data: bytes) -> None:
    aside = file.with_name(f".{file.name}.partial")
    aside.unlink(missing_ok=True)
    aside.write_bytes(data)
    aside.chmod(_FOR_OWNER_AND_GROUP)
    aside.replace(file)
