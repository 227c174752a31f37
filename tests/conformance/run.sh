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
trap 'rm -rf "$work"' EXIT # what runs here ends with the namespace
mount -t tmpfs tmpfs /run && mkdir -p /run/trimtab
ip link set lo up && ip address add 10.255.255.1/32 dev lo # an API server wants an address to give to others
server=https://10.255.255.1:6443 account=system:serviceaccount:trimtab-system:trimtab
passed=0 failed=0 skipped=0

pass() { echo "ok      $1"; passed=$((passed + 1)); }
fail() { echo "FAILED  $1: $2"; failed=$((failed + 1)); }
skip() { echo "skipped $1"; skipped=$((skipped + 1)); }
# within SECONDS COMMAND...: until it is true.
within() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}
# holds NAME COMMAND...: it succeeds.
holds() { local name=$1 said; shift; if said=$("$@" 2>&1); then pass "$name"; else fail "$name" "${said:0:500}"; fi; }
# soon NAME COMMAND...: it succeeds within a minute.
soon() { local name=$1; shift; if within 60 "$@"; then pass "$name"; else fail "$name" "not within a minute"; fi; }
# refused NAME WORDS COMMAND...: it fails and says these words.
refused() {
  local name=$1 words=$2 said; shift 2
  if said=$("$@" 2>&1); then fail "$name" "it was taken"
  elif grep -qF -- "$words" <<<"$said"; then pass "$name"
  else fail "$name" "${said:0:500}"; fi
}

# --- the server
openssl genrsa -out "$work/sa.key" 2048 2>/dev/null
openssl rsa -in "$work/sa.key" -pubout -out "$work/sa.pub" 2>/dev/null
echo 'admin,admin,admin,"system:masters"' >"$work/tokens.csv"
"$etcd" --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 >"$work/etcd.log" 2>&1 &
"$apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=10.255.255.1 --cert-dir="$work/certs" \
  --service-account-issuer=https://kubernetes.default.svc --api-audiences=https://kubernetes.default.svc \
  --service-account-signing-key-file="$work/sa.key" --service-account-key-file="$work/sa.pub" \
  --token-auth-file="$work/tokens.csv" --authorization-mode=RBAC --service-cluster-ip-range=10.96.0.0/16 \
  --disable-admission-plugins=ServiceAccount >"$work/apiserver.log" 2>&1 &
serving=$!
api() { # api TOKEN METHOD PATH [TYPE BODY]: the body is a file or -
  curl -sS --fail-with-body --cacert "$work/certs/apiserver.crt" -H "Authorization: Bearer $1" -X "$2" "$server$3" \
    ${4:+-H "Content-Type: $4" --data-binary "@$5"}
}
admin() {
  kubectl --server="$server" --token=admin --certificate-authority="$work/certs/apiserver.crt" --kubeconfig=/dev/null \
    --cache-dir="$work/cache" "$@"
}
export server work
export -f admin
within 180 api admin GET /readyz || { tail -n 20 "$work/apiserver.log" >&2; echo "the API server does not start" >&2; exit 1; }
minor=$(api admin GET /version | python3 -c 'import json,sys; print(int("".join(c for c in json.load(sys.stdin)["minor"] if c.isdigit()) or 0))')
echo "Kubernetes 1.$minor" # 0: built without its version

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
refused "a weight above 1000" 1000 profile bad '{"weight":1001}'
rules=(
  "In without values|In and NotIn need values|{\"nodeSelector\":{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}}"
  "Exists with values|In and NotIn need values|{\"nodeSelector\":{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\",\"values\":[\"b\"]}]}}"
  "none beside pods|none stands alone|{\"resourceManagers\":{\"enforceNodeAllocatable\":[\"none\",\"pods\"]}}"
  "reserved CPUs beside a reserved cgroup|cannot be used with|{\"resourceManagers\":{\"reservedSystemCPUs\":\"0\",\"kubeReservedCgroup\":\"/k\"}}"
  "a static policy without a reservation|needs reservedSystemCPUs or|{\"resourceManagers\":{\"cpuManagerPolicy\":\"static\"}}"
  "a file and a directory|exclude each other|{\"ipMasq\":{\"configFile\":\"/a\",\"configDir\":\"/b\"}}"
  "a resource of Kubernetes' own|an extended resource has a name such as|{\"kubernetes\":{\"extendedResources\":{\"kubernetes.io/a\":1}}}"
  "a resource without a domain|an extended resource has a name such as|{\"kubernetes\":{\"extendedResources\":{\"dongle\":1}}}"
)
for rule in "${rules[@]}"; do
  IFS='|' read -r name words spec <<<"$rule"
  if [ "$minor" -ge 25 ]; then refused "rule: $name" "$words" profile bad "$spec"; else skip "rule: $name (needs 1.25)"; fi
done
for file in deploy/examples/{profile,pinning,aks,sysctls-only}.yaml; do
  holds "$file is taken as an object" admin apply --server-side --dry-run=server -f "$file"
done

# --- the agent, with a token that the server made for its pod
node() { printf '{"apiVersion":"v1","kind":"Node","metadata":{"name":"%s","labels":{"pool":"web"}}}' "$1" | admin apply --server-side -f -; }
pod() { printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","namespace":"trimtab-system"},"spec":{"nodeName":"%s","serviceAccountName":"trimtab","containers":[{"name":"c","image":"i"}]}}' "$1" "$2" | admin apply --server-side -f -; }
for name in own other; do node "$name" && pod "on-$name" "$name"; done >/dev/null
mkdir "$work/account" && cp "$work/certs/apiserver.crt" "$work/account/ca.crt"
printf '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600,"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"on-own","uid":"%s"}}}' \
  "$(admin -n trimtab-system get pod on-own -o jsonpath='{.metadata.uid}')" >"$work/request.json"
new_token() {
  api admin POST /api/v1/namespaces/trimtab-system/serviceaccounts/trimtab/token application/json "$work/request.json" |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["status"]["token"], end="")' >"$work/account/token.new"
  mv "$work/account/token.new" "$work/account/token"
}
new_token
agent() {
  exec "$trimtab" run --api-server "$server" --service-account "$work/account" --node-name own --profile-source object \
    --state-dir "$work/state" --socket /run/trimtab/trimtab.sock --cri-socket off --nri-socket off \
    --http 127.0.0.1:9808 --profile "$work/none.yaml" >>"$work/agent.log" 2>&1
}
agent &
agent=$!
field() { admin get "$1" "$2" -o jsonpath="$3"; }
is() { [ "$(field "$1" "$2" "$3")" = "$4" ]; }
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
new_token && sleep 1
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
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
