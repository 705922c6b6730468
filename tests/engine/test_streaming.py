"""The pod of a model that is streamed tells vLLM what it understands: weights from S3, all else from the folder.

The streamer itself is no part of vLLM's CPU build, so the weights are not read here.
"""

from pathlib import Path
from typing import Any

import pytest

from ftm_operator.engines.conventions import MODEL_DIRECTORY
from tests.unit.operator.objects import resource
from tests.unit.operator.scene import scene_of


@pytest.fixture
def understood(tmp_path: Path) -> Any:
    """Returns the command line of a streamed model's engine, as vLLM's own parser reads it.

    The model's folder is there, as in the pod.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    scene = scene_of(resource(serving={"loading": "Stream"}))
    scene.reach("Deploying")
    (engine,) = scene.get("Deployment")["spec"]["template"]["spec"]["containers"]
    parser = make_arg_parser(FlexibleArgumentParser())  # type: ignore[no-untyped-call]
    found = parser.parse_args([str(tmp_path) if word == MODEL_DIRECTORY else word for word in engine["args"]])
    validate_parsed_serve_args(found)
    return AsyncEngineArgs.from_cli_args(found)


def test_weights_are_streamed_from_the_artifact(understood: Any) -> None:
    from vllm.transformers_utils.runai_utils import is_runai_obj_uri

    assert understood.load_format == "runai_streamer"
    assert understood.model.startswith("s3://artifacts/built/merge-")
    assert is_runai_obj_uri(understood.model)


def test_config_tokenizer_and_generation_config_are_those_that_were_proven(understood: Any, tmp_path: Path) -> None:
    assert {understood.tokenizer, understood.hf_config_path, understood.generation_config} == {str(tmp_path)}


def test_the_keys_of_the_store_are_those_that_the_streamer_reads() -> None:
    """A loader of vLLM's own hands the endpoint on under the streamer's name for it."""
    import inspect

    from vllm.model_executor.model_loader import runai_streamer_loader

    from ftm_operator.engines.vllm import STREAM_SECRET_KEYS

    source = inspect.getsource(runai_streamer_loader)
    assert 'os.getenv("AWS_ENDPOINT_URL")' in source
    assert "AWS_ENDPOINT_URL" in STREAM_SECRET_KEYS
