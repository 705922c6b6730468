"""The LeaderWorkerSet that serves a model whose replicas span nodes: each replica is a group of pods, one a node.

The pods are the Deployment's but for what they tell vLLM; the leader alone has a port, probes and the labels that the
Service selects by, so a Deployment's pods and leaders can answer side by side. Source of names and variables:
sigs.k8s.io/lws, api/leaderworkerset/v1.
"""

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel, Plan
from ftm_operator.planning.input_hashes import short_hash
from ftm_operator.resources import vllm
from ftm_operator.resources.deployment import answering, serving_pod, vllm_container
from ftm_operator.resources.metadata import (
    ARTIFACT_DIGEST,
    COMPONENT,
    POD_TEMPLATE,
    Manifest,
    labels,
    metadata,
    with_spec_hash,
)
from ftm_operator.settings import Settings

KIND = "LeaderWorkerSet"
API_VERSION = "leaderworkerset.x-k8s.io/v1"
PLURAL = "leaderworkersets"
WORKER = "vllm-worker"
LEADER_ADDRESS = "$(LWS_LEADER_ADDRESS)"
WORKER_INDEX = "$(LWS_WORKER_INDEX)"
NO_GROUP_UNAVAILABLE = "1%"
"""Rounded down to 0 of fewer than 100 groups. A plain 0 is passed on to a StatefulSet, which refuses it, and then no
group is ever made."""


def group_name(resource: str) -> str:
    """Not the resource's own: a LeaderWorkerSet has a headless Service of its name, by which its nodes find each other,
    and the Service of the resource's name is another."""
    return f"{resource}-nodes"


def leader_worker_set(
    model: FineTunedModel, plan: Plan, facts: Facts, artifact: Artifact, secret_name: str | None, settings: Settings
) -> Manifest:
    """A group is made anew as a whole when any of its containers ends, since vLLM's ranks cannot meet twice."""

    def pod(rank: str, *, leads: bool) -> Manifest:
        said = vllm.node_engine(model, plan, facts, LEADER_ADDRESS, rank, headless=not leads)
        engine = vllm_container(settings, said)
        return serving_pod(model, plan, artifact, secret_name, settings, answering(engine) if leads else engine)

    leader, worker = pod("0", leads=True), pod(WORKER_INDEX, leads=False)
    made_of = short_hash([leader, worker, artifact.digest], 16)
    annotations = {ARTIFACT_DIGEST: artifact.digest, POD_TEMPLATE: made_of}
    answers, helps = labels(model, "vllm", "serve"), labels(model, WORKER, "serve")
    return with_spec_hash(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(model, group_name(model.metadata.name), answers),
            "spec": {
                "replicas": model.spec.serving.replicas,
                "startupPolicy": "LeaderCreated",
                "rolloutStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdateConfiguration": {"maxUnavailable": NO_GROUP_UNAVAILABLE, "maxSurge": 1},
                },
                "leaderWorkerTemplate": {
                    "size": plan.nodes,
                    "restartPolicy": "RecreateGroupOnPodRestart",
                    "leaderTemplate": {"metadata": {"labels": answers, "annotations": annotations}, "spec": leader},
                    "workerTemplate": {"metadata": {"labels": helps, "annotations": annotations}, "spec": worker},
                },
            },
        }
    )


def answering_template(child: Manifest) -> Manifest:
    """The template of the pods that answer, of a Deployment or a LeaderWorkerSet."""
    spec = child["spec"]
    found: Manifest = spec["template"] if "template" in spec else spec["leaderWorkerTemplate"]["leaderTemplate"]
    return found


def answers(pod: Manifest) -> bool:
    """Whether a serving pod is one that takes requests."""
    return (pod["metadata"].get("labels") or {}).get(COMPONENT) != WORKER
