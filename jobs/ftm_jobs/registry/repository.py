"""Names a repository of a registry, and the address at which the registry answers."""

import os
import re
from dataclasses import dataclass

from ftm_jobs.errors import InvalidInput, Reason

PLAIN_HTTP = "FTM_PLAIN_HTTP_REGISTRIES"
"""The environment variable with the hosts, separated by commas, that are asked by http:// and not by https://."""
DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"
_LOCAL = re.compile(r"(localhost|127(\.[0-9]{1,3}){3})(:[0-9]+)?")
_HOST = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"({_HOST})/({_PART}(?:/{_PART})*)")


@dataclass(frozen=True)
class Repository:
    """A repository: registry.example.com/models has the host registry.example.com and the path models."""

    host: str
    path: str

    @property
    def name(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def address(self) -> str:
        """Returns the registry's URL: of https://, but on this machine and where PLAIN_HTTP names the host."""
        plain = {host.strip() for host in os.environ.get(PLAIN_HTTP, "").split(",")}
        scheme = "http" if _LOCAL.fullmatch(self.host) or self.host in plain else "https"
        return f"{scheme}://{_DOCKER_HUB_API if self.host == DOCKER_HUB else self.host}"


def parse_repository(name: str) -> Repository:
    """Raises InvalidInput (InvalidURI)."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidInput(
            Reason.INVALID_URI,
            f'"{name}" is not a repository: write registry/repository in lower-case letters, without a tag',
        )
    return Repository(match[1], match[2])
