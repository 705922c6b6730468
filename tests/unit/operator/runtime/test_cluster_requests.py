"""`Cluster` sends few requests: one for each thing it is asked to do, and none to discover what there is."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from kubernetes.aio import client

from ftm_operator.runtime.cluster import ApiError, Cluster, apply_body

SERVER = "/apis/apps/v1/namespaces/team-a/deployments"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "support-bot", "namespace": "team-a", "uid": "u-1"},
}
MODEL = {
    "apiVersion": "ftm.dev/v1alpha1",
    "kind": "FineTunedModel",
    "metadata": {"name": "support-bot", "namespace": "team-a"},
}


@dataclass
class ApiServer:
    """Answers every request with the next of `answers`, the last one again and again, and remembers the requests."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.requests.append((request.method, request.path, dict(request.query)))
        self.bodies.append(json.loads(body) if body else None)
        self.types.append(request.headers["Content-Type"])
        status, answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, str):
            return web.Response(status=status, text=answer)
        return web.json_response(answer, status=status)


@pytest.fixture
async def server() -> AsyncIterator[tuple[ApiServer, Cluster]]:
    api = ApiServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}")) as connection:
        yield api, Cluster(connection)
    await runner.cleanup()


async def test_a_list_is_read_page_by_page_and_names_the_kind_of_its_items(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]}
    api.answers = [(200, first), (200, last)]
    listing = await cluster.list("Deployment", "team-a")
    query = {"limit": "500", "labelSelector": "app.kubernetes.io/managed-by=ftm-operator"}
    assert api.requests == [("GET", SERVER, query), ("GET", SERVER, {**query, "continue": "more"})]
    assert [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in listing.items] == [
        ("apps/v1", "Deployment", "a"),
        ("apps/v1", "Deployment", "b"),
    ]
    assert listing.resource_version == 7


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Node", "/api/v1/nodes"),
        ("ResourceSlice", "/apis/resource.k8s.io/v1/resourceslices"),
        ("FineTunedModel", "/apis/ftm.dev/v1alpha1/finetunedmodels"),
    ],
)
async def test_kinds_of_others_are_listed_in_all_namespaces(
    server: tuple[ApiServer, Cluster], kind: str, path: str
) -> None:
    api, cluster = server
    api.answers = [(200, {"metadata": {"resourceVersion": "7"}, "items": []})]
    await cluster.list(kind)
    assert api.requests == [("GET", path, {"limit": "500"})]


