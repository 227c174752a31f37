#!/usr/bin/env bash
# The agent goes for good: what it told of the node goes, and what runs gets all CPUs. Sourced.
admin delete pods --all --wait=false >/dev/null
nobody() { [ -z "$(admin get pods -o name)" ]; }
within 60 nobody || true
pod last "$(exclusively 1)"
soon "a pod is pinned" has 1 last
kill_agent
holds "trimtab rollback gives everything back" "$trimtab" rollback --api-server "$server" --service-account "$work/account" \
  --node-name own --cgroup-root "/$pods_root"
holds "the conditions of the Node go" bash -c '! admin get node own -o json | grep -q TrimtabReady'
kubelets() { condition Ready status; condition Ready message; ready; }
holds "the kubelet's stay" kubelets
holds "and its capacity" is node own '{.status.capacity.cpu}' "$all"
soon "the extended resource goes" is node own '{.status.capacity.example\.com/dongle}' ''
holds "the state of the Node goes" absent nodestate own
soon "pods that were pinned have all CPUs" has "$all" last
