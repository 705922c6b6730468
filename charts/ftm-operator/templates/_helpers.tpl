{{- define "ftm-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
The names of what is not the release's own namespace's alone: cluster roles, their bindings, and bindings in watched
namespaces. With the release's namespace in it, another release of the same name has others.
*/}}
{{- define "ftm-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "ftm-operator.fullname" .) -}}
{{- end -}}

{{- define "ftm-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ftm-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "ftm-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "ftm-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "ftm-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.create is false: set serviceAccount.name to the ServiceAccount to use" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
An image of ours has the chart's appVersion as its tag unless values name another. A tag may be tag@digest, and skaffold
leaves the digest empty for images that it does not push.
*/}}
{{- define "ftm-operator.image" -}}
{{- $image := index .context.Values.images .name -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .context.Chart.AppVersion | trimSuffix "@") -}}
{{- end -}}
