"""Runs the agent beside a serving engine: it makes the engine hold the wanted adapters, until it is stopped."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ftm_jobs.contract.mounts import ADAPTERS, AGENT_PORT, GUARD, WANTED_ADAPTERS
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.run_time_adapters import WANTED_FILE
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.errors import Interrupted, Reason
from ftm_jobs.steps.arguments import add_report_file


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wanted",
        type=Path,
        default=Path(WANTED_ADAPTERS, WANTED_FILE),
        metavar="FILE",
        help="the wanted adapters, as the operator writes them; read again when it changes; default %(default)s",
    )
    parser.add_argument(
        "--base-digest",
        metavar="DIGEST",
        help="of the base that the engine serves: adapters to another one are not loaded; default: not compared",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(ADAPTERS),
        metavar="DIR",
        help="where adapters are kept, under the same path as the engine sees; default %(default)s",
    )
    parser.add_argument(
        "--artifacts-credentials",
        type=Path,
        metavar="DIR",
        help="the artifact store's credentials; default: the process's environment",
    )
    parser.add_argument(
        "--disk-bytes",
        type=int,
        metavar="BYTES",
        help="the most that adapters may take; default: what is not used any more is removed at once",
    )
    parser.add_argument("--engine", default="http://127.0.0.1:8000", metavar="URL", help="default %(default)s")
    parser.add_argument(
        "--guard",
        type=Path,
        default=Path(GUARD),
        metavar="DIR",
        help="the engine's guard, as `fetch --guard` wrote it; default %(default)s",
    )
    parser.add_argument(
        "--port", type=int, default=AGENT_PORT, metavar="PORT", help="of GET /ready; default %(default)s"
    )
    add_report_file(parser)


def run(parsed: Namespace) -> Report:
    from ftm_jobs.serve.agent import AdapterAgent
    from ftm_jobs.serve.engine import VllmClient
    from ftm_jobs.serve.folders import AdapterFolders
    from ftm_jobs.serve.guard_files import read_secret
    from ftm_jobs.serve.readiness import readiness_server
    from ftm_jobs.serve.wanted_file import WantedFile

    with VllmClient(parsed.engine, read_secret(parsed.guard)) as engine:
        folders = AdapterFolders(parsed.folder.absolute(), parsed.artifacts_credentials)
        agent = AdapterAgent(WantedFile(parsed.wanted, parsed.base_digest), engine, folders, parsed.disk_bytes)
        try:
            with readiness_server(parsed.port, agent.unready):
                agent.run()
        except Interrupted:
            pass
    return Report(
        step=Step.ADAPTERS, outcome=Outcome.DONE, reason=Reason.AGENT_STOPPED, message="the agent was stopped"
    )
