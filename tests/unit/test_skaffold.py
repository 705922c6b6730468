"""skaffold.yaml names only what exists: paths, images and values of the chart."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.containerfile import stages_of

ROOT = Path(__file__).parents[2]
SKAFFOLD = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
ARTIFACTS = SKAFFOLD["build"]["artifacts"]
(RELEASE,) = SKAFFOLD["deploy"]["helm"]["releases"]
VALUES = yaml.safe_load((ROOT / RELEASE["chartPath"] / "values.yaml").read_text())


def value(path: str) -> Any:
    found = VALUES
    for part in path.split("."):
        found = found[part]
    return found


def test_every_target_is_a_stage_that_copies_files_of_the_repository() -> None:
    for artifact in ARTIFACTS:
        docker = artifact["docker"]
        made_of = stages_of(ROOT / artifact["context"] / docker["dockerfile"], docker["target"])
        assert made_of[-1].name == docker["target"]
        assert f'title="{artifact["image"]}"' in " ".join(made_of[-1].instructions)
        assert all((ROOT / source).exists() for stage in made_of for source in stage.sources)


def test_it_deploys_the_chart() -> None:
    assert (ROOT / RELEASE["chartPath"] / "Chart.yaml").is_file()


def test_no_value_that_it_sets_is_unknown_to_the_chart() -> None:
    for path in [*RELEASE["setValueTemplates"], *RELEASE["setValues"]]:
        value(path)


def test_every_image_of_ours_in_the_chart_is_built_and_set() -> None:
    ours = {name: image["repository"] for name, image in VALUES["images"].items() if not image["tag"]}
    assert set(ours.values()) == {artifact["image"] for artifact in ARTIFACTS}
    for name, image in ours.items():
        for part in ("repository", "tag"):
            template = RELEASE["setValueTemplates"][f"images.{name}.{part}"]
            variables = re.findall(r"\.IMAGE_(?:REPO|TAG|DIGEST)_(\w+)", template)
            assert set(variables) == {image.replace("-", "_")}
