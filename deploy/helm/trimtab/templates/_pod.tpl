{{/*
The pod: of the DaemonSet, which holds the node, and of what gives it back. Takes a dictionary: root, and rollback, true
where the node is to be given back.
*/}}
{{- define "trimtab.container" -}}
{{- $values := .root.Values -}}
image: {{ include "trimtab.image" .root }}
{{- with $values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- $migrates := $values.migration.enabled }}
env:
  {{- if $migrates }}
  - name: POD_NAME # the one sandbox that the agent does not stop
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  {{- end }}
  - name: TRIMTAB_HOST_ROOT
    value: /host
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- if ne $values.metrics.address "127.0.0.1:9808" }}
  - name: TRIMTAB_HTTP
    value: {{ $values.metrics.address | quote }}
  {{- end }}
  {{- range $name, $value := $values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
securityContext:
  runAsUser: 0 # the files of /proc/sys and of the cgroup tree belong to root
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    {{- $named := list }}
    {{- if $values.capabilities.netAdmin }}{{ $named = append $named "NET_ADMIN" }}{{ end }}
    {{- if $values.capabilities.netRaw }}{{ $named = append $named "NET_RAW" }}{{ end }}
    {{- if $values.capabilities.sysAdmin }}{{ $named = append $named "SYS_ADMIN" }}{{ end }}
    {{- if $values.capabilities.sysModule }}{{ $named = append $named "SYS_MODULE" }}{{ end }}
    {{- with $named }}
    add:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  seccompProfile:
    type: RuntimeDefault
resources:
  {{- toYaml $values.resources | nindent 2 }}
volumeMounts:
  {{- if $migrates }}
  # Files are replaced whole, so their directories have to be writable.
  - name: kubelet
    mountPath: /host/var/lib/kubelet
    readOnly: false
  - name: runtime-config
    mountPath: /host{{ $values.migration.runtimeConfigDirectory }}
  {{- end }}
  - name: profile
    mountPath: /etc/trimtab
    readOnly: true
  - name: state
    mountPath: /var/lib/trimtab
  - name: run
    mountPath: /run/trimtab
  - name: host-run
    mountPath: /host/run
    readOnly: true
    mountPropagation: HostToContainer # what is unmounted on the node must not stay mounted here
  - name: run
    mountPath: /host/run/trimtab
  - name: proc
    mountPath: /host/proc
  - name: sys
    mountPath: /host/sys
  - name: etc
    mountPath: /host/etc
    readOnly: true
  - name: modprobe
    mountPath: /host/etc/modprobe.d
  - name: modules
    mountPath: /host/lib/modules
    readOnly: true
  {{- if not $migrates }}
  - name: kubelet
    mountPath: /host/var/lib/kubelet
    readOnly: true
  {{- end }}
  - name: log
    mountPath: /host/var/log
    readOnly: true
  - name: xtables-lock
    mountPath: /run/xtables.lock
  {{- if $values.ipMasqConfigMap.name }}
  - name: ip-masq
    mountPath: {{ $values.ipMasqConfigMap.mountPath }}
    readOnly: true
  {{- end }}
{{- end -}}

{{- define "trimtab.pod" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ include "trimtab.serviceAccount" .root }}
automountServiceAccountToken: {{ $values.objects.enabled }}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
# net.* sysctls and the NAT table are those of the network namespace that the agent lives in.
hostNetwork: true
hostIPC: {{ $values.hostIPC }}
# Not needed: the host's processes are read through the mount of its /proc.
hostPID: false
dnsPolicy: Default
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .rollback }}
initContainers:
  - name: rollback
    args: [rollback]
    {{- include "trimtab.container" . | nindent 4 }}
{{- end }}
containers:
  - name: trimtab
    {{- if .rollback }}
    # The node has been given back; nothing is left to do but to be seen as ready.
    image: {{ include "trimtab.image" .root }}
    command: [sleep, infinity]
    securityContext:
      runAsNonRoot: true
      runAsUser: 65532
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
      seccompProfile:
        type: RuntimeDefault
    resources:
      {{- toYaml $values.resources | nindent 6 }}
    {{- else }}
    args:
      - run
      {{- range $values.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    {{- include "trimtab.container" . | nindent 4 }}
    {{- if ne (include "trimtab.probeHost" .root) "off" }}
    {{- if ne $values.metrics.address "127.0.0.1:9808" }}
    ports:
      - name: metrics
        containerPort: {{ include "trimtab.port" .root }}
        hostPort: {{ include "trimtab.port" .root }}
        protocol: TCP
    {{- end }}
    startupProbe:
      httpGet: &health
        host: {{ include "trimtab.probeHost" .root }}
        path: /healthz
        port: {{ include "trimtab.port" .root }}
      periodSeconds: 1
      failureThreshold: 30
    livenessProbe:
      httpGet: *health
      periodSeconds: 20
      failureThreshold: 3
    readinessProbe:
      httpGet:
        host: {{ include "trimtab.probeHost" .root }}
        path: /readyz
        port: {{ include "trimtab.port" .root }}
      periodSeconds: 10
    {{- end }}
    {{- end }}
volumes:
  {{- if $values.migration.enabled }}
  - name: runtime-config
    hostPath: { path: {{ $values.migration.runtimeConfigDirectory }}, type: DirectoryOrCreate }
  {{- end }}
  - name: profile
    configMap:
      name: {{ default (printf "%s-profile" (include "trimtab.name" .root)) $values.existingProfileConfigMap }}
  - name: state
    hostPath: { path: /var/lib/trimtab, type: DirectoryOrCreate }
  - name: host-run
    hostPath: { path: /run, type: Directory }
  - name: run
    hostPath: { path: /run/trimtab, type: DirectoryOrCreate }
  - name: proc
    hostPath: { path: /proc, type: Directory }
  - name: sys
    hostPath: { path: /sys, type: Directory }
  - name: etc
    hostPath: { path: /etc, type: Directory }
  - name: modprobe
    hostPath: { path: /etc/modprobe.d, type: DirectoryOrCreate }
  - name: modules
    hostPath: { path: /lib/modules, type: DirectoryOrCreate } # a kernel without modules has none
  - name: kubelet
    hostPath: { path: /var/lib/kubelet, type: DirectoryOrCreate }
  - name: log
    hostPath: { path: /var/log, type: Directory }
  - name: xtables-lock
    hostPath: { path: /run/xtables.lock, type: FileOrCreate }
  {{- with $values.ipMasqConfigMap.name }}
  - name: ip-masq
    configMap:
      name: {{ . }}
      optional: true
  {{- end }}
{{- end -}}
