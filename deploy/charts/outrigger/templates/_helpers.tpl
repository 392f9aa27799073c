{{/* The names of a revision's objects end in this. */}}
{{- define "outrigger.suffix" -}}
{{- if ne .Values.revision "default" }}-{{ .Values.revision }}{{ end }}
{{- end }}

{{- define "outrigger.name" -}}
outrigger-controlplane{{ include "outrigger.suffix" . }}
{{- end }}

{{/* The labels that select the pods. They never change. */}}
{{- define "outrigger.selector" -}}
app: outrigger-controlplane
istio.io/rev: {{ .Values.revision | quote }}
{{- end }}

{{- define "outrigger.labels" -}}
app.kubernetes.io/name: outrigger-controlplane
app.kubernetes.io/part-of: outrigger
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "outrigger.selector" . }}
{{- end }}

{{- define "outrigger.tag" -}}
{{ .Values.global.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Whether there can be more than one replica: "true" or nothing. */}}
{{- define "outrigger.several" -}}
{{- if .Values.controlPlane.autoscaling.enabled }}
{{- if ne (int .Values.controlPlane.autoscaling.minReplicas) 1 }}true{{ end }}
{{- else if ne (int .Values.controlPlane.replicas) 1 }}true{{ end }}
{{- end }}

{{/* What both kinds of webhooks have in common. The control plane writes clientConfig.caBundle. */}}
{{- define "outrigger.service" -}}
name: {{ include "outrigger.name" . }}
namespace: {{ .Release.Namespace }}
port: 443
{{- end }}

{{/* Pods of these namespaces are never sent to the injector: without them neither the cluster nor the control plane
could start. */}}
{{- define "outrigger.notSystemNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, kube-public, kube-node-lease, local-path-storage, {{ .Release.Namespace }}]
{{- end }}
