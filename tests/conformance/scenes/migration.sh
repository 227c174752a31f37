#!/usr/bin/env bash
# A move to the other cgroup driver is asked for where it cannot be made: nothing is touched, and the node says why. Sourced.
before=$(cat /var/lib/kubelet/config.yaml)
profile "${pinning%\}},\"cgroup\":{\"driver\":\"systemd\",\"onMismatch\":\"Migrate\"}}" >/dev/null
soon "a move that this node cannot make is refused" is node own '{.status.conditions[?(@.type=="CgroupDriverMatched")].reason}' MigrationRefused
echo "        $(condition CgroupDriverMatched message)"
holds "the kubelet's configuration is as before" bash -c '[ "$0" = "$(cat /var/lib/kubelet/config.yaml)" ]' "$before"
holds "the node is not cordoned" is node own '{.spec.unschedulable}' ''
profile "$pinning" >/dev/null
soon "and without the wish all is well" is node own '{.status.conditions[?(@.type=="CgroupDriverMatched")].status}' True
