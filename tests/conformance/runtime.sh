#!/usr/bin/env bash
# A real containerd of Debian's packages with NRI, with images made by hand, in namespaces of the caller's own. Sourced;
# wants `work`, a directory for what it keeps.
runtime_socket=/run/containerd/containerd.sock

# fetch_runtime SUITE: finds or fetches containerd and runc (trixie: 1.7, forky: 2.x).
fetch_runtime() {
  suite=$1
  containerd=$(tests/lab/packages.sh "$suite" containerd)/usr/bin
  # A newer runc does not run on an older C library; this one runs on all. It goes first.
  runtime_command=$containerd/containerd
  PATH=$(tests/lab/packages.sh bookworm runc)/usr/sbin:$containerd:$PATH
  tests/lab/images.sh "$(tests/lab/packages.sh bookworm busybox-static)/bin/busybox" "$work/images.tar"
}

# No network, no registry; the snapshotter that needs nothing of the file system.
runtime_config() {
  local cri=grpc.v1.cri
  printf "version = %s\nroot = '%s'\nstate = '/run/containerd'\n" "$([ "$suite" = forky ] && echo 3 || echo 2)" "$work/containerd"
  printf "[plugins.'io.containerd.nri.v1.nri']\ndisable = false\nsocket_path = '/run/nri/nri.sock'\n"
  # Without CAP_SYS_RESOURCE no process may lower its score, and runc ends with a puzzling error.
  if [ "$suite" = forky ]; then
    cri=cri.v1.runtime
    printf "[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'native'\n"
    printf "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = 'localhost/pause:1'\n"
    printf "[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\n"
  else
    printf "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'localhost/pause:1'\nrestrict_oom_score_adj = true\n"
    printf "[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n"
  fi
  printf "[plugins.'io.containerd.%s'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n" "$cri"
  printf "[plugins.'io.containerd.%s'.containerd.runtimes.runc.options]\nSystemdCgroup = false\n" "$cri"
}

# start_runtime: returns when pods can be made of the images.
start_runtime() {
  mkdir -p /etc/cni/net.d /etc/containerd
  # Pods here use the network of the node; the runtime says that it is ready once it has read how to make one.
  echo '{"cniVersion":"0.4.0","name":"none","plugins":[{"type":"none"}]}' >/etc/cni/net.d/10-none.conflist
  runtime_config >/etc/containerd/config.toml
  $runtime_command >"$work/containerd.log" 2>&1 &
  echo $! >"$work/containerd.pid"
  within 60 ctr version || { tail -n 20 "$work/containerd.log" >&2; echo "containerd does not start" >&2; exit 1; }
  ctr images import "$work/images.tar" >/dev/null
  ctr version | awk '/Server/{s=1} s && /Version/{print "containerd", $2; exit}'
}
ctr() { "$containerd/ctr" --address "$runtime_socket" --namespace k8s.io "$@"; }
