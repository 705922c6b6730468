"""Starts the operator: `python -m ftm_operator`, configured by FTM_* environment variables."""

import asyncio
import contextlib
import logging
import os
import sys

import kopf

from ftm_operator.environment import SettingsError, from_environment
from ftm_operator.runtime import handlers
from ftm_operator.runtime.cluster import Cluster
from ftm_operator.runtime.controller import Controller
from ftm_operator.runtime.health import Health, serve
from ftm_operator.settings import Settings


async def operate(settings: Settings) -> None:
    """Runs kopf and the controller until a signal comes or either of them ends."""
    health = Health(settings.resync_seconds)
    async with Cluster.connect() as cluster:
        controller = Controller(cluster, settings, health)
        probes = await serve(health, settings.health_port)
        stop = asyncio.Event()
        watching = asyncio.create_task(
            kopf.operator(
                registry=handlers.registry(controller, gpus=settings.observe_accelerators),
                settings=handlers.settings(),
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                stop_flag=stop,
            )
        )
        working = asyncio.create_task(controller.run())
        try:
            await asyncio.wait([watching, working], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            await watching
            await probes.cleanup()


def main() -> int:
    """Runs the operator and returns its exit code."""
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        print(f"ftm-operator: {error}", file=sys.stderr)
        return 2
    log_format = kopf.LogFormat.JSON if settings.log_format == "json" else kopf.LogFormat.FULL
    kopf.configure(verbose=False, log_format=log_format)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    asyncio.run(operate(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
