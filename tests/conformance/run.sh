#!/usr/bin/env bash
# The agent and its manifests at a real API server, which the double in tests/hermetic can only imitate: role, schemas, CEL
# rules, admission policy, server-side apply, watches, bound tokens. Changes nothing outside of namespaces of its own.
#   tests/conformance/run.sh KUBE_APISERVER ETCD TRIMTAB
# Rules in CEL are judged from Kubernetes 1.25 on, admission policies from 1.30 on; what is older skips them and says so.
set -euo pipefail

apiserver=$(realpath "$1") etcd=$(realpath "$2") trimtab=$(realpath "$3")
cd "$(dirname "$0")/../.."
[ -n "${INSIDE:-}" ] || exec env INSIDE=1 unshare --map-root-user --mount --net --pid --fork --mount-proc -- \
  "$0" "$apiserver" "$etcd" "$trimtab"

work=$(mktemp -d)
trap 'umount -l "$work/etcd" 2>/dev/null || true; rm -rf "$work"' EXIT # what runs here ends with the namespace
. tests/conformance/checks.sh
. tests/conformance/server.sh
mount -t tmpfs tmpfs /run && mkdir -p /run/trimtab
start_server "$apiserver" "$etcd" --authorization-mode=RBAC --disable-admission-plugins=ServiceAccount

# --- the manifests
kubectl kustomize deploy/overlays/objects >"$work/all.yaml"
without_policies() { python3 - "$1" <<'PYTHON'
import sys, yaml
kept = [d for d in yaml.safe_load_all(open(sys.argv[1])) if d and not d["kind"].startswith("ValidatingAdmissionPolicy")]
print(yaml.safe_dump_all(kept))
PYTHON
}
if [ "$minor" -ge 30 ]; then
  holds "the overlay is taken as it is" admin apply --server-side -f "$work/all.yaml"
else
  without_policies "$work/all.yaml" >"$work/old.yaml"
  holds "the overlay without admission policies is taken" admin apply --validate=false -f "$work/old.yaml"
fi
for kind in nodeprofiles nodestates; do
  soon "the server serves $kind" api admin GET "/apis/trimtab.dev/v1alpha1/$kind"
  holds "$kind is a structural schema" bash -c "! admin get crd $kind.trimtab.dev -o json | grep -q NonStructuralSchema"
done
soon "kubectl explain reads the schema" admin explain nodeprofile.spec.resourceManagers

# --- rules
profile() { # profile NAME SPEC: applies it
  printf '{"apiVersion":"trimtab.dev/v1alpha1","kind":"NodeProfile","metadata":{"name":"%s"},"spec":%s}' "$1" "$2" |
    admin apply --server-side --validate=false -f -
}
holds "a profile is taken" profile conformance '{"nodeSelector":{"matchLabels":{"pool":"web"}},"weight":7,"sysctls":{"values":{"net.core.somaxconn":777}},"kubernetes":{"extendedResources":{"example.com/dongle":3}}}'
holds "a pause is taken" profile paused '{"nodeSelector":{"matchLabels":{"pool":"none"}},"pause":{"until":"2030-02-28T12:00:00.5Z","reason":"a test"}}'
refused "a pause without an end" until profile bad '{"pause":{"reason":"a test"}}'
refused "a pause by another zone's clock" until profile bad '{"pause":{"until":"2030-01-31T12:00:00+01:00"}}'
refused "a weight above 1000" 1000 profile bad '{"weight":1001}'
rules=(
  "In without values|In and NotIn need values|{\"nodeSelector\":{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}}"
  "Exists with values|In and NotIn need values|{\"nodeSelector\":{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\",\"values\":[\"b\"]}]}}"
  "none beside pods|none stands alone|{\"resourceManagers\":{\"enforceNodeAllocatable\":[\"none\",\"pods\"]}}"
  "reserved CPUs beside a reserved cgroup|cannot be used with|{\"resourceManagers\":{\"reservedSystemCPUs\":\"0\",\"kubeReservedCgroup\":\"/k\"}}"
  "a static policy without a reservation|needs reservedSystemCPUs or|{\"resourceManagers\":{\"cpuManagerPolicy\":\"static\"}}"
  "a file and a directory|exclude each other|{\"ipMasq\":{\"configFile\":\"/a\",\"configDir\":\"/b\"}}"
  "a resource of Kubernetes' own|an extended resource has a name such as|{\"kubernetes\":{\"extendedResources\":{\"kubernetes.io/a\":1}}}"
  "a pause that ends on a day that there is not|until is a time such as|{\"pause\":{\"until\":\"2030-02-30T12:00:00Z\"}}"
  "a resource without a domain|an extended resource has a name such as|{\"kubernetes\":{\"extendedResources\":{\"dongle\":1}}}"
)
for rule in "${rules[@]}"; do
  IFS='|' read -r name words spec <<<"$rule"
  if [ "$minor" -ge 25 ]; then refused "rule: $name" "$words" profile bad "$spec"; else skip "rule: $name (needs 1.25)"; fi
done
state() { printf '{"apiVersion":"trimtab.dev/v1alpha1","kind":"NodeState","metadata":{"name":"bad"},%s}' "$1" | admin apply --server-side --validate=false -f -; }
refused "a state with a count below zero" "greater than or equal to 0" state '"refusals":-1'
refused "a state with a count beyond what JSON keeps" "less than or equal to 9007199254740992" state '"drifts":9007199254740993'
refused "a state whose parts are no list" "expected list" state '"parts":{"name":"sysctl"}'
for file in deploy/examples/{profile,pinning,aks,sysctls-only}.yaml; do
  holds "$file is taken as an object" admin apply --server-side --dry-run=server -f "$file"
