"""Makes the files that come from the models; running this module writes them.

Run it at the root of the repository after a change of a model; a test fails when a file differs.
"""

from pathlib import Path

from ftm_operator.api.crd import crd, to_yaml
from ftm_operator.api.custom_resources import CUSTOM_RESOURCES, CustomResource
from ftm_operator.api.reference import reference
from ftm_operator.api.v1alpha1 import GROUP, KIND

MADE_FROM = "made from operator/ftm_operator/api by `python -m ftm_operator.command.generated_files`"

CHART_TEMPLATE = """\
{{{{- /* {made_from} */}}}}
{{{{- if .Values.crds.enabled }}}}
apiVersion: {api_version}
kind: {kind}
metadata:
  name: {name}
  labels: {{{{- include "ftm-operator.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
{spec}{{{{- end }}}}
"""


def files() -> dict[str, str]:
    """Returns contents by path from the root of the repository."""
    made: dict[str, str] = {}
    for resource in CUSTOM_RESOURCES:
        template = "crd.yaml" if resource.kind == KIND else f"crd-{resource.plural}.yaml"
        made |= {
            f"crds/{GROUP}_{resource.plural}.yaml": f"# {MADE_FROM}\n{to_yaml(crd(resource))}",
            f"charts/ftm-operator/templates/{template}": chart_template(resource),
            f"docs/reference/{resource.kind.lower()}.md": reference(resource),
        }
    return made


def chart_template(resource: CustomResource) -> str:
    """Returns the CRD as a template of the chart, where values decide whether it is installed and kept."""
    document = crd(resource)
    spec = to_yaml({"spec": document["spec"]})
    if "{{" in spec:
        raise ValueError("a description or a rule holds {{, which Helm would take for a template: word it differently")
    return CHART_TEMPLATE.format(
        made_from=MADE_FROM, api_version=document["apiVersion"], kind=document["kind"], name=resource.name, spec=spec
    )


def main() -> None:
    for name, text in files().items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
