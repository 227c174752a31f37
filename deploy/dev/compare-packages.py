"""Compares what the packages deploy: the chart with the base, and what gives a node back with what holds it.

Takes the directory of the rendered files. Kinds that the schema checker does not know are taken out of them: definitions of
kinds, which are judged by tests/hermetic/cluster/crd.rs, and what is not Kubernetes' own.
"""

import pathlib
import re
import sys

import yaml

FOREIGN = ("monitoring.coreos.com/", "apiextensions.k8s.io/")
# What helm adds so that releases can be told apart.
OF_HELM = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}
rendered = pathlib.Path(sys.argv[1])


def documents(name):
    """The objects of a rendered file by kind and name."""
    return {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all((rendered / name).read_text()) if d}


def plain(value):
    """Without the labels of helm, without empty maps, and with texts that are YAML read as what they say."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in OF_HELM and inner != {}}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and "\n" in value:
        return yaml.safe_load(value)
    return value


def same(what, left, right):
    if left == right:
        return
    sys.exit(f"{what} differ:\n--- one\n{yaml.safe_dump(left)}--- other\n{yaml.safe_dump(right)}")


def pod(objects):
    (daemon_set,) = [d for (kind, _), d in objects.items() if kind == "DaemonSet"]
    return daemon_set["spec"]["template"]["spec"]


# A second image is one that nobody has set: it is pulled from somewhere else, or never comes.
for file in sorted(rendered.glob("*.yaml")):
    for (kind, name), workload in documents(file.name).items():
        if kind not in ("DaemonSet", "Job"):
            continue
        spec = workload["spec"]["template"]["spec"]
        images = {each["image"] for each in spec["containers"] + spec.get("initContainers", [])}
        assert len(images) == 1, f"{kind} {name} of {file.name} has several images: {images}"
        if file.name.startswith("own-"):
            assert images == {"registry.example/trimtab:0.1.0"}, f"{file.name} does not take the image that is set: {images}"



def is_agent(expression, user):
    """Whether the condition of the policy holds for that user; it is one of the two that we write."""
    if exact := re.fullmatch(r"request\.userInfo\.username == '([^']*)'", expression):
        return user == exact[1]
    begins, ends = re.fullmatch(r"\S+\.startsWith\('([^']*)'\) && \S+\.endsWith\('([^']*)'\)", expression).groups()
    return user.startswith(begins) and user.endswith(ends)


# What is said of the agents' account has to be said of the account that the pod has: else the rights are somebody else's, and the
# policy of the own node holds nobody.
for file in sorted(rendered.glob("*.yaml")):
    objects = documents(file.name)
    daemon_sets = [d for (kind, _), d in objects.items() if kind == "DaemonSet"]
    if not daemon_sets:
        continue
    (daemon_set,) = daemon_sets
    namespace, account = daemon_set["metadata"]["namespace"], daemon_set["spec"]["template"]["spec"]["serviceAccountName"]
    if file.name.startswith("own-"):
        assert namespace == "node-agents", file.name
    for (kind, name), each in objects.items():
        assert each["metadata"].get("namespace", namespace) == namespace, f"{kind} {name} of {file.name} is elsewhere"
        if kind == "Namespace":
            assert name == namespace, f"{file.name} makes the namespace {name}, and the agent is in {namespace}"
        if kind.endswith("RoleBinding"):
            subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
            same(f"the agents' account and who has the rights of {kind} {name} in {file.name}", subjects, each["subjects"])
        if kind == "ValidatingAdmissionPolicy":
            (condition,) = each["spec"]["matchConditions"]
            user = f"system:serviceaccount:{namespace}:{account}"
            assert is_agent(condition["expression"], user), f"{name} of {file.name} does not hold {user}"
            for other in ("system:node:n1", f"system:serviceaccount:{namespace}:{account}-2", "kubernetes-admin"):
                assert not is_agent(condition["expression"], other), f"{name} of {file.name} holds {other}"

base = documents("base.yaml")
for ours in ("base.yaml", "objects.yaml", "migration.yaml", "migration-crio.yaml"):
    theirs = "chart.yaml" if ours == "base.yaml" else f"chart-{ours}"
    wanted_objects, got_objects = documents(ours), documents(theirs)
    # The namespace is the cluster's affair with helm.
    wanted_objects.pop(("Namespace", "trimtab-system"))
    same(f"the objects of {ours} and {theirs}", sorted(wanted_objects), sorted(got_objects))
    for key, wanted in wanted_objects.items():
        got, wanted = plain(got_objects[key]), plain(wanted)
        for each in (got, wanted):
            # Labels and annotations of helm, and the namespace that kustomize gives to what has none.
            for field in ("labels", "annotations", "namespace"):
                each["metadata"].pop(field, None)
            if key[0] == "DaemonSet":
                each["spec"]["template"]["metadata"].pop("annotations", None)
                # Runtimes mount what is above first, in whatever order it is listed.
                each["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].sort(key=lambda mount: mount["mountPath"])
            # The chart knows the namespace, the base does not; below both are held to the account that the agent has.
            if key[0] == "ValidatingAdmissionPolicy":
                each["spec"].pop("matchConditions")
        same(f"{key[0]} {key[1]} of {ours} and {theirs}", wanted, got)

for name, holder in (
    ("uninstall.yaml", "base.yaml"),
    ("chart-rollback.yaml", "base.yaml"),
    # What is on its way to another cgroup driver is brought back with the same rights and mounts.
    ("uninstall-migration.yaml", "migration.yaml"),
    ("uninstall-migration-crio.yaml", "migration-crio.yaml"),
    ("uninstall-objects.yaml", "objects.yaml"),
    ("uninstall-ip-masq-agent.yaml", "ip-masq-agent.yaml"),
    ("uninstall-ip-masq-agent.yaml", "ip-masq-agent-azure.yaml"),
    ("own-uninstall-base.yaml", "own-base.yaml"),
    ("own-uninstall-migration.yaml", "own-migration.yaml"),
    ("chart-rollback-migration.yaml", "chart-migration.yaml"),
):
    # A DaemonSet of another name or namespace would be a second one, which the first keeps from the ledger.
    place = [[d["metadata"] | {"labels": None} for (kind, _), d in documents(file).items() if kind == "DaemonSet"] for file in (holder, name)]
    same(f"the DaemonSets of {holder} and {name}", *place)
    # Agents that still run would take up another profile; the chart has the one of the release.
    assert name.startswith("chart-") or "ConfigMap" not in {kind for kind, _ in documents(name)}, f"{name} changes the profile"
    holds, gives_back = pod(documents(holder)), pod(documents(name))
    same(f"token in {name}", holds["automountServiceAccountToken"], gives_back["automountServiceAccountToken"])
    (rollback,) = gives_back["initContainers"]
    (rest,) = gives_back["containers"]
    same(f"mounts in {name}", holds["containers"][0]["volumeMounts"], rollback["volumeMounts"])
    same(f"rights in {name}", holds["containers"][0]["securityContext"], rollback["securityContext"])
    assert rollback["args"] == ["rollback"], rollback
    assert rest["securityContext"]["capabilities"] == {"drop": ["ALL"]} and "volumeMounts" not in rest, rest

# What the patches of docs/install.md are there for.
(daemon_set,) = [d for (kind, _), d in documents("own-base.yaml").items() if kind == "DaemonSet"]
assert daemon_set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1, daemon_set
(address,) = [e["value"] for e in pod(documents("own-base.yaml"))["containers"][0]["env"] if e["name"] == "TRIMTAB_HTTP"]
assert address == "0.0.0.0:9808", address
assert pod(documents("own-base.yaml"))["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "canary"}
assert pod(documents("own-base.yaml"))["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}

# Both are scraped alike, so that one dashboard and one set of alerts fits both.
ours, theirs = documents("own-base.yaml"), documents("chart-monitoring.yaml")
for kind in ("PodMonitor", "PrometheusRule"):
    same(f"the {kind} of deploy/monitoring and the chart", *(plain(d[(kind, "trimtab")]["spec"]) for d in (ours, theirs)))
same("the ports of deploy/monitoring and the chart", *(pod(d)["containers"][0]["ports"] for d in (ours, theirs)))

for job in documents("chart-jobs.yaml").values():
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeName"] == job["metadata"]["annotations"]["trimtab.dev/node"], spec
    same("mounts of the Job", pod(base)["containers"][0]["volumeMounts"], spec["containers"][0]["volumeMounts"])

for file in rendered.glob("*.yaml"):
    objects = [d for d in yaml.safe_load_all(file.read_text()) if d]
    kept = [d for d in objects if not d["apiVersion"].startswith(FOREIGN)]
    file.write_text(yaml.safe_dump_all(kept))
