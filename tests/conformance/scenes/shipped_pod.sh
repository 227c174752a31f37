#!/usr/bin/env bash
# The pod of the shipped DaemonSet, run by the kubelet: its mounts, capabilities, seccomp profile, probes and the token that the
# kubelet brings. Sourced; no other agent runs.
tests/conformance/image.sh "$trimtab" "$work/trimtab.tar" localhost/trimtab:1
ctr images import "$work/trimtab.tar" >/dev/null
# Pods speak with the API server by the address of its service, which is led there by whoever plays kube-proxy.
ip address add 10.96.0.1/32 dev lo
iptables -t nat -A OUTPUT -d 10.96.0.1 -p tcp --dport 443 -j DNAT --to-destination 10.255.255.1:6443
# What differs from what is shipped: who makes the pod (there is no controller), the image, and where the pods' cgroups are.
shipped_pod() {
  python3 - "$work/all.yaml" "$pods_root" <<'PYTHON'
import json, sys, yaml
kept = {document["kind"]: document for document in yaml.safe_load_all(open(sys.argv[1])) if document}
template = kept["DaemonSet"]["spec"]["template"]
spec = template["spec"]
spec["nodeName"] = "own"
container = spec["containers"][0]
container["image"], container["imagePullPolicy"] = "localhost/trimtab:1", "Never"
container["env"].append({"name": "TRIMTAB_CGROUP_ROOT", "value": "/" + sys.argv[2]})
labels = template["metadata"]["labels"]
metadata = {"name": "shipped", "namespace": "trimtab-system", "labels": labels}
print(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
PYTHON
}
shipped() { admin -n trimtab-system get pod shipped -o jsonpath="$1"; }
is_shipped() { [ "$(shipped "$1")" = "$2" ]; }
touch /run/xtables.lock
profile "$pinning" >/dev/null
holds "the pod of the DaemonSet is taken" bash -c 'admin apply --server-side -f - <<<"$0"' "$(shipped_pod)"
soon "the kubelet runs it, and its probes say that it is ready" is_shipped '{.status.containerStatuses[0].ready}' true
soon "the Node says so too" is node own '{.status.conditions[?(@.type=="TrimtabReady")].status}' True
soon "the extended resource is told, with the token that the kubelet brings" is node own '{.status.capacity.example\.com/dongle}' 3
soon "it pins" curl -sf http://127.0.0.1:9808/readyz
asks() { curl -s http://127.0.0.1:9808/metrics | grep -qx 'trimtab_nri_connected 1'; }
soon "the container runtime asks it" asks
gone last || true
pod fourth "$(exclusively 1)"
soon "a Guaranteed pod runs beside it" runs fourth
soon "with a CPU of its own" has 1 fourth
# within its own bounds: the agent's process is in a container of the kubelet's.
holds "it was not killed for its memory, nor restarted" is_shipped '{.status.containerStatuses[0].restartCount}' 0
bad=$(curl -s http://127.0.0.1:9808/metrics | grep '^trimtab_api_server_requests_total' | grep -E 'code="(4..|5..)"' | grep -vE 'code="(404|409|410)"' || true)
holds "nothing was refused to it by the API server" bash -c 'echo "$0"; [ -z "$0" ]' "$bad"
refusals=$(curl -s http://127.0.0.1:9808/metrics | grep '^trimtab_refusals' | grep -v ' 0$' || true)
holds "nor by the kernel" bash -c 'echo "$0"; [ -z "$0" ]' "$refusals"
