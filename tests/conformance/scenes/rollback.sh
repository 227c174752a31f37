#!/usr/bin/env bash
# The agent goes for good: what it told of the node goes, and what runs gets all CPUs. Sourced.
kill_agent
holds "trimtab rollback gives everything back" "$trimtab" rollback --api-server "$server" --service-account "$work/account" \
  --node-name own --cgroup-root "/$pods_root"
holds "the conditions of the Node go" bash -c '! admin get node own -o json | grep -q TrimtabReady'
holds "the kubelet's stay" ready
soon "the extended resource goes" is node own '{.status.capacity.example\.com/dongle}' ''
holds "the state of the Node goes" absent nodestate own
soon "pods that were pinned have all CPUs" has "$all" third
