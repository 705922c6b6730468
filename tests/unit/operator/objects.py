"""Builders of what tests of the operator start from: facts of a model, a stored resource, reports of steps and pods."""

from typing import Any

from ftm_jobs.contract.facts import AdapterFacts, BaseFacts, Facts
from ftm_jobs.contract.keys import merge_key
from ftm_jobs.contract.manifest import Artifact
from ftm_jobs.contract.report import Report
from ftm_jobs.contract.steps import Outcome, Step
from ftm_jobs.contract.verification import Check, Verification
from ftm_operator.resources.metadata import ARTIFACT, STEP
from ftm_operator.settings import Settings
from ftm_operator.steps.source import SourceArgument

Manifest = dict[str, Any]
NAMESPACE = "team-a"
NAME = "support-bot"
SETTINGS = Settings(
    jobs_image="jobs:1",
    merge_image="merge:1",
    vllm_image="vllm:1",
    llama_cpp_image="llama-cpp:1",
    gguf_image="gguf:1",
    awq_image="awq:1",
    compressor_image="compressor:1",
)
STORE = SourceArgument("artifacts", "s3://artifacts/built", "artifacts-s3")


def base_facts(**changes: Any) -> BaseFacts:
    known = {
        "uri": "s3://models/base",
        "digest": "sha256:base",
        "architecture": "LlamaForCausalLM",
        "model_type": "llama",
        "dtype": "BF16",
        "parameters": 134_515_008,
        "weight_bytes": 269_030_016,
        "layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "attention_heads": 9,
        "key_value_heads": 3,
        "head_size": 64,
        "vocabulary_size": 49152,
        "max_position_embeddings": 8192,
        "tied_embeddings": True,
    }
    return BaseFacts.model_validate(known | changes)


def adapter_facts(**changes: Any) -> AdapterFacts:
    known = {
        "uri": "s3://models/adapters/support",
        "digest": "sha256:adapter",
        "rank": 8,
        "alpha": 16.0,
        "scaling": 2.0,
        "target_modules": ("q_proj", "v_proj"),
        "layers_adapted": 60,
        "dtype": "F32",
        "weight_bytes": 1_000_000,
    }
    return AdapterFacts.model_validate(known | changes)


def facts(**base_changes: Any) -> Facts:
    return Facts(base=base_facts(**base_changes), adapters=(adapter_facts(),))


def resource(name: str = NAME, **spec: Any) -> Manifest:
    """As an API server stores it: CRD defaults are the models' own, so they may be left out."""
    return {
        "apiVersion": "ftm.dev/v1alpha1",
        "kind": "FineTunedModel",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "generation": 1,
            "resourceVersion": "1",
        },
        "spec": {
            "base": {"uri": "s3://models/base", "secretName": "models-s3"},
            "adapters": [{"name": "support", "uri": "s3://models/adapters/support"}],
            "artifacts": {"uri": "s3://artifacts/built", "secretName": "artifacts-s3"},
            **spec,
        },
    }


def report(step: Step, reason: str, outcome: Outcome = Outcome.DONE, message: str = "done", **more: Any) -> Report:
    return Report(step=step, outcome=outcome, reason=reason, message=message, **more)


def merged_report(found: Facts | None = None) -> Report:
    """Reports a merge of the first adapter alone, unscaled."""
    found = found or facts()
    key = merge_key(found.base.digest, [(found.adapters[0].digest, 1.0)])
    artifact = Artifact(key=key, uri=f"s3://artifacts/built/{key}", digest="sha256:m", total_bytes=1, files=1)
    return report(Step.MERGE, "Merged", artifact=artifact)


def verified_report() -> Report:
    artifact = Artifact(key="verify-1", uri="s3://artifacts/built/verify-1", digest="sha256:v", total_bytes=1, files=1)
    check = Check(name="MergeAgrees", value=0.0, bound=0.1, unit="nats/token", passed=True)
    found = Verification(passed=True, checks=(check,))
    return report(Step.VERIFY, "Verified", artifact=artifact, verification=found)


def refusal(step: Step, reason: str, message: str) -> Report:
    return report(step, reason, Outcome.INVALID_INPUT, message)


def pod_of(job: Manifest, state: Manifest, number: int = 0, **status: Any) -> Manifest:
    name = job["metadata"]["name"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{number}",
            "namespace": NAMESPACE,
            "labels": {**labels, "batch.kubernetes.io/job-name": name},
        },
        "spec": job["spec"]["template"]["spec"],
        "status": {"containerStatuses": [{"name": labels[STEP], "state": state}], **status},
    }


def artifact_label(job: Manifest) -> str:
    label: str = job["metadata"]["labels"][ARTIFACT]
    return label
