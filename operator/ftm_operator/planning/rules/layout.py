"""Holds the shape in which a model is spread over GPUs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Tensor-parallel ranks inside a stage, pipeline stages, and the nodes that they are on."""

    tensor_parallel: int
    pipeline_parallel: int
    nodes: int

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel
