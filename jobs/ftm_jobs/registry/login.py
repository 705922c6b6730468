"""Finds the credentials for a repository in a config.json of Docker's, as a Secret for pulling images holds it."""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.registry.repository import DOCKER_HUB, Repository
from ftm_jobs.runtime.caller import advice
from ftm_jobs.runtime.os_errors import words

SECRET_KEY = ".dockerconfigjson"
_DOCKER_HUB_NAMES = ("index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Login:
    """A name and a password, or a token by which the registry's authority gives others."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Returns the value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def read_login(folder: Path | None, repository: Repository) -> Login | None:
    """Returns the credentials for the repository in the mounted Secret, or in a person's own config.json.

    None where there are none, which some registries take. Raises InvalidInput (AccessDenied) for a Secret that is not
    there, is malformed, or has none for this registry.
    """
    if folder is None:
        own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
        return _login(_logins(own), repository) if own.is_file() else None
    file = folder / SECRET_KEY
    if not file.is_file():
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            f"credentials folder {folder} has no {SECRET_KEY}: "
            + advice(
                "create the Secret, of the type kubernetes.io/dockerconfigjson", "write a config.json of Docker's"
            ),
        )
    logins = _logins(file)
    login = _login(logins, repository)
    if login is None:
        known = ", ".join(sorted(logins)) or "no registry"
        raise InvalidInput(
            Reason.ACCESS_DENIED, f"{file} has credentials for {known[:200]}, not for {repository.host}: add them"
        )
    return login


def _logins(file: Path) -> Mapping[str, Any]:
    try:
        auths = json.loads(file.read_bytes()).get("auths", {})
    except OSError as error:
        raise InvalidInput(Reason.ACCESS_DENIED, f"{file} cannot be read: {words(error)}; correct it") from error
    except (ValueError, AttributeError) as error:
        raise InvalidInput(Reason.ACCESS_DENIED, f"{file} is not JSON with auths: write it anew") from error
    if not isinstance(auths, dict) or not all(isinstance(login, dict) for login in auths.values()):
        raise InvalidInput(Reason.ACCESS_DENIED, f"{file} has auths that are no objects: write it anew")
    return auths


def _login(logins: Mapping[str, Any], repository: Repository) -> Login | None:
    """Returns the login with the longest name that the repository's begins with, as the kubelet chooses."""
    found = [(name, login) for key, login in logins.items() if _covers(name := _bare(key), repository)]
    if not found:
        return None
    _, login = max(found, key=lambda named: len(named[0]))
    username, password = str(login.get("username", "")), str(login.get("password", ""))
    if login.get("auth"):
        try:
            username, _, password = base64.b64decode(login["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, TypeError) as error:
            raise InvalidInput(
                Reason.ACCESS_DENIED, f"the auth for {repository.host} is not base64 of user:password: write it anew"
            ) from error
    return Login(username, password.rstrip("\0"), str(login.get("identitytoken", "")))


def _bare(key: str) -> str:
    """Returns the host and the path that a key of auths names: https://index.docker.io/v1/ is docker.io."""
    name = key.partition("://")[2] or key
    name = name.rstrip("/").removesuffix("/v1").removesuffix("/v2")
    host, slash, path = name.partition("/")
    return (DOCKER_HUB if host in _DOCKER_HUB_NAMES else host) + slash + path


def _covers(name: str, repository: Repository) -> bool:
    return repository.name == name or repository.name.startswith(name + "/")
