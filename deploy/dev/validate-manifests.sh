#!/usr/bin/env bash
# Renders the kustomize base with kubectl and checks the result, field by field, against the Kubernetes schema.
set -euo pipefail
cd "$(dirname "$0")/../.."

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
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
# The overlay for the Prometheus operator; what is the operator's own kind is judged by tests/hermetic/monitoring.rs.
kubectl kustomize deploy/monitoring >"$rendered/monitoring.yaml"
"$venv/bin/python" - "$rendered/monitoring.yaml" "$rendered/base.yaml" <<'PYTHON'
import sys, yaml
with open(sys.argv[1]) as rendered:
    documents = [document for document in yaml.safe_load_all(rendered)]
foreign = [document for document in documents if document["apiVersion"].startswith("monitoring.coreos.com/")]
assert sorted(document["kind"] for document in foreign) == ["PodMonitor", "PrometheusRule"], foreign
labels = next(d for d in documents if d["kind"] == "DaemonSet")["spec"]["template"]
monitor = next(d for d in foreign if d["kind"] == "PodMonitor")["spec"]
wanted = monitor["selector"]["matchLabels"].items()
assert wanted <= labels["metadata"]["labels"].items(), "the monitor selects other pods"
ports = {port["name"] for container in labels["spec"]["containers"] for port in container.get("ports", [])}
assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports, "the monitor asks for a port that no pod has"
with open(sys.argv[2], "a") as base:
    for document in documents:
        if document not in foreign:
            base.write("---\n" + yaml.safe_dump(document))
PYTHON
for version in 1.34 1.36; do
  "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "$rendered/base.yaml" >"$rendered/log" 2>&1 ||
    { cat "$rendered/log" >&2; exit 1; }
done
echo "manifests: rendered and valid for Kubernetes 1.34 and 1.36"
