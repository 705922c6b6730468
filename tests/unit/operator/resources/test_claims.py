"""pvc://claim/path: which pods mount a claim, how, and what `ftm run` says of it."""

from pathlib import Path
from typing import Any

import pytest

from ftm_jobs.contract.facts import Facts
from ftm_jobs.contract.manifest import Artifact
from ftm_operator.api.v1alpha1 import FineTunedModel
from ftm_operator.planning.plan import Planned, plan
from ftm_operator.resources.serving.deployment import deployment
from ftm_operator.resources.serving.engine import ServedModel, built_weights
from ftm_operator.steps.source import SourceArgument
from tests.unit.operator.command.test_cli import ftm
from tests.unit.operator.jobs import inspect_job, merge_job
from tests.unit.operator.local.test_manifest_file import TEXT, written
from tests.unit.operator.objects import SETTINGS, adapter_facts, base_facts, resource
from tests.unit.operator.scene import scene_of

BASE, ADAPTER, STORE = "pvc://models/base", "pvc://models/adapters/support", "pvc://built.v1/ftm"
KEY = "merge-1"


def on_claims(store: str = STORE) -> dict[str, Any]:
    return resource(
        base={"uri": BASE}, adapters=[{"name": "support", "uri": ADAPTER, "scale": 2}], artifacts={"uri": store}
    )


def claim_facts() -> Facts:
    return Facts(base=base_facts(uri=BASE), adapters=(adapter_facts(uri=ADAPTER),))


def pod(child: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = child["spec"]["template"]["spec"]
    return found


def claims(pod: dict[str, Any]) -> dict[str, str]:
    """Claims by volume."""
    volumes = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    return {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in volumes}


def mounts(container: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Path and read-only, by volume."""
    found = [mount for mount in container["volumeMounts"] if mount["name"].startswith("claim-")]
    return {mount["name"]: (mount["mountPath"], mount.get("readOnly", False)) for mount in found}


def jobs(store: str = STORE) -> tuple[dict[str, Any], dict[str, Any]]:
    model = FineTunedModel.model_validate(on_claims(store))
    return pod(inspect_job(model)), pod(merge_job(model, claim_facts()))


def test_sources_are_mounted_once_and_read_only() -> None:
    inspect, _ = jobs()
    assert claims(inspect) == {"claim-0": "models"}
    assert mounts(inspect["containers"][0]) == {"claim-0": ("/pvc/models", True)}
    assert inspect["containers"][0]["args"][1:5] == ["--base", BASE, "--adapter", f"{ADAPTER},scale=2.0"]


def test_a_merge_may_write_to_its_store_alone() -> None:
    _, merge = jobs()
    assert claims(merge) == {"claim-0": "models", "claim-1": "built.v1"}
    assert mounts(merge["containers"][0]) == {"claim-0": ("/pvc/models", True), "claim-1": ("/pvc/built.v1", False)}
    assert STORE in merge["containers"][0]["args"]


def test_a_claim_that_is_source_and_store_is_mounted_once_for_writing() -> None:
    inspect, merge = jobs("pvc://models/built")
    assert mounts(merge["containers"][0]) == {"claim-0": ("/pvc/models", False)}
    assert mounts(inspect["containers"][0]) == {"claim-0": ("/pvc/models", True)}


def test_a_large_claim_does_not_change_hands_at_every_start() -> None:
    assert {each["securityContext"]["fsGroupChangePolicy"] for each in jobs()} == {"OnRootMismatch"}


def test_serving_fetches_from_the_claim_and_the_engine_never_sees_it() -> None:
    model = FineTunedModel.model_validate(on_claims())
    planned = plan("support-bot", model.spec, claim_facts())
    assert isinstance(planned, Planned)
    artifact = Artifact(key=KEY, uri=f"{STORE}/{KEY}", digest="sha256:m", total_bytes=1, files=1)
    store = SourceArgument("artifacts", STORE, None)
    served = ServedModel(model, planned.plan, claim_facts(), built_weights(artifact, store), store)
    template = pod(deployment(served, SETTINGS))
    assert claims(template) == {"claim-0": "built.v1"}
    assert mounts(template["initContainers"][0]) == {"claim-0": ("/pvc/built.v1", True)}
    assert f"{STORE}/{KEY},digest=sha256:m" in template["initContainers"][0]["args"]
    assert mounts(template["containers"][0]) == {}


def test_from_apply_to_ready_status_keeps_the_claims_uris() -> None:
    scene = scene_of(on_claims(), found=claim_facts())
    scene.reach("Merging")
    built = scene.merge()
    scene.reach("Ready")
    status = scene.status()
    assert (status["phase"], status["facts"]["base"]["uri"]) == ("Ready", BASE)
    assert status["artifacts"]["merged"]["uri"] == built.uri == f"{STORE}/{built.key}"


@pytest.mark.parametrize("command", ["run", "plan"])
def test_ftm_run_says_what_to_write_instead(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = written(tmp_path, TEXT.replace("hf://org/b", ADAPTER))
    assert ftm(capsys, command, str(manifest)) == (
        2,
        "",
        f"ftm: spec.adapters[1].uri: {ADAPTER} is a volume of a cluster, which is not mounted here; write file:///path\n",
    )
