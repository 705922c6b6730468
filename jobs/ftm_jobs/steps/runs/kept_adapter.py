"""Keeps an adapter that fits its base as an artifact, as an engine loads it unmerged.

For vLLM it holds the adapter's two files as PEFT saved them, and no others: what lies beside them in its folder is not
the engine's to read. For llama.cpp it holds one GGUF file.
"""

from collections.abc import Sequence
from pathlib import Path

from ftm_jobs.adapters.dynamic_serving import OWN_TOKENIZER, common_alpha, llama_cpp_objections
from ftm_jobs.artifacts.publish import published_once
from ftm_jobs.checkpoint.adapter_config import ADAPTER_CONFIG_FILE
from ftm_jobs.checkpoint.quantized_base import AcceptedWeights
from ftm_jobs.checkpoint.source_files import copy_companions
from ftm_jobs.checkpoint.sources import ADAPTER_FILE
from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.contract.keys import ADAPTER_RECIPE, AdapterEngine, adapter_key
from ftm_jobs.contract.manifest import Manifest, ManifestFile, ManifestInput
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.merge.inputs import Inputs, load_unmerged
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.runtime.scratch import emptied, scratch
from ftm_jobs.steps.inspect import facts_of
from ftm_jobs.stores import Stat, WritableStore, open_artifacts
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source
from ftm_jobs.stores.transfer import copy

_CONVERTED = 3
"""The adapter's bytes on disk at most, times: as it was fetched, and in 32 bits."""


def keep(base: Source, adapter: Source, artifacts: Source, engine: AdapterEngine = AdapterEngine.VLLM) -> Report:
    """Puts the adapter under its key.

    Raises InvalidInput when it does not fit the base, or the engine cannot serve it unmerged (NotServedUnmerged), and
    what stores raise; then no artifact looks complete.
    """
    inputs = load_unmerged(base, [adapter], AcceptedWeights.ANY)
    facts = facts_of(inputs)
    stored = inputs.adapters[0]
    objections: Sequence[str] = facts.adapters[0].dynamic_objections or ()
    if engine is AdapterEngine.LLAMA_CPP:
        own_tokenizer = [OWN_TOKENIZER] if OWN_TOKENIZER in objections else []
        objections = [*llama_cpp_objections(inputs.updates[0], inputs.tensors.names), *own_tokenizer]
    if objections:
        raise InvalidInput(
            Reason.NOT_SERVED_UNMERGED,
            f"{stored.store.uri} cannot be served beside its base: {'; '.join(objections)}: merge it, by a "
            "FineTunedModel of its own whose mode is Merged",
        )
    key = adapter_key(stored.digest, inputs.base.digest, engine)
    target = open_artifacts(artifacts).child(key)
    make = _convert if engine is AdapterEngine.LLAMA_CPP else _copy
    artifact, reused = published_once(target, key, lambda: make(inputs, key, target))
    files = f"{artifact.files} file{'' if artifact.files == 1 else 's'}"
    where = f"{artifact.uri}: {files}, {format_bytes(artifact.total_bytes)}"
    return Report(
        step=Step.ADAPTER,
        outcome=Outcome.DONE,
        reason=Reason.KEPT,
        message=f"the adapter is already in {where}" if reused else f"kept the adapter in {where}",
        facts=facts,
        artifact=artifact,
        notes=inputs.notes,
        reused=reused,
    )


def _copy(inputs: Inputs, key: str, target: WritableStore) -> Manifest:
    return _manifest(inputs, key, _copied(inputs, target))


def _convert(inputs: Inputs, key: str, target: WritableStore) -> Manifest:
    from ftm_jobs.quantize.gguf.adapter import convert_adapter
    from ftm_jobs.quantize.gguf.llama_cpp import find_llama_cpp

    base, adapter, tools = inputs.base, inputs.adapters[0], find_llama_cpp()
    alpha = common_alpha(inputs.updates[0])
    assert alpha
    with scratch(key, _CONVERTED * adapter.stats[ADAPTER_FILE].size) as folder:
        _copied(inputs, FileStore(folder / "adapter"))
        copy_companions(base.store, base.stats.values(), folder / "base")
        out = folder / "out"
        emptied(out)
        layers = len({update.weight for update in inputs.updates[0]})
        made = convert_adapter(folder / "base", folder / "adapter", out, alpha, layers, tools)
        files = [_uploaded(made, target)]
    return _manifest(inputs, key, files, {"llama.cpp": tools.version})


def _copied(inputs: Inputs, target: WritableStore) -> list[ManifestFile]:
    """Copies the adapter's two files, each proven by the sha256 that its store declares."""
    adapter = inputs.adapters[0]
    kept = [adapter.stats[name] for name in (ADAPTER_CONFIG_FILE, ADAPTER_FILE)]
    progress = Progress("adapter", sum(stat.size for stat in kept))
    files = [copy(adapter.store, stat, target, progress) for stat in kept]
    progress.close()
    return files


def _uploaded(made: Path, target: WritableStore) -> ManifestFile:
    size = made.stat().st_size
    progress = Progress("upload", size)
    file = copy(FileStore(made.parent), Stat(made.name, size, ""), target, progress)
    progress.close()
    return file


def _manifest(inputs: Inputs, key: str, files: Sequence[ManifestFile], tools: dict[str, str] | None = None) -> Manifest:
    base, adapter = inputs.base, inputs.adapters[0]
    return Manifest(
        key=key,
        step=Step.ADAPTER,
        recipe=ADAPTER_RECIPE,
        inputs=(
            ManifestInput(role="base", uri=base.store.uri, digest=base.digest),
            ManifestInput(role="adapter", uri=adapter.store.uri, digest=adapter.digest),
        ),
        files=tuple(files),
        tools=tools or {},
        notes=inputs.notes,
    )
