"""Memory that ran out is recognised in what libraries say, and nothing else is taken for it."""

import pytest

from ftm_jobs.runtime.out_of_memory import is_out_of_memory, says_out_of_memory


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "Unable to allocate 3.00 GiB for an array with shape (3,)",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_each_library_is_understood(text: str) -> None:
    assert says_out_of_memory(text)
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))


def test_other_errors_are_others() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("size mismatch"))
