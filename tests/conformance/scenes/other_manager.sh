#!/usr/bin/env bash
# A kubelet that pins itself: the agent looks on, and says by what it knows; then takes over again. Sourced.
pinning_is() { answer "[str(s) for s in a['subsystems'] if s['name'] == 'pinning'][0]" status | grep -q -- "$1"; }
note "$work/before" best-effort second
kill_kubelet
rm -f /var/lib/kubelet/cpu_manager_state
start_kubelet 'systemReserved: {memory: 128Mi}' 'kubeReserved: {memory: 256Mi}' 'cpuManagerPolicy: static' 'reservedSystemCPUs: "0"'
soon "a kubelet with CPU manager static comes up" kubelet_answers
soon "the agent only looks on" pinning_is pinning-observe-only
holds "and says by what it knows" pinning_is 'the kubelet pins CPUs itself'
soon "which its condition tells" bash -c '! grep -qx True' <(condition PinningHealthy status)
kill_kubelet
rm -f /var/lib/kubelet/cpu_manager_state
start_kubelet 'systemReserved: {memory: 128Mi}' 'kubeReserved: {memory: 256Mi}'
soon "a kubelet without it comes back" kubelet_answers
kill_agent
start_agent
soon "an agent that starts then pins again" bash -c '"$0" status | grep -q "^ pinning *converged" && ! "$0" status | grep -q "nothing of that is written"' "$trimtab"
soon "who had a CPU has one" has 1 second
soon "that others have left" apart best-effort second
gone second || true
pod third "$(exclusively 1)"
soon "a Guaranteed pod runs" runs third
soon "with a CPU of its own" has 1 third
soon "that others have left" apart best-effort third
