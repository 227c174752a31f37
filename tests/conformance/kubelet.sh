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

keep_logs() { [ -z "${LOGS:-}" ] || { mkdir -p "$LOGS" && cp "$work"/*.log "$LOGS"; }; }
trap keep_logs EXIT

mount --make-rshared /
for directory in /run /var/lib /var/log; do mount -t tmpfs tmpfs $directory; done
cp -a /etc "$work/etc" && mount --bind "$work/etc" /etc
rm -rf /etc/cni/net.d /etc/kubernetes /etc/containerd
# The kubelet makes directories that the shipped pod mounts and the machine lacks.
mkdir "$work/lib" "$work/lib-work"
mount -t overlay -o "lowerdir=/usr/lib,upperdir=$work/lib,workdir=$work/lib-work" overlay /usr/lib
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
all=$(nproc) # CPU 0 is reserved by `pinning`
for scene in ${SCENES:-registration allocatable classes answers refusals restarts resize other_manager disruption migration counting rollback shipped_pod}; do
  echo "--- $scene"
  . tests/conformance/scenes/$scene.sh
done

[ $failed = 0 ] || { echo "--- the agent"; tail -n 40 "$work/agent.log"; }
summary
