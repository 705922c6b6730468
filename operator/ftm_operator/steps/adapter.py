"""Describes the step of a FineTunedAdapter: its Job checks the adapter against the base and keeps it as an artifact."""

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.facts import BaseFacts
from ftm_jobs.contract.steps import Step
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.input_hashes import REFRESH_ANNOTATION, short_hash
from ftm_operator.steps.source import SourceArgument, source_arguments
from ftm_operator.steps.step import JobImage, JobNeeds, PipelineStep, StepCommand

ADAPTER = PipelineStep(name=Step.ADAPTER, condition="Ready", phase="Inspecting", running=OperatorReason.INSPECTING)


def adapter_input_hash(adapter: FineTunedAdapter, base: BaseFacts, engine: str, store: SourceArgument) -> str:
    """Returns sixteen hex digits over the source as written, the refresh annotation, and what it is kept for."""
    refresh = adapter.metadata.annotations.get(REFRESH_ANNOTATION)
    return short_hash([adapter.spec.uri, refresh, base.uri, base.digest, engine, store.uri.rstrip("/")], 16)


def adapter_command(
    adapter: FineTunedAdapter, model: FineTunedModel, base: BaseFacts, engine: str, store: SourceArgument
) -> StepCommand:
    """Returns the command that checks the adapter against the base as it was inspected, and keeps it in the store."""
    sources = (
        SourceArgument("base", base.uri, model.spec.base.secret_name, base.digest),
        SourceArgument("adapter-0", adapter.spec.uri, adapter.spec.secret_name),
    )
    of_llama_cpp = engine == "LlamaCpp"
    arguments = (ADAPTER.name, *source_arguments(sources), *(("--engine", engine) if of_llama_cpp else ()))
    image = JobImage.GGUF if of_llama_cpp else JobImage.JOBS
    needs = JobNeeds("1", 2 * GIB, 4 * GIB) if of_llama_cpp else JobNeeds("100m", GIB // 4, GIB)
    return StepCommand(ADAPTER.name, arguments, sources, image, needs, store)
