"""Recognises what libraries and programs say when memory runs out."""

_WORDS = ("out of memory", "allocate memory", "unable to allocate", "failed to allocate", "bad_alloc", "memoryerror")
"""Said by torch, CUDA, numpy, C++ and Python, in lower case."""


def says_out_of_memory(text: str) -> bool:
    """Says whether a message or a log tells of memory that ran out."""
    lower = text.lower()
    return any(words in lower for words in _WORDS)


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that memory ran out: Python's own, or a RuntimeError in a library's words."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and says_out_of_memory(str(error)))
