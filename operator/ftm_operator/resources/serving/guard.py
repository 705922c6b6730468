"""Puts the guard in front of vLLM's server: of all that it serves, clients reach what serves models and no more.

The fetch container writes the module and the agent's secret into memory; the engine imports it from PYTHONPATH. Before
the engine is stopped, the guard has clients' connections closed and waits for what is in flight.
"""

from ftm_jobs.contract.mounts import GUARD, GUARD_MODULE
from ftm_operator.engines.conventions import DRAIN_SECONDS, MOST_DRAIN_SECONDS, PORT
from ftm_operator.engines.vllm import GUARD_FLAGS
from ftm_operator.resources.metadata import Manifest

GUARD_VOLUME: Manifest = {"name": "ftm-guard", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
GUARD_MOUNT: Manifest = {"name": "ftm-guard", "mountPath": GUARD}
PYTHON_PATH = "PYTHONPATH"
USERS_PYTHON_PATH = "FTM_PYTHONPATH"
"""Holds what the spec sets as PYTHONPATH, which follows the guard's folder."""
DRAIN = ["python3", "-m", GUARD_MODULE, str(PORT), str(DRAIN_SECONDS), str(MOST_DRAIN_SECONDS)]
"""The command that returns once the server has drained."""


def with_guard(engine: Manifest) -> Manifest:
    """Returns vLLM's container, which mounts the guard, with it in front of its server."""
    users = next((variable for variable in engine["env"] if variable["name"] == PYTHON_PATH), None)
    others = [variable for variable in engine["env"] if variable is not users]
    own = [{"name": PYTHON_PATH, "value": GUARD}]
    if users:
        own = [{**users, "name": USERS_PYTHON_PATH}, {"name": PYTHON_PATH, "value": f"{GUARD}:$({USERS_PYTHON_PATH})"}]
    return {
        **engine,
        "args": [*GUARD_FLAGS, *engine["args"]],
        "env": [*own, *others],
        "lifecycle": {"preStop": {"exec": {"command": DRAIN}}},
    }
