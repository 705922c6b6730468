"""A base's weight files with the adapters' changes. Imports no torch until the first change is reached."""

from functools import cached_property
from typing import TYPE_CHECKING

from ftm_jobs import stream
from ftm_jobs.composed import ComposedFile
from ftm_jobs.contract import ManifestFile
from ftm_jobs.inputs import Inputs
from ftm_jobs.layout import Block, cut
from ftm_jobs.output import OutputFile
from ftm_jobs.progress import Progress
from ftm_jobs.proof import Proof
from ftm_jobs.stores import WritableStore

if TYPE_CHECKING:
    from ftm_jobs.changes import Changes, Prepared


class AdaptedWeights:
    """Its files are written one after the other, each in blocks."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def write(self, file: OutputFile, target: WritableStore, proof: Proof, progress: Progress) -> ManifestFile:
        """A weight file; a base's file that no adapter changes is copied."""
        base, change = self._inputs.base, stream.Change(self._prepare, self._apply)
        if file.base_file is None:
            composed = ComposedFile(base, file)
            blocks, witness = cut(file, composed.block_bytes), proof.witness(file, composed)
            return stream.rewrite(composed, composed.stat(file.name), target, blocks, change, progress, witness)
        stat = base.stats[file.base_file]
        if not file.changed:
            return stream.copy(base.store, stat, target, progress)
        return stream.rewrite(base.store, stat, target, cut(file, base.store.block_bytes), change, progress)

    @cached_property
    def _changes(self) -> "Changes":
        """Made when they are needed: what passes unchanged is written while torch is still being imported."""
        from ftm_jobs.changes import Changes

        return Changes(self._inputs)

    def _prepare(self, block: Block) -> "Prepared":
        return self._changes.prepare(block) if block.pieces else ()

    def _apply(self, block: Block, data: memoryview, prepared: "Prepared") -> None:
        if block.pieces:
            self._changes.apply(block, data, prepared)
