{{/* Names and labels that every object shares. */}}
{{- define "trimtab.name" -}}
{{- if contains "trimtab" .Release.Name -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- else -}}{{ printf "%s-trimtab" .Release.Name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "trimtab.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ default (include "trimtab.name" .) .Values.serviceAccount.name }}{{- else -}}{{ default "default" .Values.serviceAccount.name }}{{- end -}}
{{- end -}}

{{- define "trimtab.selector" -}}
app.kubernetes.io/name: trimtab
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "trimtab.labels" -}}
{{ include "trimtab.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "trimtab.image" -}}
{{- if .Values.image.digest -}}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{- else -}}{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{- end -}}
{{- end -}}

{{/* Host of an address of the form HOST:PORT, which probes ask; every address means the loopback one. */}}
{{- define "trimtab.probeHost" -}}
{{- $host := regexReplaceAll ":[0-9]+$" .Values.metrics.address "" | trimPrefix "[" | trimSuffix "]" -}}
{{- if has $host (list "::" "0.0.0.0") -}}127.0.0.1{{- else -}}{{ $host }}{{- end -}}
{{- end -}}

{{- define "trimtab.port" -}}{{ regexFind "[0-9]+$" .Values.metrics.address }}{{- end -}}
