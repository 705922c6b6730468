"""Answers the probes of the kubelet, and says whom the operator serves.

GET /healthz is 503 when a restart would mend what is wrong. An operator that stands by is alive, and it is ready too:
a rollout of its own Deployment waits for it while the old pod holds the Lease. GET /readyz is 503 when a Lease can be
neither had nor waited for. GET /metrics says which scopes this pod serves, for which two gauges need no library.
"""

from aiohttp import web

from ftm_operator.runtime.election.leadership import Leadership
from ftm_operator.runtime.health import Health


async def serve(health: Health, leadership: Leadership, port: int) -> web.AppRunner:
    """Answers on this port until its runner is cleaned up."""

    async def healthz(_: web.Request) -> web.Response:
        problem = health.problem()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    async def readyz(_: web.Request) -> web.Response:
        if problem := health.problem() or leadership.fault():
            return web.Response(text=problem, status=503)
        return web.Response(text="\n".join(_standing(leadership)) or "ok")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=exposition(leadership), headers={"Content-Type": "text/plain; version=0.0.4"})

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def _standing(leadership: Leadership) -> list[str]:
    others = leadership.held_by_others()
    return [
        *(f"{name}: this operator serves it" for name, is_served in leadership.served().items() if is_served),
        *(f"{name}: {holder} holds the Lease; this operator stands by" for name, holder in others.items()),
    ]


def exposition(leadership: Leadership) -> str:
    """Returns the gauges in Prometheus' text format; names of scopes and holders need no escapes."""
    served = [
        f'ftm_operator_serves{{scope="{name}"}} {int(is_served)}' for name, is_served in leadership.served().items()
    ]
    others = [
        f'ftm_operator_stands_by{{scope="{name}",holder="{holder}"}} 1'
        for name, holder in leadership.held_by_others().items()
    ]
    return "\n".join(
        [
            "# HELP ftm_operator_serves Whether this pod serves the models of the scope.",
            "# TYPE ftm_operator_serves gauge",
            *served,
            "# HELP ftm_operator_stands_by Another operator serves the scope, and this pod stands by.",
            "# TYPE ftm_operator_stands_by gauge",
            *others,
            "",
        ]
    )
