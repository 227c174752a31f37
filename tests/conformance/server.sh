#!/usr/bin/env bash
# A real API server on a real etcd, in namespaces of the caller's own, and how to speak with it. Sourced; wants `work`, a
# directory for what it keeps.
server=https://10.255.255.1:6443 account=system:serviceaccount:trimtab-system:trimtab

# start_server APISERVER ETCD [FLAG...]: returns when it is ready; `serving` is its process.
start_server() {
  local apiserver=$1 etcd=$2; shift 2
  ip link set lo up && ip address add 10.255.255.1/32 dev lo # an API server wants an address to give to others
  openssl genrsa -out "$work/sa.key" 2048 2>/dev/null
  openssl rsa -in "$work/sa.key" -pubout -out "$work/sa.pub" 2>/dev/null
  printf '%s\n' 'admin,admin,admin,"system:masters"' 'own,system:node:own,own,"system:nodes"' >"$work/tokens.csv"
  mkdir "$work/etcd" && mount -t tmpfs tmpfs "$work/etcd" && chmod 700 "$work/etcd" # it syncs after each write
  nice "$etcd" --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 >"$work/etcd.log" 2>&1 &
  nice "$apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=10.255.255.1 --cert-dir="$work/certs" \
    --service-account-issuer=https://kubernetes.default.svc --api-audiences=https://kubernetes.default.svc \
    --service-account-signing-key-file="$work/sa.key" --service-account-key-file="$work/sa.pub" \
    --token-auth-file="$work/tokens.csv" --service-cluster-ip-range=10.96.0.0/16 "$@" >"$work/apiserver.log" 2>&1 &
  serving=$!
  within 180 api admin GET /readyz || { tail -n 20 "$work/apiserver.log" >&2; echo "the API server does not start" >&2; exit 1; }
  minor=$(api admin GET /version | python3 -c 'import json,sys; print(int("".join(c for c in json.load(sys.stdin)["minor"] if c.isdigit()) or 0))')
  echo "Kubernetes 1.$minor" # 0: built without its version
}
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

field() { admin get "$1" "$2" -o jsonpath="$3"; }
is() { [ "$(field "$1" "$2" "$3")" = "$4" ]; }
# new_token POD: a token of the agent's account, bound to this pod, in the place that the agent reads.
new_token() {
  mkdir -p "$work/account" && cp "$work/certs/apiserver.crt" "$work/account/ca.crt"
  printf trimtab-system >"$work/account/namespace"
  printf '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600,"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"%s","uid":"%s"}}}' \
    "$1" "$(admin -n trimtab-system get pod "$1" -o jsonpath='{.metadata.uid}')" >"$work/request.json"
  api admin POST /api/v1/namespaces/trimtab-system/serviceaccounts/trimtab/token application/json "$work/request.json" |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["status"]["token"], end="")' >"$work/account/token.new"
  mv "$work/account/token.new" "$work/account/token"
}
