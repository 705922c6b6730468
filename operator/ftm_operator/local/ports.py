"""Finds ports of this machine that nothing listens at."""

import socket

ADDRESS = "127.0.0.1"


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        port: int = listener.getsockname()[1]
        return port
