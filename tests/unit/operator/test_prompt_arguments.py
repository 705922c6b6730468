"""Prompts of any length and of any characters reach the verify step as they are written."""

import json
import random
import re
import subprocess
from argparse import ArgumentParser

import pytest

from ftm_jobs.steps import verify
from ftm_jobs.text.prompts import read_questions
from tests.unit.operator.objects import resource
from tests.unit.operator.scene import scene_of

VARIABLES = ["$", "$(HOME)", "$$(HOME)", "$(", ")"]
PIECES = [*VARIABLES, '"', "'", "\\", "-", "--", "=", "[", ",", " ", "\n", "é", "日", "🤖", "x" * 297]


def expanded(argument: str) -> str:
    """Does what the kubelet does to an argument: $$ is a dollar sign, and $(NAME) the variable of that name."""
    variables = re.compile(r"\$\$|\$\(([^)]*)\)")
    return variables.sub(lambda match: "$" if match[0] == "$$" else {"HOME": "/tmp"}.get(match[1], match[0]), argument)


def random_prompts(seed: int) -> list[dict[str, object]]:
    chosen = random.Random(seed)
    return [{"prompt": "".join(chosen.choices(PIECES, k=400))[:8192], "expect": ["🤖"]} for _ in range(32)]


LONG = [{"prompt": "🤖" * 8192, "expect": ["x"]}] * 32
SHORT = [{"prompt": "Who?", "expect": ["x"]}]


@pytest.mark.parametrize("prompts", [SHORT, LONG, *map(random_prompts, range(4))], ids=range(6))
def test_they_are_read_as_they_were_written(prompts: list[dict[str, object]]) -> None:
    scene = scene_of(resource(verification={"prompts": prompts}))
    scene.reach("Verifying")
    arguments = [expanded(argument) for argument in scene.arguments("verify")]
    subprocess.run(["true", *arguments], check=True)
    parser = ArgumentParser()
    verify.add_arguments(parser)
    read = verify.prompts(parser.parse_args(arguments[1:]))
    assert isinstance(read, str)
    assert json.loads(read) == prompts
    assert len(read_questions(read)[0]) == len(prompts)


def test_a_short_list_is_one_argument() -> None:
    scene = scene_of(resource(verification={"prompts": SHORT}))
    scene.reach("Verifying")
    assert scene.argument("verify", "--prompts") == '[{"prompt": "Who?", "expect": ["x"]}]'
    assert not [argument for argument in scene.arguments("verify") if argument.startswith("--prompts-rest")]
