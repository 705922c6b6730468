"""Tells whether a server on this machine answers yet."""

import httpx2


def is_up(url: str) -> bool:
    """Tells whether a GET succeeds; a server that does not listen is not up."""
    try:
        return httpx2.get(url, timeout=2, trust_env=False).is_success
    except httpx2.TransportError:
        return False
