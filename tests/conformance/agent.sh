#!/usr/bin/env bash
# The agent with the shipped role, policy and definitions, on the Node `own`. Sourced; wants `trimtab` and the API server.

# install_agent: manifests, a pod that its token is bound to, the token.
install_agent() {
  local namespace
  kubectl kustomize deploy/overlays/migration >"$work/all.yaml"
  admin apply --server-side -f "$work/all.yaml"
  for namespace in default trimtab-system; do
    within 60 admin get namespace $namespace
    # What a controller manager makes in each namespace; the second map is wanted by OpenShift's API server.
    printf '{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default","namespace":"%s"},"automountServiceAccountToken":false}' $namespace |
      admin apply --server-side -f -
    admin -n $namespace create configmap kube-root-ca.crt --from-file=ca.crt="$work/certs/apiserver.crt"
    admin -n $namespace create configmap openshift-service-ca.crt --from-file=service-ca.crt="$work/certs/apiserver.crt"
  done
  printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"agent","namespace":"trimtab-system"},"spec":{"hostNetwork":true,"nodeName":"own","serviceAccountName":"trimtab","containers":[{"name":"app","image":"localhost/app:1","imagePullPolicy":"Never","command":["sleep","2147483647"]}]}}' |
    admin apply --server-side -f -
  new_token agent
}
# profile SPEC: applies it as the profile `conformance`.
profile() {
  printf '{"apiVersion":"trimtab.dev/v1alpha1","kind":"NodeProfile","metadata":{"name":"conformance"},"spec":%s}' "$1" |
    admin apply --server-side --force-conflicts -f -
}
# in_force: the profile as it is now is held.
in_force() { is nodestate own '{.profile.generation}' "$(field nodeprofile conformance '{.metadata.generation}')"; }
start_agent() {
  POD_NAME=agent POD_NAMESPACE=trimtab-system "$trimtab" run --api-server "$server" --service-account "$work/account" --node-name own --profile-source object \
    --cgroup-root "/$pods_root" --profile "$work/none.yaml" --rate-limit 0 >>"$work/agent.log" 2>&1 &
  agent=$!
}
kill_agent() { kill -9 "$agent"; wait "$agent" 2>/dev/null || true; }
# answer EXPRESSION COMMAND...: what `trimtab COMMAND` says as data, through an expression of Python in which it is `a`.
answer() { local expression=$1; shift; "$trimtab" "$@" -o json | python3 -c "import json,sys; a = json.load(sys.stdin); print($expression)"; }
# condition TYPE: status and reason of a condition of the Node.
condition() { field node own "{.status.conditions[?(@.type==\"$1\")].$2}"; }
