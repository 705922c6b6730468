"""A second Pod of a node fetches nothing, on a real kubelet: it serves although the store no longer has the weights."""

from typing import Any

import pytest

from tests.cluster.progress import say
from tests.e2e.story import Story
from tests.served.models import FACT, llama_cpp_model
from tests.servers.seaweedfs import ARTIFACTS

pytestmark = pytest.mark.timeout(3000)
NAME = "cached"


@pytest.fixture
def privileged(story: Story) -> Story:
    """A namespace whose Pods may use a folder of the node."""
    told = Story(story.stack, "cached")
    told.begin()
    told.kubectl("label", "namespace", told.namespace, "--overwrite", "pod-security.kubernetes.io/enforce=privileged")
    return told


def fetches(story: Story) -> list[str]:
    """Returns the last words of the fetch containers of the Pods that are Ready."""
    return [
        each["state"]["terminated"]["message"]
        for pod in story.ready_pods(NAME)
        for each in pod["status"].get("initContainerStatuses", [])
        if each["name"] == "fetch"
    ]


def test_the_second_pod_of_a_node_asks_the_store_for_nothing(privileged: Story) -> None:
    cached: dict[str, Any] = {"cache": {"hostPath": "/var/cache/ftm-tests", "size": "4Gi"}}
    privileged.apply(llama_cpp_model(NAME, **cached))
    privileged.await_phase(NAME, "Ready", "Failed")
    (first,) = fetches(privileged)
    assert "fetched" in first
    say(first)
    store = privileged.stack.s3.client()
    (key,) = [key for key in privileged.stored() if key.endswith("model.gguf") and key.split("/")[-2] in first]
    kept = store.get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()
    store.delete_object(Bucket=ARTIFACTS, Key=key)
    try:
        privileged.kubectl("scale", "finetunedmodel", NAME, "--replicas=2")
        both = privileged.eventually("two Pods are Ready", lambda: (found := fetches(privileged))[1:] and found)
    finally:
        store.put_object(Bucket=ARTIFACTS, Key=key, Body=kept)
    say("; ".join(both))
    assert sum("all of them were there already" in each for each in both) == 1
    assert FACT.in_answer(privileged.ask(NAME, FACT.question))
    privileged.kubectl("delete", "finetunedmodel", NAME, "--wait")
