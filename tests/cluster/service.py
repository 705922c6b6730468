"""A Service, as a client on this machine meets it: some time after it exists."""

import socket
import time

from tests.cluster.kubectl import Kubectl

SECONDS = 300
"""kube-proxy tries again after 30 s when it could not write its rules, and a machine may be busy."""


def reached(kubectl: Kubectl, name: str, port: int = 80) -> str:
    """The cluster address of a Service that accepts connections; raises TimeoutError when it does not in time.

    A pod is Ready before every node routes to it. A connection begun before that stays lost, however long it is given
    (its conntrack entry is made without the Service's translation), so each attempt is a new one.
    """
    address: str = kubectl.get("service", name)["spec"]["clusterIP"]
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError as refused:
            if time.monotonic() > deadline:
                raise TimeoutError(f"service {name} ({address}:{port}) not within {SECONDS} s: {refused}") from refused
            time.sleep(0.2)
        else:
            return address
