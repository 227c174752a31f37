#!/usr/bin/env bash
# The agent beside a real kubelet, which runs pods of a real API server by a real containerd: what the doubles and stand-ins of
# the other tests can only imitate. Changes nothing outside of namespaces and a cgroup of its own; wants root.
#   tests/conformance/kubelet.sh KUBE_APISERVER ETCD KUBELET TRIMTAB [trixie|forky]
# The last is the release of Debian that containerd comes from. LOGS=DIRECTORY keeps what all of them logged.
set -euo pipefail

apiserver=$(realpath "$1") etcd=$(realpath "$2") kubelet=$(realpath "$3") trimtab=$(realpath "$4") suite=${5:-trixie}
cd "$(dirname "$0")/../.."
export pods_root=${pods_root:-trimtab-conformance-$$}
remove_cgroups() { find /sys/fs/cgroup -depth -type d -path "*/$pods_root*" -exec rmdir {} + 2>/dev/null || true; }
if [ -z "${INSIDE:-}" ]; then
  work=$(mktemp -d)
  status=0
  INSIDE=1 work=$work unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc -- \
    "$0" "$apiserver" "$etcd" "$kubelet" "$trimtab" "$suite" || status=$?
  remove_cgroups # all that ran in there ended with the namespace
  rm -rf --one-file-system "$work"
  exit $status
fi
for part in checks server runtime node pods agent; do . tests/conformance/$part.sh; done

mount --make-rshared /
for directory in /run /var/lib /var/log /etc/cni /etc/kubernetes; do
  mkdir -p $directory && mount -t tmpfs tmpfs $directory
done
mkdir -p /run/trimtab /var/lib/kubelet /etc/kubernetes/manifests
fetch_runtime "$suite"
pretend_kernel_settings
start_server "$apiserver" "$etcd" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction
prepare_node
start_runtime
install_agent >/dev/null
reserving='{"resourceManagers":{"cpuManagerPolicy":"static","kubeReserved":{"cpu":"100m","memory":"256Mi","ephemeral-storage":"1Gi"},"systemReserved":{"cpu":"150m","memory":"128Mi"},"evictionHard":{"memory.available":"100Mi","nodefs.available":"1%"}},"kubernetes":{"extendedResources":{"example.com/dongle":3},"heldPods":{"failAfter":"10s"}}}'
pinning='{"resourceManagers":{"cpuManagerPolicy":"static","reservedSystemCPUs":"0","kubeReserved":{"memory":"256Mi"},"systemReserved":{"memory":"128Mi"},"evictionHard":{"memory.available":"100Mi","nodefs.available":"1%"}},"kubernetes":{"extendedResources":{"example.com/dongle":3},"heldPods":{"failAfter":"10s"}}}'
start_kubelet 'systemReserved: {cpu: 150m, memory: 128Mi}' 'kubeReserved: {cpu: 100m, memory: 256Mi, ephemeral-storage: 1Gi}'
for scene in ${SCENES:-registration allocatable classes answers refusals restarts resize other_manager migration disruption counting rollback shipped_pod}; do
  echo "--- $scene"
  . tests/conformance/scenes/$scene.sh
done

[ -z "${LOGS:-}" ] || { mkdir -p "$LOGS" && cp "$work"/*.log "$LOGS"; }
[ $failed = 0 ] || { echo "--- the agent"; tail -n 40 "$work/agent.log"; }
[ -z "${KEEP:-}" ] || { summary || true; sleep infinity; }
summary
