"""Reads paths that a person types: a name that no file can have is a path that does not exist, and no error."""

import os
from contextlib import suppress
from pathlib import Path


def absolute(path: str | Path) -> Path:
    """Returns the path without links and `~`; where links lead in a circle or no user has the name, they stay."""
    with suppress(RuntimeError):
        path = Path(path).expanduser()
    return Path(os.path.realpath(path))


def exists(path: str | Path) -> bool:
    """Says whether something is at the path; False too where its name is too long or its links lead in a circle."""
    with suppress(OSError):
        return absolute(path).exists()
    return False
