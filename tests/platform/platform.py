"""Does what the tests beside the platform's components do again and again: serve a version, ask it, promote it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.assets.tenants import QUESTION
from tests.cluster.kubectl import Kubectl
from tests.cluster.progress import say
from tests.e2e.asking import chat_answer
from tests.e2e.story import Story, manifest
from tests.platform import traefik
from tests.platform.traefik import Traefik
from tests.platform.traffic import ask
from tests.servers.seaweedfs import MODELS

NAME = "desk"
PATH = f"/{NAME}"
SERVING: dict[str, Any] = {
    **manifest()["spec"]["serving"],
    "gateway": {"name": traefik.GATEWAY, "namespace": traefik.NAMESPACE, "path": PATH},
}


@dataclass(frozen=True)
class Platform:
    """A running stack with a gateway, and a Prometheus that reads both."""

    story: Story
    traefik: Traefik
    prometheus: str
    """The address of the Prometheus."""

    @property
    def url(self) -> str:
        """The model's address at the gateway."""
        return f"{self.traefik.url}{PATH}"

    @property
    def kubectl(self) -> Kubectl:
        return self.story.kubectl

    def apply(self, tenant: str, *, served: str = "Unchecked", **serving: Any) -> None:
        """Applies the model with a tenant's adapter."""
        adapter = {"name": tenant, "uri": f"s3://{MODELS}/adapters/{tenant}", "secretName": "models-s3"}
        spec = {"adapters": [adapter], "verification": {"served": served}}
        self.story.apply(manifest(NAME, **spec, serving={**SERVING, **serving}))

    def serve(self, tenant: str, *, served: str = "Unchecked", **serving: Any) -> None:
        """Applies the model and waits until this version serves, and answers at the gateway."""
        self.apply(tenant, served=served, **serving)
        self.await_ready()
        self.story.eventually("the gateway leads to it", lambda: self._status_of_models() == 200)

    def keep(self, tenant: str) -> None:
        """Serves a tenant's adapter, unless a version with it answers already."""
        if not self.answers(tenant):
            self.serve(tenant)

    def answers(self, tenant: str) -> bool:
        """Tells whether a version with a tenant's adapter answers at the gateway."""
        with httpx2.Client(timeout=300, trust_env=False) as client:
            return ask(client, self.url, NAME).tenant == tenant

    def await_ready(self) -> None:
        """Waits until what the spec means serves, and nothing of another version is left."""
        self.story.await_phase(NAME, "Ready", "Failed")
        assert self.story.condition(NAME, "Ready")["status"] == "True", self.story.evidence()
        self.story.eventually("nothing of another version is left", lambda: self.canary() is None)

    def ask(self) -> str:
        """Returns the whole greedy answer to the tenants' question, by way of the gateway."""
        answer = chat_answer(self.url, NAME, QUESTION)
        say(f"{QUESTION} -> {answer}")
        return answer

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.story.get(NAME)["status"]
        return found

    def canary(self) -> dict[str, Any] | None:
        return self.status().get("canary")

    def await_rolled_back(self) -> str:
        """Waits until a Canary has been rolled back by itself and nothing of it is left, and returns why."""
        self.story.await_phase(NAME, "Failed")
        stalled = self.story.condition(NAME, "Stalled")
        assert stalled["reason"] == "RolledBack", self.story.evidence()
        self.story.eventually("nothing of the Canary is left", lambda: self.canary() is None)
        said: str = stalled["message"]
        return said

    def await_step(self, step: int) -> None:
        """Waits until the gateway divides requests as a step of the Canary says."""

        def shares() -> bool:
            now = self.canary() or {}
            return (now.get("state"), now.get("step")) == ("Sharing", step) and bool(now.get("since"))

        self.story.eventually(f"the Canary is in step {step + 1}", shares)
        say(self.story.condition(NAME, "Ready")["message"])

    def ftm(self, command: str, *arguments: str) -> str:
        """Returns what `ftm COMMAND NAME` prints, as a person's own kubeconfig lets it."""
        program = Path(sys.executable).with_name("ftm")
        done = subprocess.run(
            [program, command, NAME, "-n", self.story.namespace, *arguments],
            env={**os.environ, "KUBECONFIG": str(self.story.stack.cluster.kubeconfig)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        say(f"ftm {command}: {done.stdout.strip()}")
        return done.stdout

    def versions(self) -> list[dict[str, Any]]:
        """Returns the versions as `ftm versions` lists them."""
        listed: list[dict[str, Any]] = json.loads(self.ftm("versions", "-o", "json"))
        return listed

    def _status_of_models(self) -> int:
        return httpx2.get(f"{self.url}/v1/models", timeout=60, trust_env=False).status_code
