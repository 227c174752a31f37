#!/usr/bin/env bash
# What the agent asks of the API server to drain its node, with its own token. Sourced.
new_token agent
token=$(cat "$work/account/token")
evict() { # evict NAMESPACE NAME
  printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"%s"}}' "$2" "$1" |
    api "$token" POST "/api/v1/namespaces/$1/pods/$2/eviction" application/json -
}
# A budget that allows none, as the controller manager would say it.
printf '{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"none","namespace":"default"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"budget":"none"}}}}' |
  admin apply --server-side -f - >/dev/null
echo '{"status":{"observedGeneration":1,"disruptionsAllowed":0,"currentHealthy":1,"desiredHealthy":1,"expectedPods":1}}' >"$work/budget.json"
api admin PATCH /apis/policy/v1/namespaces/default/poddisruptionbudgets/none/status application/merge-patch+json "$work/budget.json" >/dev/null
admin label pod burstable budget=none >/dev/null
refused "a pod within its budget is not evicted" "TooManyRequests" evict default burstable
holds "it is still there" runs burstable
holds "one without a budget is evicted" evict default best-effort
soon "the kubelet ends it" absent pod best-effort

place() { # place METHOD PATH BODY...: of the disruption budget
  printf '{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"trimtab-disruption-0","namespace":"trimtab-system"%s},"spec":{"holderIdentity":"own","leaseDurationSeconds":60}}' "${3:-}" |
    api "$token" "$1" "/apis/coordination.k8s.io/v1/namespaces/trimtab-system/leases$2" application/json -
}
holds "a place of the disruption budget is taken" place POST ""
refused "once" AlreadyExists place POST ""
newest() { printf ',"resourceVersion":"%s"' "$(admin -n trimtab-system get lease trimtab-disruption-0 -o jsonpath='{.metadata.resourceVersion}')"; }
holds "and renewed" place PUT /trimtab-disruption-0 "$(newest)"
refused "only by whoever has seen its newest form" Conflict place PUT /trimtab-disruption-0 ',"resourceVersion":"1"'
admin -n trimtab-system delete lease trimtab-disruption-0 >/dev/null
