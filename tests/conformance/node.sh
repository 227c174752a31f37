#!/usr/bin/env bash
# A real kubelet that registers the Node `own`, and its pods. Sourced; wants `work`, `kubelet`, `pods_root` (a cgroup) and the API server.

# kubelet_config [LINE...]: further keys of its configuration.
kubelet_config() {
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$pods_root
containerRuntimeEndpoint: unix://$runtime_socket
staticPodPath: /etc/kubernetes/manifests
address: 127.0.0.1
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
enableControllerAttachDetach: false
makeIPTablesUtilChains: false
# What it would write is put in its place, so that nothing of this machine changes.
protectKernelDefaults: true
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 2s
syncFrequency: 5s
fileCheckFrequency: 2s
resolvConf: ""
registerWithTaints: [{key: trimtab.dev/not-ready, effect: NoSchedule}]
evictionHard: {memory.available: 100Mi, nodefs.available: 1%}
$(printf '%s\n' "$@")
YAML
}

# The kernel settings that a kubelet wants: its own copies of the files, so that it finds them as it likes.
pretend_kernel_settings() {
  local entry file
  for entry in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$work/kernel/${entry%%=*}
    mkdir -p "${file%/*}" && echo "${entry#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${entry%%=*}"
  done
}

# start_kubelet [LINE...]: with these keys besides.
start_kubelet() {
  kubelet_config "$@" >/var/lib/kubelet/config.yaml
  $kubelet_command >>"$work/kubelet.log" 2>&1 &
  echo $! >"$work/kubelet.pid"
}
kubelet_command="$kubelet --config=/var/lib/kubelet/config.yaml --kubeconfig=$work/kubelet.kubeconfig --hostname-override=own
  --node-ip=10.255.255.1 --v=2"
kubelet_answers() { curl -sf http://127.0.0.1:10248/healthz; }
kill_kubelet() {
  local process
  process=$(cat "$work/kubelet.pid")
  kill -9 "$process"
  wait "$process" 2>/dev/null || true
}

# prepare_node: its cgroup and its credentials.
prepare_node() {
  local hierarchy
  for hierarchy in /sys/fs/cgroup/*/; do
    [ ! -e "$hierarchy/cgroup.procs" ] || [ "$hierarchy" = /sys/fs/cgroup/unified/ ] || mkdir -p "$hierarchy/$pods_root"
  done
  for hierarchy in cpus mems; do
    [ ! -d /sys/fs/cgroup/cpuset ] || cat "/sys/fs/cgroup/cpuset/cpuset.$hierarchy" >"/sys/fs/cgroup/cpuset/$pods_root/cpuset.$hierarchy"
  done
  cat >"$work/kubelet.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "$server", certificate-authority: "$work/certs/apiserver.crt"}}]
users: [{name: u, user: {token: own}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
YAML
}
