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
for version in 1.34 1.36; do
  "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "$rendered/base.yaml" >"$rendered/log" 2>&1 ||
    { cat "$rendered/log" >&2; exit 1; }
done
echo "manifests: rendered and valid for Kubernetes 1.34 and 1.36"
