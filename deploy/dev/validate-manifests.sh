#!/usr/bin/env bash
# Renders the kustomize base with kubectl and checks the result, field by field, against the Kubernetes schema.
set -euo pipefail
cd "$(dirname "$0")/../.."

rendered=$(mktemp -d)
overlay=target/monitoring-overlay # inside the repository: kustomize reads no absolute paths
trap 'rm -rf "$rendered" "$overlay"' EXIT
kubectl kustomize deploy/base >"$rendered/base.yaml"
for kind in Namespace ServiceAccount ConfigMap DaemonSet; do
  grep -q "^kind: $kind\$" "$rendered/base.yaml" || { echo "the base lacks a $kind" >&2; exit 1; }
done

# The schema checker is a Python package that carries the schemas; it lives in a folder of its own below target/.
venv=target/manifests-venv
if ! "$venv/bin/kubernetes-validate" --version >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" --quiet --disable-pip-version-check install 'kubernetes-validate==1.37.0'
fi
# The components for the Prometheus operator, over the base; what is the operator's own kind is judged by
# tests/hermetic/monitoring.rs. By themselves they would deploy nothing that works, and are refused.
mkdir -p "$overlay"
for component in monitoring:PodMonitor service-monitor:ServiceMonitor; do
  if kubectl kustomize "deploy/${component%%:*}" >/dev/null 2>&1; then
    echo "deploy/${component%%:*} can be applied by itself" >&2
    exit 1
  fi
  cat >"$overlay/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../deploy/base]
components: [../../deploy/${component%%:*}]
YAML
  kubectl kustomize "$overlay" >"$rendered/overlay.yaml"
  "$venv/bin/python" - "$rendered/overlay.yaml" "$rendered/base.yaml" "${component#*:}" <<'PYTHON'
import sys, yaml
with open(sys.argv[1]) as rendered:
    documents = [document for document in yaml.safe_load_all(rendered)]
foreign = [document for document in documents if document["apiVersion"].startswith("monitoring.coreos.com/")]
assert sorted(document["kind"] for document in foreign) == sorted([sys.argv[3], "PrometheusRule"]), foreign
pod = next(d for d in documents if d["kind"] == "DaemonSet")["spec"]["template"]
monitor = next(d for d in foreign if d["kind"] == sys.argv[3])
ports = {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}
endpoints = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
labels = pod["metadata"]["labels"]
if sys.argv[3] == "ServiceMonitor":
    service = next(d for d in documents if d["kind"] == "Service")
    assert service["spec"]["selector"].items() <= labels.items(), "the service selects other pods"
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, "the service leads to a port that no pod has"
    labels, ports = service["metadata"]["labels"], {port["name"] for port in service["spec"]["ports"]}
assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items(), "the monitor selects something else"
assert {endpoint["port"] for endpoint in endpoints} <= ports, "the monitor asks for a port that is not there"
assert {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"} == {"trimtab-system"}, "one namespace"
with open(sys.argv[2], "a") as base:
    for document in documents:
        if document not in foreign:
            base.write("---\n" + yaml.safe_dump(document))
PYTHON
done
for version in 1.34 1.36; do
  "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "$rendered/base.yaml" >"$rendered/log" 2>&1 ||
    { cat "$rendered/log" >&2; exit 1; }
done
echo "manifests: rendered and valid for Kubernetes 1.34 and 1.36"
