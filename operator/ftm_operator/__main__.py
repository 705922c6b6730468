"""Starts the operator: `python -m ftm_operator`, configured by FTM_* environment variables."""

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid

import kopf

from ftm_operator.environment import SettingsError, from_environment
from ftm_operator.runtime import handlers
from ftm_operator.runtime.cluster import Cluster
from ftm_operator.runtime.controller import Controller
from ftm_operator.runtime.election.leadership import Leadership
from ftm_operator.runtime.election.lease import Identity
from ftm_operator.runtime.election.scopes import scopes_of
from ftm_operator.runtime.health import Health
from ftm_operator.runtime.probes import serve
from ftm_operator.settings import Settings

log = logging.getLogger("ftm_operator")


async def operate(settings: Settings) -> int:
    """Runs kopf, the Leases and the controller until a signal comes or one of them ends; returns the exit code.

    Whatever of these ends by itself ends the operator. It leaves its Leases, so that another pod, or itself once it is
    restarted, goes on at once.
    """
    health = Health(settings.resync_seconds)
    pod = settings.pod or f"{socket.gethostname()}_{uuid.uuid4()}"
    me = Identity(settings.installation or "default/ftm-operator", pod)
    async with Cluster.connect() as cluster:
        controller = Controller(cluster, settings, health)
        leadership = Leadership(scopes_of(cluster, settings.namespaces, me), me, controller.resume)
        cluster.seconds_to_write = leadership.seconds_left
        probes = await serve(health, leadership, settings.health_port)
        stop, started = asyncio.Event(), asyncio.Event()
        ours = [asyncio.create_task(each) for each in (leadership.run(), controller.run(), _signal_after(started))]
        await asyncio.sleep(0)  # at its end, kopf cancels each task that was not there when it began
        watching = asyncio.create_task(_watch(controller, settings, stop, started))
        try:
            await asyncio.wait([watching, *ours], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ours:
                task.cancel()
            ended = await asyncio.gather(*ours, return_exceptions=True)
            await leadership.release()
            stop.set()
            ended += await asyncio.gather(watching, return_exceptions=True)
            await probes.cleanup()
    faults = [fault for fault in ended if isinstance(fault, Exception)]
    for fault in faults:
        log.error("the operator ends, to be started anew: %s: %s", type(fault).__name__, fault)
    return 1 if faults else 0


async def _watch(controller: Controller, settings: Settings, stop: asyncio.Event, started: asyncio.Event) -> None:
    with handlers.patient_watches():
        await kopf.operator(
            registry=handlers.registry(controller, gpus=settings.observe_accelerators),
            settings=handlers.settings(),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            stop_flag=stop,
            ready_flag=started,
        )


async def _signal_after(started: asyncio.Event) -> None:
    """Waits for SIGTERM or SIGINT in kopf's place, which would stop before our own writes have ended."""
    await started.wait()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
    log.info("told to stop")


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
    return asyncio.run(operate(settings))


if __name__ == "__main__":
    sys.exit(main())
