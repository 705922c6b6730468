"""Builds the LeaderWorkerSet of a model whose replicas span nodes: each replica is a group of pods, one a node.

The pods are the Deployment's but for what they tell vLLM; the leader alone has a port, probes and the labels that the
Service selects by, so a Deployment's pods and leaders can answer side by side. Source of names and variables:
sigs.k8s.io/lws, api/leaderworkerset/v1.
"""

from ftm_operator.engines.vllm import ReplicaNode
from ftm_operator.resources.metadata import Manifest, labels, metadata
from ftm_operator.resources.serving.engine import ServedModel
from ftm_operator.resources.serving.kept_template import inputs_hash, with_memory
from ftm_operator.resources.serving.serving_labels import SERVE, WORKER, serving_labels
from ftm_operator.resources.serving.serving_pod import answering, hash_of_pods, serving_pod, serving_template
from ftm_operator.resources.serving.vllm import vllm_container
from ftm_operator.settings import Settings

KIND = "LeaderWorkerSet"
API_VERSION = "leaderworkerset.x-k8s.io/v1"
PLURAL = "leaderworkersets"
LEADER_ADDRESS = "$(LWS_LEADER_ADDRESS)"
WORKER_INDEX = "$(LWS_WORKER_INDEX)"
NO_GROUP_UNAVAILABLE = "1%"
"""Rounded down to 0 of fewer than 100 groups. A plain 0 is passed on to a StatefulSet, which refuses it, and then no
group is ever made."""

SURGE: Manifest = {"maxUnavailable": NO_GROUP_UNAVAILABLE, "maxSurge": 1}
RECREATE: Manifest = {"maxUnavailable": 1, "maxSurge": 0}


def group_name(resource: str) -> str:
    """Returns another name than the resource's own, which is taken by the Service that clients call.

    A LeaderWorkerSet has a headless Service of its own name, by which its nodes find each other.
    """
    return f"{resource}-nodes"


def leader_worker_set(served: ServedModel, settings: Settings, *, surge: bool = True) -> Manifest:
    """Returns the LeaderWorkerSet.

    A group is made anew as a whole when any of its containers ends, since vLLM's ranks cannot meet twice.
    """
    model = served.model

    def pod(rank: str, *, leads: bool) -> Manifest:
        engine = vllm_container(served, settings, ReplicaNode(LEADER_ADDRESS, rank, headless=not leads))
        return serving_pod(served, settings, answering(engine, model.spec.serving) if leads else engine)

    leader, worker = pod("0", leads=True), pod(WORKER_INDEX, leads=False)
    made_from = hash_of_pods(served, leader, worker)
    leads, helps = serving_labels(model, served.plan.engine), labels(model, WORKER, SERVE)
    return with_memory(
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": metadata(model, group_name(model.metadata.name), leads),
            "spec": {
                **served.replica_fields,
                "startupPolicy": "LeaderCreated",
                "rolloutStrategy": {
                    "type": "RollingUpdate",
                    "rollingUpdateConfiguration": SURGE if surge else RECREATE,
                },
                "leaderWorkerTemplate": {
                    "size": served.plan.nodes,
                    "restartPolicy": "RecreateGroupOnPodRestart",
                    "leaderTemplate": serving_template(served, leads, leader, made_from),
                    "workerTemplate": serving_template(served, helps, worker, made_from),
                },
            },
        },
        inputs_hash(served),
        served.count,
    )
