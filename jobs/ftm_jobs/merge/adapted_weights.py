"""Writes a base's weight files with the adapters' changes. It imports torch once the first change is reached."""

from functools import cached_property
from typing import TYPE_CHECKING

from ftm_jobs.checkpoint.output_layout import OutputFile
from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.merge.blocks import Block, cut
from ftm_jobs.merge.composed_file import ComposedFile
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.merge.proof import Proof
from ftm_jobs.merge.rewrite import BlockEdit, rewrite
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import WritableStore
from ftm_jobs.stores.transfer import copy

if TYPE_CHECKING:
    from ftm_jobs.merge.row_changes import PreparedBlock, RowChanges


class AdaptedWeights:
    """Writes the files one after the other, each in blocks."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def write(self, file: OutputFile, target: WritableStore, proof: Proof, progress: Progress) -> ManifestFile:
        """Writes a weight file; a base's file that no adapter changes is copied."""
        base = self._inputs.base
        if file.base_file is None:
            composed = ComposedFile(base, file)
            edit = BlockEdit(self._prepare, self._apply, proof.observer(file, composed))
            blocks = cut(file, composed.block_bytes)
            return rewrite(composed, composed.stat(file.name), target, blocks, edit, progress)
        stat = base.stats[file.base_file]
        if not file.changed:
            return copy(base.store, stat, target, progress)
        edit = BlockEdit(self._prepare, self._apply)
        return rewrite(base.store, stat, target, cut(file, base.store.block_bytes), edit, progress)

    @cached_property
    def _changes(self) -> "RowChanges":
        """Imports torch only when a change is reached: what passes unchanged is written meanwhile."""
        from ftm_jobs.merge.arithmetic.rows import compute_on_one_thread
        from ftm_jobs.merge.row_changes import RowChanges

        compute_on_one_thread()
        return RowChanges(self._inputs)

    def _prepare(self, block: Block) -> "PreparedBlock":
        return self._changes.prepare(block) if block.pieces else ()

    def _apply(self, block: Block, data: memoryview, prepared: "PreparedBlock") -> memoryview:
        return self._changes.apply(block, data, prepared) if block.pieces else data
