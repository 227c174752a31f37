#!/usr/bin/env bash
# Pods of each class run, and the kernel lets them run where they should. Sourced.
profile "$pinning" >/dev/null
soon "a profile that reserves CPU 0 comes into force" in_force
kill_kubelet
start_kubelet 'systemReserved: {memory: 128Mi}' 'kubeReserved: {memory: 256Mi}'
soon "the kubelet comes back with all CPUs to give" is node own '{.status.allocatable.cpu}' "$all"
soon "the extended resource outlives its restart" is node own '{.status.allocatable.example\.com/dongle}' 3

pod best-effort '{}'
pod burstable '{"requests":{"memory":"16Mi"}}'
pod fractional '{"limits":{"cpu":"100m","memory":"16Mi"}}'
soon "a BestEffort pod runs" runs best-effort
soon "a Burstable pod runs" runs burstable
soon "a Guaranteed pod of a fraction of a CPU runs" runs fractional
for name in best-effort burstable fractional; do
  soon "$name may use every CPU while nobody owns one" has "$all" $name
done
gone fractional || true
pod first "$(exclusively 1)"
soon "a Guaranteed pod runs" runs first
holds "it has a CPU of its own" has 1 first
holds "that is not the reserved one" bash -c '[ "$0" != 0 ]' "$(cpus first)"
for name in best-effort burstable; do
  holds "$name has left it" apart first $name
done
holds "trimtab pods tells the same" grep -qx "$(cpus first)" <(answer '[c["exclusiveCpus"] for p in a["pods"] if p["name"] == "first" for c in p["containers"]][0]' pods)
soon "nothing is mispinned" bash -c '"$0" pods -o json | grep -q "\"mispinned\": \"" && exit 1 || exit 0' "$trimtab"
holds "no container started unpinned" grep -qx 0 <(answer 'a["lateLater"]["count"]' pods)