done

# --- the agent, with a token that the server made for its pod
node() { printf '{"apiVersion":"v1","kind":"Node","metadata":{"name":"%s","labels":{"pool":"web"}}}' "$1" | admin apply --server-side -f -; }
pod() { printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","namespace":"trimtab-system"},"spec":{"nodeName":"%s","serviceAccountName":"trimtab","containers":[{"name":"c","image":"i"}]}}' "$1" "$2" | admin apply --server-side -f -; }
for name in own other; do node "$name" && pod "on-$name" "$name"; done >/dev/null
new_token on-own
agent() {
  exec "$trimtab" run --api-server "$server" --service-account "$work/account" --node-name own --profile-source object \
    --state-dir "$work/state" --socket /run/trimtab/trimtab.sock --cri-socket off --nri-socket off \
    --http 127.0.0.1:9808 --profile "$work/none.yaml" >>"$work/agent.log" 2>&1
}
agent &
agent=$!
ready='{.status.conditions[?(@.type=="TrimtabReady")].status}'
soon "the object is in force" grep -qx 777 /proc/sys/net/core/somaxconn
soon "the Node says that it is ready" is node own "$ready" True
soon "five conditions stand in the Node" bash -c '[ "$(admin get node own -o json | grep -c lastHeartbeatTime)" = 5 ]'
soon "the state names the profile" is nodestate own '{.profile.name}' conformance
soon "the state belongs to the Node" is nodestate own '{.metadata.ownerReferences[0].name}' own
soon "the extended resource is in the capacity" is node own '{.status.capacity.example\.com/dongle}' 3
soon "an event tells of it" bash -c 'admin get events -A | grep -q ProfileInForce'
profile conformance '{"nodeSelector":{"matchLabels":{"pool":"web"}},"sysctls":{"values":{"net.core.somaxconn":888}}}' >/dev/null || true
soon "a change is followed by the watch" grep -qx 888 /proc/sys/net/core/somaxconn
soon "an extended resource that is named no more goes" is node own '{.status.capacity.example\.com/dongle}' ''
soon "the state follows" is nodestate own '{.profile.generation}' 2
admin label node own pool=db --overwrite >/dev/null
soon "without its label the node is given back" bash -c '! grep -qx 888 /proc/sys/net/core/somaxconn'
admin label node own pool=web --overwrite >/dev/null
soon "with its label it is held again" grep -qx 888 /proc/sys/net/core/somaxconn
admin delete node own >/dev/null && node own >/dev/null
soon "a Node made anew is told of anew" is node own "$ready" True
soon "its state follows the new one" bash -c \
  'admin get nodestate own -o json | grep -q "$(admin get node own -o jsonpath="{.metadata.uid}")"'
new_token on-own && sleep 1
profile conformance '{"nodeSelector":{"matchLabels":{"pool":"web"}},"sysctls":{"values":{"net.core.somaxconn":999}}}' >/dev/null || true
soon "with a rotated token it goes on" grep -qx 999 /proc/sys/net/core/somaxconn
metrics() { curl -sS http://127.0.0.1:9808/metrics; }
bad=$(metrics | grep '^trimtab_api_server_requests_total' | grep -E 'code="(400|403|405|406|415|422)"' || true)
holds "no request was malformed or not permitted" bash -c 'echo "$0"; [ -z "$0" ]' "$bad"
holds "nothing began anew" grep -qx 'trimtab_api_server_restarts_total 0' <(metrics)

# --- rights: this token may do what the agent does, for its own node
token=$(cat "$work/account/token")
can() { admin auth can-i "$1" "$2" --as="$account" ${3:+--subresource="$3"}; }
for right in "delete nodes" "update nodes" "list pods" "get secrets" "patch nodeprofiles" "create pods"; do
  read -r verb kind <<<"$right"
  refused "the account may not $right" no can "$verb" "$kind"
done
merge=application/merge-patch+json
echo '{"status":{"phase":"Failed","reason":"UnexpectedAdmissionError"}}' >"$work/failed.json"
echo '{"metadata":{"annotations":{"a":"b"}}}' >"$work/annotated.json"
printf 'apiVersion: trimtab.dev/v1alpha1\nkind: NodeState\nmetadata: {name: other}\nstate: InSync\n' >"$work/state.yaml"
holds "it fails a pod of its own node" api "$token" PATCH /api/v1/namespaces/trimtab-system/pods/on-own/status $merge "$work/failed.json"
if [ "$minor" -ge 30 ]; then
  words='writes what is of its own node only'
  refused "it fails no pod of another" "$words" api "$token" PATCH /api/v1/namespaces/trimtab-system/pods/on-other/status $merge "$work/failed.json"
  refused "it writes no status of another Node" "$words" api "$token" PATCH /api/v1/nodes/other/status $merge "$work/annotated.json"
  refused "it writes no state of another" "$words" api "$token" PATCH "/apis/trimtab.dev/v1alpha1/nodestates/other?fieldManager=x&force=true" application/apply-patch+yaml "$work/state.yaml"
else
  skip "its own node only: pods, Nodes, states (needs 1.30)"
fi

# --- an outage
kill -9 $serving $agent
wait $serving $agent 2>/dev/null || true
echo 128 >/proc/sys/net/core/somaxconn
agent &
soon "an agent that starts without the server holds what was in force" grep -qx 999 /proc/sys/net/core/somaxconn

[ $failed = 0 ] || { echo "--- the agent"; tail -n 20 "$work/agent.log"; }
summary
