"""A node without a kubelet: answers the API server's requests for the logs of pods that a test binds to it."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.cluster.certificates import Authority
from tests.cluster.kubectl import Kubectl

ADDRESS = "127.0.0.1"


@dataclass
class LogNode:
    name: str
    kubectl: Kubectl
    line: str = ""
    """The end of every pod's log."""
    requests: list[str] = field(default_factory=list)

    def bind(self, pod: str) -> None:
        """As the scheduler would."""
        where = f"/api/v1/namespaces/{self.kubectl.namespace}/pods/{pod}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
        self.kubectl("create", "--raw", where, "-f", "-", stdin=json.dumps(binding))


@contextmanager
def log_node(kubectl: Kubectl, authority: Authority, name: str) -> Iterator[LogNode]:
    node = LogNode(name, kubectl)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            node.requests.append(self.path)
            body = f"{node.line}\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    pair = authority.sign(name, f"system:node:{name}", "system:nodes", hosts=[ADDRESS])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            kubectl.create(
                {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": True}}
            )
            status = {
                "addresses": [{"type": "InternalIP", "address": ADDRESS}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
            }
            patch = json.dumps({"status": status})
            kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)
            yield node
        finally:
            kubectl.delete("node", name)
            server.shutdown()
            thread.join()
