"""Lists the types of GGUF files and of their tensors, with the bytes that each takes.

A file's type names a mixture: Q4_K_M stores most weights as Q4_K, and those that matter most as Q6_K. Rows are stored
in blocks, of 256 numbers for the K types and of 32 for the others.
"""

from dataclasses import dataclass
from math import prod

from ftm_jobs.errors import InvalidInput, Reason


@dataclass(frozen=True)
class Storage:
    """A format of a tensor's numbers; `id` is ggml's."""

    name: str
    id: int
    block: int
    """Numbers of a block."""
    block_bytes: int

    @property
    def bits(self) -> float:
        """Returns the bits of a number."""
        return 8 * self.block_bytes / self.block


_STORAGES = (
    Storage("F32", 0, 1, 4),
    Storage("F16", 1, 1, 2),
    Storage("Q4_0", 2, 32, 18),
    Storage("Q4_1", 3, 32, 20),
    Storage("Q5_0", 6, 32, 22),
    Storage("Q5_1", 7, 32, 24),
    Storage("Q8_0", 8, 32, 34),
    Storage("Q2_K", 10, 256, 84),
    Storage("Q3_K", 11, 256, 110),
    Storage("Q4_K", 12, 256, 144),
    Storage("Q5_K", 13, 256, 176),
    Storage("Q6_K", 14, 256, 210),
    Storage("BF16", 30, 1, 2),
)
STORAGE = {storage.name: storage for storage in _STORAGES}
STORAGE_BY_ID = {storage.id: storage for storage in _STORAGES}


@dataclass(frozen=True)
class FileType:
    name: str
    storage: str
    """Storage of most weights."""
    quantized: bool = True
    """True: llama-quantize makes it. The converter writes the others itself."""


TYPES = {
    file_type.name: file_type
    for file_type in (
        FileType("Q2_K", "Q2_K"),
        FileType("Q4_0", "Q4_0"),
        FileType("Q4_K_M", "Q4_K"),
        FileType("Q5_K_M", "Q5_K"),
        FileType("Q8_0", "Q8_0"),
        FileType("F16", "F16", quantized=False),
        FileType("BF16", "BF16", quantized=False),
    )
}


@dataclass(frozen=True)
class Weight:
    """A tensor of a GGUF file or of a checkpoint; `shape` has the width of a row last."""

    name: str
    shape: tuple[int, ...]

    @property
    def columns(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def elements(self) -> int:
        return prod(self.shape)


def file_type(name: str) -> FileType:
    """Raises InvalidInput (UnknownType) that lists those there are."""
    if name not in TYPES:
        raise InvalidInput(
            Reason.UNKNOWN_TYPE, f'"{name[:100]}" is no GGUF type that is made here: write one of {", ".join(TYPES)}'
        )
    return TYPES[name]


def stored_bytes(weight: Weight, storage: Storage) -> int:
    """Returns a tensor's bytes in the file, without padding."""
    return weight.elements // storage.block * storage.block_bytes
