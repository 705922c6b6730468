"""Shows how a model would be built and served, and why: `ftm plan`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.steps import ExitCode
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.command import sizing_table
from ftm_operator.command.input_files import INSPECT, STANDARD_INPUT, content_of, facts_of_file, read_classes, said
from ftm_operator.command.options import ManifestArgument, OutputFormat, OutputOption
from ftm_operator.local import steps as local
from ftm_operator.local.errors import Infeasible, StepFailed, WrongUse
from ftm_operator.local.manifest_file import read_manifest
from ftm_operator.planning.answer import answer_json
from ftm_operator.planning.feedback.comparison import LogComparison, comparison
from ftm_operator.planning.feedback.start_log import StartLog, start_log
from ftm_operator.planning.plan import Planned
from ftm_operator.planning.plan import plan as make_plan
from ftm_operator.planning.rules.rejection import Rejection


def plan(
    manifest: ManifestArgument,
    facts: Annotated[
        Path | None,
        typer.Option(
            metavar="FACTS.json",
            help="What inspect -o json prints, - for standard input; else sources are read.",
        ),
    ] = None,
    gpus: Annotated[
        Path | None,
        typer.Option(metavar="CLASSES.yaml", help="The GPUs to choose from; without it none is chosen."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="LOG", help="A start-up log of vLLM to hold the estimate against; - is standard input."),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Show how a model would be built and served, and why; exit code 3 when it cannot be.

    With --facts and --gpus it needs no network, no cluster and no GPU. CLASSES.yaml is a list; memory is of one GPU
    and may be left out for a common one (A10G, L4, A100-80, H100, H200, B200, L40S, T4, MI300X and others):

    \b
      - {name: A10G, memory: 23028Mi, perNode: 4, nodes: 2, resource: nvidia.com/gpu}
      - {name: H100, perNode: 8, nodes: 1}

    With --against it prints what it predicts of the model with the log's sizes beside what vLLM logged, item by item.
    """
    model = read_manifest(manifest)
    classes = read_classes(gpus) if gpus else []
    log = _log(against, facts, sized=bool(classes)) if against else None
    model_facts = facts_of_file(facts) if facts else _facts_of_sources(model)
    result = make_plan(model.metadata.name, model.spec, model_facts, classes)
    if log:
        sizing = result.sizing if isinstance(result, Planned) else None
        _print_comparison(model, comparison(model.spec, model_facts.base, classes, sizing, log), output)
        return
    if output is OutputFormat.JSON:
        print(json.dumps(plan_json(result, sized=bool(classes)), indent=2))
    else:
        print(format_plan(model, result))
    if isinstance(result, Rejection):
        raise typer.Exit(Infeasible.exit_code)


def _facts_of_sources(model: FineTunedModel) -> Facts:
    try:
        return local.inspect(model)
    except StepFailed as error:
        if error.exit_code != ExitCode.RETRY:
            raise
        how = f"where the sources can be read, {INSPECT} > FACTS.json writes what --facts takes"
        raise StepFailed(f"{error}; {how}", error.exit_code) from None


def _log(path: Path, facts: Path | None, *, sized: bool) -> StartLog:
    """Returns the log of a start. Raises WrongUse where it, or what it is held against, is missing."""
    if not sized:
        raise WrongUse("--against needs --gpus, the kind of GPU that the log is of")
    if path == facts == STANDARD_INPUT:
        raise WrongUse("--facts and --against cannot both be read from standard input; name a file for one of them")
    content = content_of(path, "name a start-up log of vLLM")
    found = start_log(content.decode(errors="replace"))
    if found is None:
        raise WrongUse(
            f"{said(path)} has no line in which vLLM says how much memory it takes; name its log from the beginning of "
            "a start, as kubectl logs prints it"
        )
    return found


def _print_comparison(model: FineTunedModel, found: LogComparison | str, output: OutputFormat) -> None:
    if isinstance(found, str):
        raise Infeasible(f"{model.metadata.name} is not served by vLLM as asked: {found}")
    if output is OutputFormat.JSON:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print(sizing_table.format_comparison(model, found))


def plan_json(result: Planned | Rejection, *, sized: bool) -> dict[str, Any]:
    """Returns the plan, or the rule that no plan keeps, for programs.

    `sized`: whether GPUs were given to choose from.
    """
    if sized and (isinstance(result, Rejection) or result.sizing):
        return answer_json(result)
    if isinstance(result, Rejection):
        return {"feasible": False, "rejected": [{"rule": result.rule, "reason": result.reason}]}
    return {"feasible": True, **result.plan.to_json()}


def format_plan(model: FineTunedModel, result: Planned | Rejection) -> str:
    """Returns a plan as a table of choices and a list of reasons."""
    if isinstance(result, Rejection):
        return sizing_table.format_refusal(model, result)
    if result.sizing:
        return sizing_table.format_sizing(model, result.plan, result.sizing)
    return _format_unsized(model, result.plan)


def _format_unsized(model: FineTunedModel, result: Plan) -> str:
    choices = {
        "mode": result.mode,
        **(sizing_table.adapters_choice(result.adapters) if result.adapters else {}),
        "quantization": result.quantization,
        "engine": result.engine,
        "context": f"{result.max_model_len} tokens",
        **_hardware(result),
        "replicas": model.spec.serving.replicas,
        "served model name": result.served_model_name,
    }
    lines = [model.metadata.name, *(f"  {name:<21} {value}" for name, value in choices.items())]
    return "\n".join([*lines, "why", *(f"  {reason}" for reason in result.reasons)])


def _hardware(result: Plan) -> dict[str, object]:
    if not result.gpus:
        return {"requests at once": result.concurrency, "accelerators": "none"}
    return {
        "dtype": result.dtype,
        "accelerators": f"{result.gpus} x {result.accelerator} per replica",
        "tensor parallel size": result.tensor_parallel_size,
    }
