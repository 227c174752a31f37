#!/usr/bin/env bash
# A pod is resized in place through the API server. Sourced.
resize() { # resize NAME RESOURCES
  printf '{"spec":{"containers":[{"name":"app","resources":%s}]}}' "$2" >"$work/resize.json"
  api admin PATCH "/api/v1/namespaces/default/pods/$1/resize" application/strategic-merge-patch+json "$work/resize.json"
}
resized() { is pod "$1" '{.status.containerStatuses[0].resources.limits.memory}' "$2"; }
if [ "$minor" -ge 33 ]; then
  note "$work/before" best-effort second
  holds "the API server takes a resize" resize second '{"limits":{"cpu":"1","memory":"48Mi"},"requests":{"cpu":"1","memory":"48Mi"}}'
  if within 60 resized second 48Mi; then
    pass "the kubelet makes it"
    sleep 3
    holds "nothing moves" unchanged "$work/before" best-effort second
  else
    fail "the kubelet makes it" "$(field pod second '{.status.conditions}')"
  fi
else
  skip "in-place resize (needs 1.33)"
fi
