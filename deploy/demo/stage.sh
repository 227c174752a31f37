# A throw-away node on this machine, for the demo and the measurements. Sourced by scripts that already run inside fresh
# network, IPC, mount and PID namespaces. Everything real: sysctls of the namespaces, iptables, cpusets, processes.
# shellcheck shell=bash

# stage_open: makes $HOST (a host root with the real /proc and /sys), $CGROUP (name of the temporary cgroup subtree)
stage_open() {
  STAGE=$(mktemp -d)
  HOST=$STAGE/host
  CGROUP=trimtab-stage-$$-$RANDOM
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p "$HOST"/{proc,sys,run,etc/modprobe.d,etc/containerd,var/lib/kubelet,var/log/pods,var/log/containers,lib/modules}
  mount --rbind /proc "$HOST/proc"
  mount --rbind /sys "$HOST/sys"
  ip link set lo up
  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    CGROUP_VERSION=2
    CONTROLLERS=(.)
    cgroup_enable /sys/fs/cgroup
  else
    CGROUP_VERSION=1
    CONTROLLERS=(cpuset cpu memory)
  fi
  for controller in "${CONTROLLERS[@]}"; do
    mkdir "/sys/fs/cgroup/$controller/$CGROUP"
    mkdir_cgroup "/sys/fs/cgroup/$controller/$CGROUP/kubepods"
    mkdir_cgroup "/sys/fs/cgroup/$controller/$CGROUP/kubepods/burstable"
    mkdir_cgroup "/sys/fs/cgroup/$controller/$CGROUP/kubepods/besteffort"
  done
  # What a kubelet and a runtime leave on a node; they disagree about the cgroup driver, as in the field.
  cat >"$HOST/var/lib/kubelet/config.yaml" <<'CONFIG'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
CONFIG
  cat >"$HOST/etc/containerd/config.toml" <<'CONFIG'
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
CONFIG
}

# stage_close: ends the processes and removes the temporary cgroups
stage_close() {
  local directory
  for directory in $(find_cgroups -name cgroup.procs); do
    xargs -r kill -KILL <"$directory" 2>/dev/null || true
  done
  for _ in $(seq 100); do
    find_cgroups -depth -type d | xargs -r rmdir 2>/dev/null || true
    [ -z "$(find_cgroups -type d)" ] && break
    sleep 0.05
  done
  umount -l "$HOST/proc" "$HOST/sys" 2>/dev/null || true
  rm -rf --one-file-system "$STAGE"
}

find_cgroups() {
  local controller
  for controller in "${CONTROLLERS[@]}"; do
    find "/sys/fs/cgroup/$controller/$CGROUP" "$@" 2>/dev/null || true
  done
}

# v2: children get the controllers that the pods need
cgroup_enable() {
  echo "+cpuset +cpu +memory" >"$1/cgroup.subtree_control"
}

# v1: a new cpuset is empty and must be filled before a process may enter
mkdir_cgroup() {
  mkdir -p "$1"
  if [ "$CGROUP_VERSION" = 2 ]; then
    cgroup_enable "$(dirname "$1")"
    return
  fi
  local file
  for file in cpuset.cpus cpuset.mems; do
    if [ -e "$1/$file" ]; then
      [ -s "$(dirname "$1")/$file" ] && [ -n "$(cat "$(dirname "$1")/$file")" ] ||
        cat "/sys/fs/cgroup/cpuset/$file" >"$(dirname "$1")/$file"
      cat "$(dirname "$1")/$file" >"$1/$file"
    fi
  done
}

# stage_pod QOS NAME CPU_MILLI(request) CPU_MILLI(limit, 0: none) MEMORY_BYTES(limit, 0: none)
# starts a process that stands for the one container of a pod; sets $POD_PID
stage_pod() {
  local qos=$1 name=$2 request=$3 limit=$4 memory=$5 uid id path shares controller
  uid=$(cat /proc/sys/kernel/random/uuid)
  id=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
  case $qos in
    Guaranteed) path=kubepods/pod$uid ;;
    Burstable) path=kubepods/burstable/pod$uid ;;
    *) path=kubepods/besteffort/pod$uid ;;
  esac
  shares=$((request * 1024 / 1000))
  [ "$shares" -ge 2 ] || shares=2
  for controller in "${CONTROLLERS[@]}"; do
    mkdir_cgroup "/sys/fs/cgroup/$controller/$CGROUP/$path"
    mkdir_cgroup "/sys/fs/cgroup/$controller/$CGROUP/$path/$id"
  done
  sleep 1000000 &
  POD_PID=$!
  disown "$POD_PID"
  if [ "$CGROUP_VERSION" = 2 ]; then
    local leaf=/sys/fs/cgroup/$CGROUP/$path/$id
    echo $((1 + (shares - 2) * 9999 / 262142)) >"$leaf/cpu.weight"
    [ "$limit" = 0 ] || echo "$((limit * 100)) 100000" >"$leaf/cpu.max"
    [ "$memory" = 0 ] || echo "$memory" >"$leaf/memory.max"
    echo "$POD_PID" >"$leaf/cgroup.procs"
  else
    echo "$shares" >"/sys/fs/cgroup/cpu/$CGROUP/$path/$id/cpu.shares"
    [ "$limit" = 0 ] || echo $((limit * 100)) >"/sys/fs/cgroup/cpu/$CGROUP/$path/$id/cpu.cfs_quota_us"
    [ "$memory" = 0 ] || echo "$memory" >"/sys/fs/cgroup/memory/$CGROUP/$path/$id/memory.limit_in_bytes"
    for controller in "${CONTROLLERS[@]}"; do
      echo "$POD_PID" >"/sys/fs/cgroup/$controller/$CGROUP/$path/$id/cgroup.procs"
    done
  fi
  # The kubelet's log directories are where names come from on a real node.
  mkdir -p "$HOST/var/log/pods/default_${name}_${uid}/app"
  ln -s "/var/log/pods/default_${name}_${uid}/app/0.log" "$HOST/var/log/containers/${name}_default_app-${id}.log"
}

# stage_profile: the profile that the demo and the measurements hold
stage_profile() {
  cat >"$STAGE/profile.yaml" <<'PROFILE'
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata:
  name: demo
spec:
  sysctls:
    values:
      net.core.somaxconn: 16384
      net.ipv4.tcp_rmem: "4096 131072 6291456"
      net.ipv4.ip_local_port_range: "32768 60999"
      net.ipv4.conf.*.log_martians: 1
      net.ipv4.tcp_keepalive_time: 600
      kernel.shmmni: 8192
  kernel:
    modules:
      block: [dccp, sctp]
  cgroup:
    driver: systemd
  resourceManagers:
    cpuManagerPolicy: static
    reservedSystemCPUs: "0"
    topologyManagerPolicy: best-effort
  ipMasq:
    enableIPv6: true
    nonMasqueradeCIDRs: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, "fd00::/8"]
PROFILE
}

# wait_until SECONDS WHAT COMMAND...: waits for a condition, never for a time
wait_until() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "never came true: $what" >&2; return 1; }
    sleep 0.005
  done
}
