"""The plan where kinds of GPU are known: sizing.py's choice for what the spec asks."""

from collections.abc import Sequence

from ftm_jobs.contract import Facts
from ftm_operator.api.v1alpha1 import FineTunedModelSpec, Plan
from ftm_operator.planning.accelerators import AcceleratorClass
from ftm_operator.planning.answer import reasons
from ftm_operator.planning.architecture import architecture
from ftm_operator.planning.remedies import remedies
from ftm_operator.planning.requested import offered, request_of
from ftm_operator.planning.sizing import NoFit, Sizing, size
from ftm_operator.planning.tensor_parallel import Rejection


def sized(spec: FineTunedModelSpec, facts: Facts, classes: Sequence[AcceleratorClass]) -> Sizing | NoFit:
    """On which of the classes the model is served, and how."""
    allowed = offered(spec, classes)
    if not allowed:
        return NoFit(
            "NoAccelerators",
            f"no kind of GPU is asked for as {spec.serving.accelerator.resource}; "
            f"set spec.serving.accelerator.resource to {' or '.join(sorted({each.resource for each in classes}))}",
            (),
        )
    return size(architecture(facts.base), request_of(spec), allowed)


def what_would_fit(
    spec: FineTunedModelSpec, facts: Facts, classes: Sequence[AcceleratorClass], found: NoFit
) -> list[str]:
    """A sentence for each change that would make the model fit."""
    return remedies(architecture(facts.base), request_of(spec), offered(spec, classes), found)


def sized_plan(
    name: str, spec: FineTunedModelSpec, facts: Facts, classes: Sequence[AcceleratorClass]
) -> Plan | Rejection:
    """How to serve the model; a Rejection says what is too large, or which rule is broken, and what would fit."""
    found = sized(spec, facts, classes)
    if isinstance(found, NoFit):
        return Rejection(found.rule, "; ".join([found.reason, *what_would_fit(spec, facts, classes, found)]))
    option, adapters = found.option, len(spec.adapters)
    return Plan(
        mode="Merged",
        engine="vLLM",
        quantization=found.scheme.label,
        dtype=option.dtype,
        max_model_len=option.context,
        tensor_parallel_size=option.layout.tensor_parallel,
        accelerator=option.accelerator.resource,
        gpus=option.layout.gpus,
        served_model_name=spec.serving.served_model_name or name,
        reasons=(
            f"Merged: {adapters} adapter{'s' if adapters > 1 else ''} folded into the weights",
            *reasons(found),
        ),
    )
