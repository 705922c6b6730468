"""Makes the files that come from the models; running this module writes them.

Run it at the root of the repository after a change of a model; a test fails when a file differs.
"""

from pathlib import Path

from ftm_operator.api.crd import NAME, crd, crd_yaml, to_yaml
from ftm_operator.api.reference import reference

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
    return {
        "crds/ftm.dev_finetunedmodels.yaml": f"# {MADE_FROM}\n{crd_yaml()}",
        "charts/ftm-operator/templates/crd.yaml": chart_template(),
        "docs/reference/finetunedmodel.md": reference(),
    }


def chart_template() -> str:
    """Returns the CRD as a template of the chart, where values decide whether it is installed and kept."""
    document = crd()
    spec = to_yaml({"spec": document["spec"]})
    if "{{" in spec:
        raise ValueError("a description or a rule holds {{, which Helm would take for a template: word it differently")
    return CHART_TEMPLATE.format(
        made_from=MADE_FROM, api_version=document["apiVersion"], kind=document["kind"], name=NAME, spec=spec
    )


def main() -> None:
    for name, text in files().items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
