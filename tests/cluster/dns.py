"""Cluster DNS for pods: answers SERVICE.NAMESPACE.svc.cluster.local with what the API server knows, and nothing else.

    python -m tests.cluster.dns ADDRESS KUBECONFIG

kopf reaches the API server by the name kubernetes.default.svc, and a served model's endpoint is such a name. A
Service with a ClusterIP has that address, a headless one the addresses of its ready pods. UDP and A records are all
that pods ask for here; any other name does not exist, since pods reach nothing outside the cluster.
"""

import base64
import json
import socket
import ssl
import struct
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PORT = 53
DOMAIN = "cluster.local"
ADDRESS_RECORD, INTERNET = 1, 1
TIME_TO_LIVE_SECONDS = 1
HEADER = struct.Struct("!HHHHHH")
RESPONSE, NO_SUCH_NAME = 0x8580, 3
"""Flags of an authoritative answer (the question wanted recursion), and the code for a name that is not there."""


@dataclass(frozen=True)
class Question:
    identity: int
    name: str
    kind: int
    raw: bytes
    """As it was asked: an answer repeats it."""


class Services:
    """Looks Services up in the API server, at each question anew."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server, self._token = cluster["server"], config["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        trust = ssl.create_default_context(cadata=authority)
        https = urllib.request.HTTPSHandler(context=trust)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)

    def addresses(self, name: str) -> list[str] | None:
        """Returns the address of a name's Service; None when there is no such Service."""
        labels = name.lower().rstrip(".").split(".")
        if len(labels) != 5 or ".".join(labels[2:]) != f"svc.{DOMAIN}":
            return None
        service, namespace = labels[:2]
        found = self._get(f"/api/v1/namespaces/{namespace}/services/{service}")
        if found is None:
            return None
        if found["spec"].get("clusterIP") != "None":
            return [found["spec"]["clusterIP"]]
        selector = f"labelSelector=kubernetes.io%2Fservice-name%3D{service}"
        slices = self._get(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{selector}")
        items = slices["items"] if slices else []
        endpoints = [endpoint for one in items for endpoint in one.get("endpoints") or []]
        return [address for endpoint in endpoints if _ready(endpoint) for address in endpoint["addresses"]]

    def _get(self, path: str) -> dict[str, Any] | None:
        request = urllib.request.Request(self._server + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with self._opener.open(request, timeout=3) as response:
                value: dict[str, Any] = json.load(response)
                return value
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def parse(packet: bytes) -> Question:
    """The first question of a DNS packet. Raises ValueError when it holds none."""
    if len(packet) < HEADER.size:
        raise ValueError(f"{len(packet)} bytes are no DNS packet")
    identity, _, questions, *_ = HEADER.unpack_from(packet)
    labels, at = [], HEADER.size
    while questions and at < len(packet) and (length := packet[at]):
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    end = at + 5
    if not labels or len(packet) < end:
        raise ValueError("a DNS packet without a question")
    (kind,) = struct.unpack_from("!H", packet, at + 1)
    return Question(identity, ".".join(labels), kind, packet[HEADER.size : end])


def answer(question: Question, addresses: list[str] | None) -> bytes:
    """The packet that answers a question: no such name without addresses, no record for a kind other than A."""
    if addresses is None:
        return HEADER.pack(question.identity, RESPONSE | NO_SUCH_NAME, 1, 0, 0, 0) + question.raw
    records = addresses if question.kind == ADDRESS_RECORD else []
    header = HEADER.pack(question.identity, RESPONSE, 1, len(records), 0, 0)
    name_of_question = struct.pack("!H", 0xC000 | HEADER.size)
    record = name_of_question + struct.pack("!HHIH", ADDRESS_RECORD, INTERNET, TIME_TO_LIVE_SECONDS, 4)
    return header + question.raw + b"".join(record + socket.inet_aton(address) for address in records)


def _ready(endpoint: dict[str, Any]) -> bool:
    return endpoint.get("conditions", {}).get("ready") is not False


def main(address: str, kubeconfig: str) -> None:
    services = Services(Path(kubeconfig))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, PORT))
        while True:
            packet, client = listener.recvfrom(512)
            try:
                question = parse(packet)
                listener.sendto(answer(question, services.addresses(question.name)), client)
            except (OSError, ValueError) as error:
                print(f"{client}: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
