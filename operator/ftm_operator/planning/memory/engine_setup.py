"""Tells how an engine of some version reserves memory: which model runner it has, and which CUDA graphs it captures.

    before 0.21    model runner V1; CUDA graphs are captured after the KV cache has its share
    from 0.21      their estimate is taken before (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS, v1/worker/gpu_worker.py)
    from 0.25      model runner V2 for dense models (vllm#44443)
    from 0.27      prefix caching holds for recurrent states too, unless it is turned off (vllm#50991)
    from 0.29      model runner V2 for all, which estimates its CUDA graphs too

Of an engine whose version is not known, both runners are reckoned with. Pure.
"""

import re
from dataclasses import dataclass
from typing import Literal

from ftm_jobs.contract.engine_version import SERVED
from ftm_operator.planning.model.architecture import Architecture

Version = tuple[int, int]
Runner = Literal["V1", "V2", "V1 or V2"]

ESTIMATES_GRAPHS: Version = (0, 21)
V2_FOR_DENSE: Version = (0, 25)
CACHES_STATES: Version = (0, 27)
V2_FOR_ALL: Version = (0, 29)
LARGEST_GRAPH = 512
LARGEST_GRAPH_OF_BLACKWELL = 1024
"""Tokens of the largest CUDA graph; of compute capability 10. Source: config/vllm.py, _set_cudagraph_sizes."""
WITHOUT_WEIGHTS = {"ngram", "ngram_gpu", "suffix"}
"""Methods of speculation without a network."""
_TAG = re.compile(r":v?(\d{1,4})\.(\d{1,4})(?:[.+-]|$)")


def version_of_image(image: str) -> Version | None:
    """Returns the version in an image's tag (vllm/vllm-openai:v1.2.3); None where it names none, as of a digest."""
    match = _TAG.search(image.rpartition("/")[2])
    return (int(match[1]), int(match[2])) if match else None


DEFAULT_VERSION = version_of_image(f":{SERVED}")
"""The version that the chart installs."""


@dataclass(frozen=True)
class Draft:
    """Speculative decoding, as --speculative-config says."""

    method: str
    """vLLM's name of the method, such as mtp or eagle3."""
    tokens: int
    """Tokens that are proposed at once."""

    @property
    def is_mtp(self) -> bool:
        return self.method == "mtp" or self.method.endswith("_mtp")

    @property
    def is_eagle(self) -> bool:
        return self.method in ("eagle", "eagle3")

    @property
    def is_unknown(self) -> bool:
        """Returns whether it has weights of which nothing is known."""
        return not (self.is_mtp or self.is_eagle or self.method in WITHOUT_WEIGHTS)


@dataclass(frozen=True)
class AdapterSlots:
    """Adapters that the engine holds at once, and the rank that each may have."""

    count: int
    rank: int


@dataclass(frozen=True)
class EngineSetup:
    """The engine as far as it is known before it starts."""

    version: Version | None = DEFAULT_VERSION
    """None: not known."""
    eager: bool = False
    """Without CUDA graphs and torch.compile."""
    draft: Draft | None = None
    """The draft of speculative decoding; None: there is none."""
    slots: AdapterSlots | None = None
    """The slots for adapters that are served unmerged."""

    @property
    def said(self) -> str:
        """Returns its name for sentences."""
        return f"vLLM {self.version[0]}.{self.version[1]}" if self.version else "vLLM of an unknown version"

    @property
    def deducts_graphs(self) -> bool:
        """Returns whether CUDA graphs are taken from the KV cache's share."""
        return not self.eager and (self.version is None or self.version >= ESTIMATES_GRAPHS)

    @property
    def caches_states(self) -> bool:
        """Returns whether it caches prefixes of recurrent states where nothing is said."""
        return self.version is None or self.version >= CACHES_STATES

    def runner(self, model: Architecture) -> Runner:
        """Returns the model runner that serves this model."""
        if self.version is None:
            return "V1 or V2"
        dense = not model.experts and not model.state
        return "V2" if self.version >= (V2_FOR_DENSE if dense else V2_FOR_ALL) else "V1"


ENGINE = EngineSetup()
"""The one that the chart installs."""


def captured_graphs(sequences: int, capability: tuple[int, int] | None, draft_tokens: int = 0) -> int:
    """Returns the number of CUDA graphs for decoding up to so many sequences, one for each size of a batch."""
    limit = LARGEST_GRAPH_OF_BLACKWELL if capability and capability[0] == 10 else LARGEST_GRAPH
    largest = min(2 * sequences * (1 + draft_tokens), limit)
    sizes = {each for each in (1, 2, 4) if each <= largest}
    sizes |= {*range(8, min(largest + 1, 256), 8), *range(256, largest + 1, 16)}
    return len(sizes) * (2 if draft_tokens else 1)
