"""Runs the publish step: an artifact goes to a registry as an OCI image."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ftm_jobs.contract.report import Report
from ftm_jobs.steps.arguments import add_report_file
from ftm_jobs.stores.source import parse_source


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--artifact", required=True, metavar="SOURCE", help="an artifact: <artifacts>/<key>")
    parser.add_argument(
        "--to",
        required=True,
        metavar="REPOSITORY",
        help="registry/repository; asked by https://, but on this machine and where FTM_PLAIN_HTTP_REGISTRIES names it",
    )
    parser.add_argument(
        "--registry-credentials",
        type=Path,
        metavar="DIR",
        help="a folder with .dockerconfigjson, as of a mounted Secret; default: the config.json of `docker login`",
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    from ftm_jobs.artifacts.image_upload import publish_image
    from ftm_jobs.registry.client import Registry
    from ftm_jobs.registry.login import read_login
    from ftm_jobs.registry.repository import parse_repository

    repository = parse_repository(parsed.to)
    with Registry(repository, read_login(parsed.registry_credentials, repository)) as registry:
        return publish_image(parse_source(parsed.artifact), registry)
