#!/usr/bin/env bash
# A node that registers, and what the agent and the kubelet tell of it side by side. Sourced.
taints() { field node own '{.spec.taints[*].key}'; }
ready() { is node own '{.status.conditions[?(@.type=="Ready")].status}' True; }
tainted() { grep -q trimtab.dev/not-ready <<<"$(taints)"; }
untainted() { ! tainted; }
heartbeat() { condition Ready lastHeartbeatTime; }
told_again() { [ "$(heartbeat)" != "$1" ]; }

soon "the kubelet registers its Node, ready" ready
holds "it bears the start-up taint" tainted
profile "$reserving" >/dev/null
start_agent
soon "the agent takes the start-up taint off" untainted
holds "and leaves the taints of others" grep -q node.kubernetes.io/not-ready <(taints)
soon "TrimtabReady says that all is well" is node own '{.status.conditions[?(@.type=="TrimtabReady")].status}' True
soon "the extended resource is in the capacity" is node own '{.status.capacity.example\.com/dongle}' 3
soon "the kubelet makes it allocatable" is node own '{.status.allocatable.example\.com/dongle}' 3

for round in first second third; do
  before=$(heartbeat)
  soon "the kubelet writes its status for the $round time" told_again "$before"
done
for kind in TrimtabReady KernelTuned PinningHealthy MasqueradeHealthy CgroupDriverMatched; do
  holds "$kind has survived that" is node own "{.status.conditions[?(@.type==\"$kind\")].status}" True
done
for kind in MemoryPressure DiskPressure PIDPressure; do
  holds "the kubelet's $kind is there too" is node own "{.status.conditions[?(@.type==\"$kind\")].status}" False
done

driver() { answer '{o["object"]: o["observed"] for s in a["subsystems"] for o in s["objects"] if s["name"] == "cgroup"}'"[\"$1\"]" status; }
holds "the driver of the running tree is known" grep -qx cgroupfs <(driver "cgroup driver")
holds "and the kubelet's, from its configuration" grep -qx cgroupfs <(driver "kubelet cgroup driver")
holds "and the runtime's" grep -qx cgroupfs <(driver "containerd handler runc cgroup driver")