async def test_an_object_that_is_not_there_is_none(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    api.answers = [(200, DEPLOYMENT), (404, {"message": "not found"})]
    assert await cluster.get("Deployment", "team-a", "support-bot") == DEPLOYMENT
    assert await cluster.get("Deployment", "team-a", "support-bot") is None
    assert api.requests == [("GET", f"{SERVER}/support-bot", {})] * 2
    assert cluster.writes == 0


async def test_apply_is_one_server_side_apply_by_our_field_manager(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    api.answers = [(200, DEPLOYMENT)]
    assert await cluster.apply(DEPLOYMENT) == DEPLOYMENT
    assert api.requests == [("PATCH", f"{SERVER}/support-bot", {"fieldManager": "ftm-operator", "force": "true"})]
    assert (api.bodies, api.types) == ([DEPLOYMENT], ["application/apply-patch+yaml; charset=utf-8"])
    assert cluster.writes == 1


@given(text=st.text())
@example(text='\U0001f680\x7f\x85\u2028\ufeff\uffff\U0010ffff\\ud83d"\ud83d\n')
def test_the_body_of_an_apply_is_yaml_whatever_a_string_holds(text: str) -> None:
    whole = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    read = yaml.safe_load(apply_body({"data": {"text": text}}))
    assert read == {"data": {"text": whole}}


async def test_a_status_is_applied_to_its_subresource(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    api.answers = [(200, MODEL)]
    await cluster.apply(MODEL, "status")
    path = "/apis/ftm.dev/v1alpha1/namespaces/team-a/finetunedmodels/support-bot/status"
    assert api.requests == [("PATCH", path, {"fieldManager": "ftm-operator", "force": "true"})]
    assert cluster.writes == 1


@pytest.mark.parametrize("status", [200, 404, 409])
async def test_delete_names_the_object_by_its_uid_and_may_come_too_late(
    server: tuple[ApiServer, Cluster], status: int
) -> None:
    api, cluster = server
    api.answers = [(status, {})]
    await cluster.delete(DEPLOYMENT)
    assert api.requests == [("DELETE", f"{SERVER}/support-bot", {})]
    assert api.bodies == [{"propagationPolicy": "Background", "preconditions": {"uid": "u-1"}}]
    assert cluster.writes == 1


async def test_an_event_is_created(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    event = {"metadata": {"namespace": "team-a", "generateName": "support-bot-"}, "reason": "Merged"}
    api.answers = [(201, event)]
    await cluster.create_event(event)
    assert api.requests == [("POST", "/api/v1/namespaces/team-a/events", {})]
    assert (api.bodies, cluster.writes) == ([event], 1)


async def test_logs_are_read_in_parts(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    api.answers = [(200, "one line\n")]
    assert await cluster.last_log_line("team-a", "merge-1", "merge") == "one line"
    await cluster.log_beginning("team-a", "support-bot-1", "vllm")
    await cluster.log_end("team-a", "support-bot-1", "vllm", previous=True)
    path = "/api/v1/namespaces/team-a/pods"
    assert api.requests == [
        ("GET", f"{path}/merge-1/log", {"container": "merge", "tailLines": "1", "limitBytes": "512"}),
        ("GET", f"{path}/support-bot-1/log", {"container": "vllm", "limitBytes": "262144", "timestamps": "true"}),
        (
            "GET",
            f"{path}/support-bot-1/log",
            {"container": "vllm", "tailLines": "500", "limitBytes": "262144", "previous": "true"},
        ),
    ]


async def test_the_api_groups_are_one_request(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    version = {"groupVersion": "keda.sh/v1alpha1", "version": "v1alpha1"}
    api.answers = [(200, {"groups": [{"name": "keda.sh", "versions": [version], "preferredVersion": version}]})]
    assert await cluster.api_groups() == {"keda.sh"}
    assert api.requests == [("GET", "/apis/", {})]


async def test_the_version_of_kubernetes_is_one_request(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    told = dict.fromkeys(("major", "minor", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler"), "x")
    api.answers = [(200, {**told, "platform": "linux/amd64", "gitVersion": "v1.36.2"})]
    assert await cluster.kubernetes_version() == "v1.36.2"
    assert api.requests == [("GET", "/version/", {})]


async def test_whether_a_kind_is_served_is_one_request(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    served = {"name": "leaderworkersets", "singularName": "", "namespaced": True, "kind": "LeaderWorkerSet"}
    group = {"groupVersion": "leaderworkerset.x-k8s.io/v1", "resources": [{**served, "verbs": []}]}
    api.answers = [(200, group), (404, {"message": "no such group"})]
    assert await cluster.serves("LeaderWorkerSet")
    assert not await cluster.serves("LeaderWorkerSet")
    assert api.requests == [("GET", "/apis/leaderworkerset.x-k8s.io/v1", {})] * 2


async def test_an_error_names_the_request_and_says_what_the_server_said(server: tuple[ApiServer, Cluster]) -> None:
    api, cluster = server
    api.answers = [(403, {"message": "you may not"})]
    with pytest.raises(ApiError) as refused:
        await cluster.apply(DEPLOYMENT)
    assert str(refused.value) == f"PATCH {SERVER}/support-bot: 403 you may not"
    assert (refused.value.status, refused.value.message) == (403, "you may not")
    api.answers = [(502, "<html>bad gateway</html>")]
    with pytest.raises(ApiError, match="502 <html>bad gateway</html>"):
        await cluster.get("Deployment", "team-a", "support-bot")


async def test_a_server_that_does_not_answer_is_an_error_of_status_0() -> None:
    async with client.ApiClient(client.Configuration(host="http://127.0.0.1:1")) as connection:
        with pytest.raises(ApiError, match=r"GET /api/v1/nodes: no answer: ") as silent:
            await Cluster(connection).list("Node")
    assert silent.value.status == 0
