"""A base's weight files with the adapters' changes. Imports no torch until the first change is reached."""

from functools import cached_property
from typing import TYPE_CHECKING

from ftm_jobs.checkpoint.output_layout import OutputFile
from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.merge import rewrite as rewriting
from ftm_jobs.merge.blocks import Block, cut
from ftm_jobs.merge.composed_file import ComposedFile
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.merge.proof import Proof
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import WritableStore
from ftm_jobs.stores.transfer import copy

if TYPE_CHECKING:
    from ftm_jobs.merge.row_changes import Changes, Prepared


class AdaptedWeights:
    """Its files are written one after the other, each in blocks."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def write(self, file: OutputFile, target: WritableStore, proof: Proof, progress: Progress) -> ManifestFile:
        """A weight file; a base's file that no adapter changes is copied."""
        base, change = self._inputs.base, rewriting.Change(self._prepare, self._apply)
        if file.base_file is None:
            composed = ComposedFile(base, file)
            blocks, witness = cut(file, composed.block_bytes), proof.witness(file, composed)
            return rewriting.rewrite(composed, composed.stat(file.name), target, blocks, change, progress, witness)
        stat = base.stats[file.base_file]
        if not file.changed:
            return copy(base.store, stat, target, progress)
        return rewriting.rewrite(base.store, stat, target, cut(file, base.store.block_bytes), change, progress)

    @cached_property
    def _changes(self) -> "Changes":
        """Made when they are needed: what passes unchanged is written while torch is still being imported."""
        from ftm_jobs.merge.row_changes import Changes

        return Changes(self._inputs)

    def _prepare(self, block: Block) -> "Prepared":
        return self._changes.prepare(block) if block.pieces else ()

    def _apply(self, block: Block, data: memoryview, prepared: "Prepared") -> None:
        if block.pieces:
            self._changes.apply(block, data, prepared)
