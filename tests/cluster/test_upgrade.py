"""A newer installation and what serves already: nothing moves until somebody says so."""

import json
import time
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubectl import Kubectl
from tests.cluster.kubelet import eventually
from tests.cluster.operator_process import OperatorProcess, operator_process
from tests.cluster.test_misbehaving import ready, serve, writes

NAMESPACE = "upgrade-test"


def deployment(kubectl: Kubectl) -> dict[str, Any]:
    return kubectl.get("deployment", "support-bot")


def restarted(operator: OperatorProcess, **environment: str) -> None:
    operator.stop()
    operator.environment.update(environment)
    operator.start()


def test_an_upgrade_moves_nothing_until_somebody_says_so(control_plane: ControlPlane, tmp_path: Path) -> None:
    with operator_process(control_plane, NAMESPACE, tmp_path) as operator:
        operator.start()
        kubectl = control_plane.kubectl.within(NAMESPACE)
        serve(kubectl, serving={"resources": {"requests": {"memory": "1024Mi"}}})
        before, written = deployment(kubectl), writes(operator, "deployments")

        restarted(operator, FTM_VLLM_IMAGE="vllm:newer", FTM_JOBS_IMAGE="jobs:newer", FTM_IMAGE_PULL_POLICY="Always")
        eventually("what waits", lambda: "vllm:newer is not rolled out" in ready(kubectl).get("message", ""))
        time.sleep(operator.resync_seconds * 2)
        assert deployment(kubectl)["metadata"]["generation"] == before["metadata"]["generation"]
        assert writes(operator, "deployments") == written
        assert ready(kubectl)["status"] == "True"

        forgetful = {"metadata": {"annotations": {"ftm.dev/serving-inputs": None, "ftm.dev/applied-template": None}}}
        kubectl("patch", "deployment", "support-bot", "-p", json.dumps(forgetful))
        eventually("memory", lambda: "ftm.dev/applied-template" in deployment(kubectl)["metadata"]["annotations"])
        assert deployment(kubectl)["spec"] == before["spec"], "as after an upgrade from a version that kept no memory"

        kubectl("annotate", "finetunedmodel", "support-bot", "ftm.dev/rollout=now")
        engine = eventually("the new image", lambda: _engine(kubectl, "vllm:newer"))
        assert engine["imagePullPolicy"] == "Always"


def _engine(kubectl: Kubectl, image: str) -> dict[str, Any] | None:
    (engine,) = deployment(kubectl)["spec"]["template"]["spec"]["containers"]
    return engine if engine["image"] == image else None
