"""Changes what llm-compressor 0.14.0.1 and its libraries do, for as long as a model is quantized."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod

import torch
from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from llmcompressor.pipelines.cache import IntermediatesCache
from loguru import logger
from tqdm import tqdm


@contextmanager
def without_pinned_memory() -> Iterator[None]:
    """Leaves the cache of activations in pageable memory where there is no accelerator.

    IntermediatesCache pins its memory all the same, and torch raises for want of an accelerator.
    """
    if torch.accelerator.is_available():
        yield
        return
    pin_memory = IntermediatesCache.pin_memory
    IntermediatesCache.pin_memory = lambda *_arguments, **_named: None
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = pin_memory


@contextmanager
def errors_alone() -> Iterator[None]:
    """Keeps progress bars, and what is no error, out of the log.

    llm-compressor logs a line for each layer, and opens bars by classes that it imported before TQDM_DISABLE could be
    set. loguru does not give back a handler that it removed: its default one is added again.
    """
    bars, start = not are_progress_bars_disabled(), tqdm.__init__
    logger.remove()
    handler = logger.add(sys.stderr, level="ERROR", format="{message}")
    disable_progress_bars()
    tqdm.__init__ = partialmethod(start, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = start
        if bars:
            enable_progress_bars()
        logger.remove(handler)
        logger.add(sys.stderr)
