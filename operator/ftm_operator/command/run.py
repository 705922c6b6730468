"""Builds and serves a model on this machine: `ftm run`."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.command.options import ManifestArgument
from ftm_operator.local import engine as local_engine
from ftm_operator.local import steps as local
from ftm_operator.local.errors import Infeasible, LocalError
from ftm_operator.local.manifest_file import read_manifest
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.planning.rules.rejection import Rejection


class AnswerFormat(StrEnum):
    """Text for people, or JSON for programs."""

    TEXT = "text"
    JSON = "json"


def run(
    manifest: ManifestArgument,
    ask: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Ask this and exit; can be repeated.")] = None,
    output: Annotated[
        AnswerFormat, typer.Option("-o", "--output", help="How answers are printed.")
    ] = AnswerFormat.TEXT,
) -> None:
    """Build and serve a model on this machine, without a cluster.

    Inspects, merges, quantizes and verifies with the same commands as the operator's Jobs, keeps the results in a
    cache, and starts the engine on localhost. Without --ask it serves until Ctrl-C.
    """
    model = read_manifest(manifest)
    facts = local.inspect(model)
    planned = _feasible(model, facts)
    built = local.build(model, facts, planned)
    with local_engine.serve(model, planned.plan, local.fetch(built[-1])) as engine:
        if not ask:
            print(format_call(engine.client.url, engine.client.model_name), flush=True)
            engine.process.wait()
            raise LocalError(f"the engine ended with exit code {engine.process.returncode}")
        answers = [{"question": question, "answer": engine.client.ask(question)} for question in ask]
    if output is AnswerFormat.JSON:
        print(json.dumps(answers, ensure_ascii=False, indent=2))
    else:
        print("\n\n".join(f"Q: {answer['question']}\nA: {answer['answer']}" for answer in answers))


def format_call(url: str, model_name: str) -> str:
    """Returns the call of a served model for a person to type."""
    body = json.dumps({"model": model_name, "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"Serving {model_name} at {url}/v1 until Ctrl-C. Ask it something from another terminal:\n\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n    -d '{body}'\n"
    )


def _feasible(model: FineTunedModel, facts: Facts) -> Planned:
    result = plan(model.metadata.name, model.spec, facts)
    if isinstance(result, Rejection):
        raise Infeasible(f"{result.rule}: {result.reason}")
    return result
