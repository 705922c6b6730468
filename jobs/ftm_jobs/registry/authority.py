"""Gets the right to push to a repository, as the registry's challenge asks: by a password, or by a token.

Source: distribution/distribution, docs/content/spec/auth/token.md and oauth.md.
"""

import re
from dataclasses import dataclass, field

import httpx2

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.registry.login import Login
from ftm_jobs.registry.repository import Repository
from ftm_jobs.runtime.caller import advice

_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
CLIENT = "ftm-operator"


@dataclass
class Authority:
    """Holds the value of the Authorization header for one repository, and renews it."""

    repository: Repository
    login: Login | None
    http: httpx2.Client
    authorization: str | None = field(default=None, repr=False)

    def renew(self, challenge: str) -> None:
        """Answers a registry's challenge, its WWW-Authenticate. Raises InvalidInput (AccessDenied), and HTTPError."""
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() == "bearer" and "realm" in parameters:
            self.authorization = f"Bearer {self._token(parameters)}"
        elif scheme.lower() == "basic" and self.login and self.login.password:
            self.authorization = self.login.basic
        else:
            raise self.denied(f"it asks for {scheme or 'credentials'}")

    def denied(self, text: str) -> InvalidInput:
        """Returns the error of a registry that does not let us push."""
        mend = advice(
            "correct the Secret of spec.artifacts.oci.secretName, or what its user may push",
            "log in with `docker login`",
        )
        return InvalidInput(
            Reason.ACCESS_DENIED, f"{self.repository.name}: the registry refuses the push ({text}): {mend}"
        )

    def _token(self, parameters: dict[str, str]) -> str:
        realm = parameters["realm"]
        if not realm.startswith("https://") and self.repository.address.startswith("https://"):
            raise self.denied(f"its authority {realm} is not asked by https://")
        asked = {"service": parameters.get("service", ""), "scope": f"repository:{self.repository.path}:pull,push"}
        if self.login and self.login.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": self.login.identity_token, "client_id": CLIENT}
            answer = self.http.post(realm, data={**grant, **asked})
        else:
            headers = {"Authorization": self.login.basic} if self.login and self.login.password else {}
            answer = self.http.get(realm, params=asked, headers=headers)
        if answer.status_code in (400, 401, 403, 404):
            raise self.denied(f"its authority {httpx2.URL(realm).host} answers {answer.status_code}")
        answer.raise_for_status()
        content = answer.json()
        token = content.get("token") or content.get("access_token")
        if not token:
            raise self.denied(f"its authority {httpx2.URL(realm).host} gives no token")
        return str(token)
