"""The operator publishes a model and mounts it: vLLM answers from an image volume, and a second Pod pulls nothing."""

import pytest

from tests.assets.facts import FACTS
from tests.cluster.progress import say
from tests.cluster.stack import Stack
from tests.e2e.story import Story, manifest
from tests.servers.registry import RegistryServer

pytestmark = pytest.mark.timeout(3000)
NAME, REPOSITORY, SECRET = "mounted", "team/mounted", "registry-login"


@pytest.fixture
def story(stack: Stack, docker: RegistryServer) -> Story:
    told = Story(stack, "mounted")
    told.begin()
    told.kubectl.apply(docker.pull_secret(SECRET))
    return told


def test_a_published_model_is_served_from_its_image_and_a_second_pod_pulls_nothing(
    story: Story, docker: RegistryServer
) -> None:
    example = manifest(NAME)["spec"]
    oci = {"repository": f"{docker.host}/{REPOSITORY}", "secretName": SECRET}
    plain_http = {"env": [{"name": "FTM_PLAIN_HTTP_REGISTRIES", "value": docker.host}]}
    story.apply(
        manifest(
            NAME,
            artifacts={**example["artifacts"], "oci": oci},
            jobs=plain_http,
            serving={**example["serving"], "loading": "Image"},
        )
    )
    served = story.await_phase(NAME, "Ready", "Failed")
    image = served["status"]["artifacts"]["image"]
    assert image.startswith(f"{docker.host}/{REPOSITORY}@sha256:")
    (first,) = story.ready_pods(NAME)
    assert [each["image"] for each in first["spec"]["volumes"] if "image" in each] == [
        {"reference": image, "pullPolicy": "IfNotPresent"}
    ]
    assert FACTS[0].in_answer(story.ask(NAME, FACTS[0].question))
    say(f"status.start: {served['status'].get('start')}")

    pulled = docker.requests("GET", f"/v2/{REPOSITORY}/blobs/")
    assert pulled
    story.kubectl("scale", "finetunedmodel", NAME, "--replicas=2")
    story.eventually("two Pods are Ready", lambda: len(story.ready_pods(NAME)) == 2)
    assert docker.requests("GET", f"/v2/{REPOSITORY}/blobs/") == pulled
    story.kubectl("delete", "finetunedmodel", NAME, "--wait")
