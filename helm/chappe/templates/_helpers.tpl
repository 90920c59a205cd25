{{- define "chappe.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "chappe.secretName" -}}
{{- .Values.secretName | default (printf "%s-access" (include "chappe.name" .)) -}}
{{- end -}}

{{- define "chappe.selector" -}}
app.kubernetes.io/name: chappe
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chappe.labels" -}}
{{ include "chappe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
