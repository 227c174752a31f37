#!/usr/bin/env bash
# Whoever restarts, no container moves. Sourced.
there="best-effort burstable second"
note "$work/before" $there
kill_kubelet
start_kubelet 'systemReserved: {memory: 128Mi}' 'kubeReserved: {memory: 256Mi}'
soon "a killed kubelet comes back" kubelet_answers
soon "and ready" ready
before=$(heartbeat)
within 60 told_again "$before" || true
soon "its restart moves no container" unchanged "$work/before" $there
soon "nor loses the extended resource" is node own '{.status.allocatable.example\.com/dongle}' 3
kill_agent
holds "without the agent they stay" unchanged "$work/before" $there
start_agent
soon "an agent that comes back is ready" curl -sf http://127.0.0.1:9808/readyz
soon "its restart moves no container" unchanged "$work/before" $there
