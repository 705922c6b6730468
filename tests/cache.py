"""Tests and the demo keep what is expensive to make in the user's cache folder, never in the repository."""

import os
from pathlib import Path


def cache(*parts: str) -> Path:
    """`$XDG_CACHE_HOME/ftm-operator/<parts>`; the caller creates it, aside first and renamed when complete."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "ftm-operator", *parts)
