{{- define "spendfuse.labels" -}}
app.kubernetes.io/name: spendfuse
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "spendfuse.metadata" -}}
name: {{ .root.Release.Name }}-{{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "spendfuse.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* A value of a setting as its variable has it: tables as JSON, lists with commas, whole numbers without an exponent. */}}
{{- define "spendfuse.value" -}}
{{- if kindIs "map" . }}{{ toJson . }}{{ else if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* The variables of a process: what all have, its own, its secrets by reference, and whatever else it was given. */}}
{{- define "spendfuse.env" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $settings := dict
    "kafka_bootstrap" $kafka.bootstrap
    "kafka_security_protocol" $kafka.securityProtocol
    "prefix" $kafka.prefix
    "partitions" $kafka.partitions
    "replication" $kafka.replication
    "state_generation" .root.Values.state.generation
    "metrics_port" 9100 -}}
{{- if $kafka.saslMechanism }}{{ $_ := set $settings "kafka_sasl_mechanism" $kafka.saslMechanism }}{{ end -}}
{{- if $kafka.caSecret.name }}{{ $_ := set $settings "kafka_ssl_ca" "/etc/spendfuse/kafka/ca.pem" }}{{ end -}}
{{- $settings = merge (dict) .more .process.settings .root.Values.settings $settings -}}
- name: SPENDFUSE_SLOT
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- range $name, $value := $settings }}
- name: SPENDFUSE_{{ upper $name }}
  value: {{ include "spendfuse.value" $value | quote }}
{{- end }}
{{- range $name, $from := .process.secrets }}
- name: SPENDFUSE_{{ upper $name }}
  valueFrom: { secretKeyRef: { name: {{ $from.name | quote }}, key: {{ $from.key | quote }} } }
{{- end }}
{{- range $name, $from := .process.receiverSecrets }}
- name: {{ $name }}
  valueFrom: { secretKeyRef: { name: {{ $from.name | quote }}, key: {{ $from.key | quote }} } }
{{- end }}
{{- with .process.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A pod that runs one process. Asked for: root, name, process (its values), command; more (settings), port, volumes, mounts. */}}
{{- define "spendfuse.pod" -}}
{{- $values := .root.Values -}}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
# Longer than a process takes to end: its batch, its commit, its connections.
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
topologySpreadConstraints:
  {{- range tuple "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "spendfuse.labels" $ | nindent 8 }}
  {{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name }}
    image: "{{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: {{ toJson .command }}
    env:
      {{- include "spendfuse.env" . | nindent 6 }}
    {{- if not .job }}
    ports:
      - { name: metrics, containerPort: 9100 }
      {{- with .port }}
      - { name: http, containerPort: {{ . }} }
      {{- end }}
    # Topics are read and state comes back after the start; until then a page may not be served.
    startupProbe:
      httpGet: { path: /metrics, port: metrics }
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 60
    # Not /healthz: it is red while no broker answers, and a process that waits for one is not to be started anew. One
    # whose loop stands still ends by itself.
    livenessProbe:
      httpGet: { path: /metrics, port: metrics }
      periodSeconds: 20
      timeoutSeconds: 10
      failureThreshold: 6
    readinessProbe:
      {{- if .port }}
      # Whoever serves others goes on while no broker answers: a gateway takes usage to its disk then.
      tcpSocket: { port: http }
      {{- else }}
      httpGet: { path: /healthz, port: metrics }
      {{- end }}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 3
    {{- end }}
    resources:
      {{- toYaml .process.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: { drop: [ALL] }
    volumeMounts:
      - { name: tmp, mountPath: /tmp }
      {{- if $values.kafka.caSecret.name }}
      - { name: kafka-ca, mountPath: /etc/spendfuse/kafka, readOnly: true }
      {{- end }}
      {{- with .mounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- range $place, $files := .process.files }}
      - { name: files-{{ $place }}, mountPath: {{ $files.path | quote }}, readOnly: true }
      {{- end }}
volumes:
  - name: tmp
    emptyDir: { sizeLimit: 256Mi }
  {{- if $values.kafka.caSecret.name }}
  - name: kafka-ca
    secret:
      secretName: {{ $values.kafka.caSecret.name }}
      items: [{ key: {{ $values.kafka.caSecret.key }}, path: ca.pem }]
  {{- end }}
  {{- with .volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- range $place, $files := .process.files }}
  - name: files-{{ $place }}
    {{- if $files.secret }}
    secret: { secretName: {{ $files.secret | quote }} }
    {{- else }}
    configMap: { name: {{ $files.configMap | quote }} }
    {{- end }}
  {{- end }}
{{- end -}}

{{/* A set of pods with names that stay: the names are their slots, by which the group knows a member that comes back. */}}
{{- define "spendfuse.set" -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "spendfuse.metadata" . | nindent 2 }}
spec:
  serviceName: {{ .root.Release.Name }}-{{ .name }}
  {{- if not .scaled }}
  replicas: {{ .replicas }}
  {{- end }}
  podManagementPolicy: Parallel
  minReadySeconds: {{ .steady | default 5 }}
  updateStrategy: { type: RollingUpdate }
  selector:
    matchLabels:
      {{- include "spendfuse.labels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "spendfuse.labels" . | nindent 8 }}
      {{- with .root.Values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "spendfuse.pod" . | nindent 6 }}
  {{- with .claims }}
  volumeClaimTemplates:
    {{- toYaml . | nindent 4 }}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "spendfuse.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "spendfuse.labels" . | nindent 4 }}
  ports:
    - { name: metrics, port: 9100, targetPort: metrics }
    {{- with .port }}
    - { name: http, port: {{ . }}, targetPort: http }
    {{- end }}
{{- end -}}

{{/* At most one pod is taken away at a time by whoever drains a node. */}}
{{- define "spendfuse.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "spendfuse.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "spendfuse.labels" . | nindent 6 }}
{{- end -}}
