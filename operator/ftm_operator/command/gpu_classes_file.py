"""Reads CLASSES.yaml, the kinds of GPU that `ftm plan --gpus` chooses from."""

from pathlib import Path

import yaml

from ftm_operator.api.errors import InvalidManifest
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, UnknownMemory, declared_classes


def read_classes(path: Path) -> list[AcceleratorClass]:
    """Raises InvalidManifest naming the file, or each wrong field."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidManifest([f"{path}: {error.strerror}; name a YAML file that lists kinds of GPU"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidManifest([f"{path} is not YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(document, list | dict):
        raise InvalidManifest(
            [f"{path} is not a list; write one item for each kind of GPU: - {{name: A10G, perNode: 4}}"]
        )
    try:
        return declared_classes(document)
    except InvalidManifest as error:
        raise InvalidManifest([f"{path}: {problem}" for problem in error.problems]) from None
    except UnknownMemory as error:
        raise InvalidManifest([f"{path}: {error}"]) from None
