"""Models on A10Gs whose engines log what they measured, or crash for want of memory."""

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.facts import Facts
from ftm_operator.api.v1alpha1 import Measured
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, declared_classes
from tests.unit.operator.objects import adapter_facts, resource
from tests.unit.operator.planning.catalogue import base_facts_of
from tests.unit.operator.scene import Scene, scene_of

MISTRAL = Facts(base=base_facts_of("mistral-7b-v0.1"), adapters=(adapter_facts(),))
A10G = tuple(declared_classes([{"name": "A10G", "perNode": 4}]))
ONE_A10G = tuple(declared_classes([{"name": "A10G", "perNode": 1}]))
L4 = tuple(declared_classes([{"name": "L4", "perNode": 8, "product": "NVIDIA-L4"}]))
SERVING = {"dtype": "float16", "maxModelLen": 4096}
TOLD = Measured(weight_bytes=13 * GIB, kv_cache_bytes=5 * GIB, kv_cache_tokens=40_000, max_concurrency=9.77)


def deploying(gpus: tuple[AcceleratorClass, ...] = A10G) -> Scene:
    """Returns a model whose Deployment has just been made, on one A10G unless other GPUs are there."""
    scene = scene_of(resource(serving=SERVING), found=MISTRAL, gpus=gpus)
    scene.reach("Deploying")
    return scene


def answering(scene: Scene) -> Scene:
    """Has the engine start and answer."""
    scene.answer()
    scene.serving_pod({"running": {}}, ready=True)
    return scene
