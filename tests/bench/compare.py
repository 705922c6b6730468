"""Counts the elements that differ between two folders of weights: `python -m tests.bench.compare OURS THEIRS`."""

import sys
from pathlib import Path

import torch
from safetensors import safe_open

ROWS = 1024


def differing_elements(first: Path, second: Path) -> int:
    """Over all tensors, of which both hold the same."""
    ours = {name: path for path in first.rglob("*.safetensors") for name in _names(path)}
    theirs = {name: path for path in second.rglob("*.safetensors") for name in _names(path)}
    assert ours.keys() == theirs.keys()
    return sum(_differing(name, ours[name], theirs[name]) for name in ours)


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def _differing(name: str, ours: Path, theirs: Path) -> int:
    """Elements whose bits differ, some rows at a time."""
    with safe_open(ours, "pt") as first, safe_open(theirs, "pt") as second:
        a, b = first.get_slice(name), second.get_slice(name)
        assert a.get_shape() == b.get_shape()
        return sum(
            int(
                torch.count_nonzero(
                    a[start : start + ROWS].view(torch.int16) != b[start : start + ROWS].view(torch.int16)
                )
            )
            for start in range(0, a.get_shape()[0], ROWS)
        )


if __name__ == "__main__":
    print(differing_elements(Path(sys.argv[1]), Path(sys.argv[2])))
