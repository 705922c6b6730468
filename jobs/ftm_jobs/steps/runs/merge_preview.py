"""Says what a merge would do, for `merge --dry-run`: nothing is written, and only configs and headers are read."""

import dataclasses
from collections.abc import Iterator, Sequence

from ftm_jobs.artifacts.publish import complete
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import MergePreview, PlannedFile
from ftm_jobs.contract.steps import Outcome
from ftm_jobs.errors import Reason
from ftm_jobs.merge import destination
from ftm_jobs.merge.artifact import key_of
from ftm_jobs.merge.inputs import Inputs, load_inputs
from ftm_jobs.merge.plan import MergeChoices
from ftm_jobs.steps.inspect import facts_of
from ftm_jobs.stores import open_artifacts
from ftm_jobs.stores.source import Source


def preview(sources: Sequence[Source], choices: MergeChoices, target: Source, *, keyed: bool) -> MergePreview:
    """Returns what merging would do with the base, which is first, and its adapters; `keyed`: below `target`.

    Raises what a merge raises before it reads weights.
    """
    base, *adapters = (_unhashed(source) for source in sources)
    inputs = load_inputs(base, adapters, choices)
    identified = inputs.base.identified and all(adapter.identified for adapter in inputs.adapters)
    key = key_of(inputs) if identified else None
    files = sorted(_files(inputs), key=lambda file: file.path)
    total = sum(file.size for file in files)
    place, state = _destination(target, key, keyed)
    return MergePreview(
        outcome=Outcome.DONE,
        reason=Reason.INSPECTED,
        message=f"would merge into {place}: {len(files)} files, {format_bytes(total)}; nothing was written",
        facts=_facts(inputs),
        scales=tuple(adapter.scale for adapter in inputs.adapters),
        weights_changed=inputs.weights_changed,
        files=tuple(files),
        total_bytes=total,
        destination=place,
        key=key,
        state=state,
        notes=inputs.notes,
    )


def _unhashed(source: Source) -> Source:
    """Returns the source with its local files not hashed, and so with no digest to compare with."""
    local = source.location.scheme in ("file", "pvc")
    return dataclasses.replace(source, hashed=False, digest=None if local else source.digest)


def _facts(inputs: Inputs) -> Facts:
    facts = facts_of(inputs)
    return Facts(
        base=facts.base if inputs.base.identified else facts.base.model_copy(update={"digest": ""}),
        adapters=tuple(
            found if adapter.identified else found.model_copy(update={"digest": ""})
            for found, adapter in zip(facts.adapters, inputs.adapters, strict=True)
        ),
    )


def _files(inputs: Inputs) -> Iterator[PlannedFile]:
    output = inputs.output
    for file in output.files:
        yield PlannedFile(path=file.name, size=file.size, made="merged" if file.changed else "copied")
    for name, content in output.documents.items():
        yield PlannedFile(path=name, size=len(content), made="edited")
    for store, stat in inputs.copied:
        made = "copied" if store is inputs.base.store else "the adapter's"
        yield PlannedFile(path=stat.path, size=stat.size, made=made)


def _destination(target: Source, key: str | None, keyed: bool) -> tuple[str, str]:
    """Returns the folder, and what it holds."""
    store = open_artifacts(target)
    if keyed and key is None:
        return f"{store.uri}/<key>", "not known before the weights are hashed"
    folder = store.child(key) if keyed and key else store
    files = folder.list() if keyed else destination.check(folder, key)
    if not files:
        return folder.uri, "nothing"
    if key is None:
        return folder.uri, "a merge; that it is this one is not known before the weights are hashed"
    return folder.uri, "this merge, complete" if complete(folder, key) else "a part of this merge"
