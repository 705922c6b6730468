"""Keeps the engines' libraries from the network and from drawing progress bars."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}


@contextmanager
def offline_libraries() -> Iterator[None]:
    """Sets the environment in which an engine's module is imported and run, and puts it back.

    huggingface_hub, transformers, datasets and tqdm read these variables when they are imported, so an engine is
    imported in here.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(_VARIABLES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def without_import_warnings() -> Iterator[None]:
    """Drops the warnings of an import, and restores the filters that it changes.

    AutoAWQ 0.2.9 turns on all warnings of deprecation when it is imported, and gives one: that it is not maintained.
    """
    with warnings.catch_warnings(record=True):
        yield
