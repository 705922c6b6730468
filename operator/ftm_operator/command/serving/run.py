"""Builds and serves a model on this machine: `ftm run`."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from ftm_operator.command.options import ManifestArgument
from ftm_operator.command.serving.local_model import served_manifest
from ftm_operator.local.errors import LocalError


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
    cache, and starts the engine on localhost. Without --ask it serves until Ctrl-C. In mode Dynamic the base is served
    and its adapters beside it, and --ask asks each of them.
    """
    with served_manifest(manifest) as local_model:
        engine = local_model.engine
        if not ask:
            print(format_call(engine.client.url, engine.client.model_name), flush=True)
            engine.process.wait()
            raise LocalError(f"the engine ended with exit code {engine.process.returncode}")
        answers = [
            [
                {"model": client.model_name, "question": question, "answer": client.ask(question)}
                for client in local_model.clients
            ]
            for question in ask
        ]
    if output is AnswerFormat.JSON:
        print(json.dumps([each for of_question in answers for each in of_question], ensure_ascii=False, indent=2))
    else:
        print("\n\n".join(map(format_answers, answers)))


def format_answers(answers: list[dict[str, str]]) -> str:
    """Returns a question and its answer, or the answers of several models, each with its name."""
    several = len(answers) > 1
    lines = [f"{each['model'] if several else 'A'}: {each['answer']}" for each in answers]
    return "\n".join([f"Q: {answers[0]['question']}", *lines])


def format_call(url: str, model_name: str) -> str:
    """Returns the call of a served model for a person to type."""
    body = json.dumps({"model": model_name, "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"Serving {model_name} at {url}/v1 until Ctrl-C. Ask it something from another terminal:\n\n"
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n    -d '{body}'\n"
    )
