"""The `ftm` command."""

import json
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.crd import crd_yaml
from ftm_operator.api.errors import InvalidManifest
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.command import artifacts as artifact_commands
from ftm_operator.command import explain as explain_command
from ftm_operator.command import report as report_command
from ftm_operator.command import sizing_table
from ftm_operator.command import sources as source_commands
from ftm_operator.command.gpu_classes_file import read_classes
from ftm_operator.local import engine as local_engine
from ftm_operator.local import steps as local
from ftm_operator.local.manifest_file import read_manifest
from ftm_operator.planning.answer import sizing_json
from ftm_operator.planning.decision import Decision
from ftm_operator.planning.gpus.accelerators import AcceleratorClass
from ftm_operator.planning.plan import Planned
from ftm_operator.planning.plan import plan as make_plan
from ftm_operator.planning.rules.tensor_parallel import Rejection
from ftm_operator.planning.sized_plan import sized, what_would_fit
from ftm_operator.planning.sizing import NoFit

INFEASIBLE = 3

app = typer.Typer(
    help="Turn a base model and a LoRA adapter into a served model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class RunOutput(StrEnum):
    TEXT = "text"
    JSON = "json"


class PlanOutput(StrEnum):
    TABLE = "table"
    JSON = "json"


ManifestArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A YAML file with one FineTunedModel.")]


class Infeasible(Exception):
    exit_code = INFEASIBLE


@app.command()
def run(
    manifest: ManifestArgument,
    ask: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Ask this and exit; can be repeated.")] = None,
    output: Annotated[RunOutput, typer.Option("-o", "--output", help="How answers are printed.")] = RunOutput.TEXT,
) -> None:
    """Build and serve a model on this machine, without a cluster.

    Inspects, merges, quantizes and verifies with the same commands as the operator's Jobs, keeps the results in a
    cache, and starts the engine on localhost. Without --ask it serves until Ctrl-C.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    model = read_manifest(manifest)
    facts = local.inspect(model)
    planned = _feasible(model, facts)
    built = local.build(model, facts, planned.decision)
    if model_is_ruined := local.verify(model, facts, built):
        raise local.LocalError(model_is_ruined)
    with local_engine.serve(model, planned.plan, local.fetch(built[-1])) as engine:
        if not ask:
            print(format_call(engine.url, engine.model_name), flush=True)
            engine.process.wait()
            raise local.LocalError(f"the engine ended with exit code {engine.process.returncode}")
        answers = [{"question": question, "answer": engine.ask(question)} for question in ask]
    if output is RunOutput.JSON:
        print(json.dumps(answers, ensure_ascii=False, indent=2))
    else:
        print("\n\n".join(f"Q: {each['question']}\nA: {each['answer']}" for each in answers))


@app.command()
def plan(
    manifest: ManifestArgument,
    facts: Annotated[
        Path | None, typer.Option(metavar="FACTS.json", help="What inspect found; without it the sources are read.")
    ] = None,
    gpus: Annotated[
        Path | None,
        typer.Option(metavar="CLASSES.yaml", help="The GPUs to choose from; without it none is chosen."),
    ] = None,
    output: Annotated[PlanOutput, typer.Option("-o", "--output", help="How the plan is printed.")] = PlanOutput.TABLE,
) -> None:
    """Show how a model would be built and served, and why; exit code 3 when it cannot be.

    With --facts and --gpus it needs no network, no cluster and no GPU. CLASSES.yaml is a list; memory is of one GPU
    and may be left out for a common one (A10G, L4, A100-80, H100, H200, B200, L40S, T4, MI300X and others):

    \b
      - {name: A10G, memory: 23028Mi, perNode: 4, nodes: 2, resource: nvidia.com/gpu}
      - {name: H100, perNode: 8, nodes: 1}
    """
    model = read_manifest(manifest)
    classes = read_classes(gpus) if gpus else []
    found = _read_facts(facts) if facts else local.inspect(model)
    planned = make_plan(model.metadata.name, model.spec, found)
    if classes and isinstance(planned, Planned) and planned.decision.engine == "vLLM":
        _plan_on(model, found, classes, planned.decision, output)
        return
    result = planned if isinstance(planned, Rejection) else planned.plan
    if output is PlanOutput.JSON:
        print(json.dumps(plan_json(result), indent=2))
    else:
        print(format_plan(model, result))
    if isinstance(result, Rejection):
        raise typer.Exit(INFEASIBLE)


def _plan_on(
    model: FineTunedModel, facts: Facts, classes: list[AcceleratorClass], decision: Decision, output: PlanOutput
) -> None:
    awq = decision.awq
    result = sized(model.spec, facts, classes, awq)
    decided = [] if isinstance(result, NoFit) else list(decision.reasons)
    remedies = what_would_fit(model.spec, facts, classes, result, awq) if isinstance(result, NoFit) else []
    if output is PlanOutput.JSON:
        answer = sizing_json(result, remedies)
        print(json.dumps({**answer, "reasons": [*decided, *answer["reasons"]]}, indent=2))
    else:
        print(sizing_table.format_sizing(model, result, remedies, decided))
    if isinstance(result, NoFit):
        raise typer.Exit(INFEASIBLE)


app.command()(source_commands.inspect)
app.command()(source_commands.merge)
app.command()(report_command.report)
app.command()(explain_command.explain)
app.add_typer(artifact_commands.app, name="artifacts")


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition."""
    print(crd_yaml(), end="")


def plan_json(result: Plan | Rejection) -> dict[str, Any]:
    if isinstance(result, Rejection):
        return {"feasible": False, "rejected": [{"rule": result.rule, "reason": result.reason}]}
    return {"feasible": True, **result.to_json()}


def format_plan(model: FineTunedModel, result: Plan | Rejection) -> str:
    """A plan as a table of choices, and a list of reasons."""
    if isinstance(result, Rejection):
        return f"{model.metadata.name} cannot be served as asked\n  {result.rule}: {result.reason}"
    choices = {
        "mode": result.mode,
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


def format_call(url: str, model_name: str) -> str:
    """What to type to call a served model."""
    body = json.dumps({"model": model_name, "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"Serving {model_name} at {url}/v1 until Ctrl-C. Ask it something from another terminal:\n\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n    -d '{body}'\n"
    )


def _feasible(model: FineTunedModel, facts: Facts) -> Planned:
    result = make_plan(model.metadata.name, model.spec, facts)
    if isinstance(result, Rejection):
        raise Infeasible(f"{result.rule}: {result.reason}")
    return result


def _read_facts(path: Path) -> Facts:
    try:
        return Facts.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidManifest([f"{path}: {error.strerror}; name a file that holds what inspect found"]) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidManifest([f"{path}: {where}: {first['msg']}; write the `facts` of an inspect report"]) from None


def main() -> None:
    try:
        app()
    except (InvalidManifest, local.LocalError, Infeasible) as error:
        print(f"ftm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
