"""Merges a base and its adapters into one artifact, which is complete once its manifest.json exists.

Everything that headers and configs can tell is checked before the first byte is written. Weight files keep the base's
names, headers and untouched bytes, unless files of another size are asked for; each streams through bounded memory.
The key says what was merged, so a second run finds the manifest and does nothing, a run after a killed one keeps the
weight files that were finished, and two runs at once write the same bytes.
"""

from importlib.metadata import version

from ftm_jobs.artifacts.journal import Journal, remove_journal
from ftm_jobs.artifacts.publish import model_report, published_once, put
from ftm_jobs.checkpoint.output_layout import OutputFile
from ftm_jobs.checkpoint.sources import ADAPTER_FILE
from ftm_jobs.contract.keys import MERGE_RECIPE, merge_key
from ftm_jobs.contract.manifest import Artifact, Manifest, ManifestFile, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.errors import Reason
from ftm_jobs.merge import destination
from ftm_jobs.merge.adapted_weights import AdaptedWeights
from ftm_jobs.merge.inputs import Inputs
from ftm_jobs.merge.proof import Proof
from ftm_jobs.runtime.allocator import keep_freed_memory
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import WritableStore, transfer


def merge(inputs: Inputs, artifacts: WritableStore) -> Report:
    """Merges into the folder that is named by the key.

    Raises InvalidInput and Failed; then nothing under the key looks complete.
    """
    key = key_of(inputs)
    return _merge(inputs, key, artifacts.child(key))


def merge_to(inputs: Inputs, target: WritableStore) -> Report:
    """Merges into exactly this folder. Raises what `merge` does, and InvalidInput (DestinationTaken)."""
    key = key_of(inputs)
    destination.claim(target, key)
    try:
        report = _merge(inputs, key, target)
    except BaseException:
        destination.release_if_empty(target)
        raise
    destination.release(target)
    return report


def key_of(inputs: Inputs) -> str:
    """Returns the key of the artifact that they become."""
    adapters = [(adapter.digest, adapter.scale) for adapter in inputs.adapters]
    choices = inputs.choices
    return merge_key(
        inputs.base.digest,
        adapters,
        choices.quantized_base,
        choices.max_shard_size,
        choices.task,
        choices.dtype,
    )


def _merge(inputs: Inputs, key: str, target: WritableStore) -> Report:
    def make() -> Manifest:
        return _manifest(inputs, key, _write(inputs, target, Journal(target, key)))

    artifact, reused = published_once(target, key, make, remove_journal)
    return _report(artifact, inputs, reused=reused)


def _write(inputs: Inputs, target: WritableStore, journal: Journal) -> list[ManifestFile]:
    """Weight files first, so that what fails on them leaves nothing but finished ones behind."""
    keep_freed_memory()
    base = inputs.base
    proven = [adapter.stats[ADAPTER_FILE] for adapter in inputs.adapters if adapter.stats[ADAPTER_FILE].sha256]
    carried = [stat for _, stat in inputs.carried.copied]
    progress = Progress("merge", sum(stat.size for stat in [*base.stats.values(), *proven, *carried]))
    for adapter in inputs.adapters:
        transfer.prove(adapter.store, adapter.stats[ADAPTER_FILE], progress)
    adapted, output = AdaptedWeights(inputs), inputs.output
    kept = {file.name: ready for file in output.files if (ready := journal.kept(file.name, file.size, progress))}
    missing = [file for file in output.files if file.name not in kept]
    proof = Proof(base, missing)
    written: list[ManifestFile] = []
    unproven: list[tuple[OutputFile, ManifestFile]] = []
    for file in missing:
        written.append(adapted.write(file, target, proof, progress))
        unproven.append((file, written[-1]))
        if file is not missing[-1]:
            journal.add(*(ready for each, ready in unproven if proof.holds(each)))
            unproven = [(each, ready) for each, ready in unproven if not proof.holds(each)]
    copied = [transfer.copy(store, stat, target, progress) for store, stat in inputs.copied]
    documents = [put(target, name, content) for name, content in output.documents.items()]
    progress.close()
    return sorted([*kept.values(), *written, *copied, *documents], key=lambda file: file.path)


def _manifest(inputs: Inputs, key: str, files: list[ManifestFile]) -> Manifest:
    adapters = [
        ManifestInput(role="adapter", uri=adapter.store.uri, digest=adapter.digest, scale=adapter.scale)
        for adapter in inputs.adapters
    ]
    return Manifest(
        key=key,
        step=Step.MERGE,
        recipe=MERGE_RECIPE,
        inputs=(ManifestInput(role="base", uri=inputs.base.store.uri, digest=inputs.base.digest), *adapters),
        quantized_base=inputs.choices.quantized_base,
        max_shard_size=inputs.choices.max_shard_size,
        task=inputs.choices.task,
        dtype=inputs.choices.dtype,
        files=tuple(files),
        tools={"torch": version("torch").partition("+")[0]},
        measurements={"weightsChanged": inputs.weights_changed},
        notes=inputs.notes,
    )


def _report(artifact: Artifact, inputs: Inputs, *, reused: bool) -> Report:
    reason = Reason.ALREADY_MERGED if reused else Reason.MERGED
    return model_report(Step.MERGE, "merged", reason, artifact, notes=inputs.notes, reused=reused)
