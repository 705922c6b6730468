"""Lists the commands of `python -m ftm_jobs`: a new one is a row here and a module beside this one.

A command's module is imported once it is asked for. It imports at its top only what its arguments need, and in `run`
what does its work, so that each image can show every command's help and report what it lacks.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from ftm_jobs.contract.manifest import Catalogue, MergePreview
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Step
from ftm_jobs.contract.verification import ServedVerification


class CommandModule(Protocol):
    """Stands for a module of this package with a command."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Adds the command's arguments to its parser."""

    def run(self, parsed: Namespace) -> Report | Catalogue | MergePreview | ServedVerification:
        """Does the work. Raises InvalidInput and Failed, which the caller reports, as it does every other error."""


@dataclass(frozen=True)
class Command:
    """Names a command, the step that it reports, and the module that holds its arguments and its run."""

    name: str
    step: Step
    module: str
    summary: str
    """A sentence without its capital and its full stop, for help."""

    def load(self) -> CommandModule:
        """Imports the command's module."""
        module: Any = import_module(self.module)
        return module  # type: ignore[no-any-return]


COMMANDS = (
    Command(
        "inspect",
        Step.INSPECT,
        "ftm_jobs.steps.inspect",
        "read configs and headers of a base and its adapters, and check that they fit",
    ),
    Command(
        "merge",
        Step.MERGE,
        "ftm_jobs.steps.merge",
        "add adapters to a base, in order, and write the result under a key of its inputs or to --out",
    ),
    Command(
        "awq",
        Step.QUANTIZE,
        "ftm_jobs.steps.awq",
        "quantize a merged model to 4 bits with AWQ for vLLM, as an artifact of its own",
    ),
    Command(
        "gguf",
        Step.QUANTIZE,
        "ftm_jobs.steps.gguf",
        "convert a merged model to GGUF for llama.cpp, as an artifact of its own",
    ),
    Command(
        "verify",
        Step.VERIFY,
        "ftm_jobs.steps.verify",
        "measure a merged and a quantized model against base+adapter, and write figures and a report",
    ),
    Command(
        "publish",
        Step.PUBLISH,
        "ftm_jobs.steps.publish",
        "push an artifact to a registry as an OCI image, which nodes mount",
    ),
    Command(
        "fetch",
        Step.FETCH,
        "ftm_jobs.steps.fetch",
        "download an artifact, every file proven by its sha256, or a base as it is stored",
    ),
    Command(
        "adapter",
        Step.ADAPTER,
        "ftm_jobs.steps.adapter",
        "check an adapter against its base and keep it as an engine loads it unmerged, as an artifact of its own",
    ),
    Command(
        "adapters",
        Step.ADAPTERS,
        "ftm_jobs.steps.serving.adapters",
        "make a serving engine hold the adapters that are wanted, until stopped",
    ),
    Command(
        "served",
        Step.SERVED,
        "ftm_jobs.steps.serving.served",
        "hold an engine that serves a model against the reference that the model's verification has kept",
    ),
    Command(
        "cache",
        Step.CACHE,
        "ftm_jobs.steps.serving.node_cache",
        "keep what a serving pod uses in its node's cache, or make that cache's folder",
    ),
    Command(
        "artifacts",
        Step.ARTIFACTS,
        "ftm_jobs.steps.artifacts",
        "list, show, verify or remove what a store of artifacts holds",
    ),
    Command(
        "push",
        Step.PUSH,
        "ftm_jobs.steps.push",
        "upload a merged model to the Hugging Face Hub, with a card made from its manifest",
    ),
)
