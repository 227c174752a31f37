//! The daemon with exactly the mounts, namespaces and capabilities of `deploy/base/daemonset.yaml` holds the node.

#[path = "../hermetic/support/fake_cri.rs"]
#[allow(dead_code, reason = "only its answers are needed")]
mod fake_cri;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use serde::Deserialize;

use self::fake_cri::FakeCri;
use crate::support::namespace::{Mounts, in_fresh_namespaces};
use crate::support::node::{Node, http, metric, nat, read};

const SUBSYSTEMS: [&str; 6] = ["sysctl", "kernel", "cgroup", "pinning", "allocatable", "masquerade"];
/// A key of the network namespace, one of the IPC namespace: a pod that has its own would hold that one only.
const SYSCTLS: [(&str, &str); 2] = [("net/core/somaxconn", "16384"), ("kernel/shmmni", "8192")];
const PROFILE: &str = "\
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata: {name: pod}
spec:
  sysctls: {values: {net.core.somaxconn: 16384, kernel.shmmni: 8192}}
  kernel: {modules: {block: [dccp]}}
  cgroup: {driver: cgroupfs}
  resourceManagers: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}
  ipMasq: {enableIPv6: true}
";

#[derive(Deserialize)]
struct DaemonSet {
    spec: DaemonSetSpec,
}

#[derive(Deserialize)]
struct DaemonSetSpec {
    template: Template,
}

#[derive(Deserialize)]
struct Template {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    host_network: bool,
    #[serde(default, rename = "hostPID")]
    host_pid: bool,
    #[serde(default, rename = "hostIPC")]
    host_ipc: bool,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    args: Vec<String>,
    env: Vec<Variable>,
    security_context: SecurityContext,
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    #[serde(default = "from_a_field")]
    value: String,
}

fn from_a_field() -> String {
    "a-node".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecurityContext {
    privileged: bool,
    allow_privilege_escalation: bool,
    read_only_root_filesystem: bool,
    capabilities: Capabilities,
}

#[derive(Deserialize)]
struct Capabilities {
    drop: Vec<String>,
    add: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: PathBuf,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    mount_propagation: Propagation,
}

/// Which mounts of the node are seen after the start.
#[derive(Deserialize, Default, PartialEq)]
enum Propagation {
    #[default]
    None,
    HostToContainer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    /// Absent for the ConfigMap.
    host_path: Option<HostPath>,
}

#[derive(Deserialize)]
struct HostPath {
    path: PathBuf,
    r#type: String,
}

fn manifest() -> PodSpec {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base/daemonset.yaml");
    serde_saphyr::from_str::<DaemonSet>(&fs::read_to_string(path).unwrap()).unwrap().spec.template.spec
}

/// What the kubelet puts at a mount, made first if the type of the volume says so.
fn source(node: &Node, volume: &Volume) -> PathBuf {
    let Some(HostPath { path, r#type }) = &volume.host_path else {
        return node.path("config");
    };
    let source = node.host().join(path.strip_prefix("/").unwrap());
    match r#type.as_str() {
        "DirectoryOrCreate" => fs::create_dir_all(&source).unwrap(),
        "FileOrCreate" => {
            fs::create_dir_all(source.parent().unwrap()).unwrap();
            fs::OpenOptions::new().create(true).append(true).open(&source).unwrap();
        }
        kind => assert!(kind == "Directory" && source.is_dir(), "{kind} {}", source.display()),
    }
    source
}

/// Shell commands that make the container's root as a runtime does and become the container's process.
fn script(node: &Node, pod: &PodSpec) -> String {
    let container = &pod.containers[0];
    let root = node.path("root").display().to_string();
    let mut lines = vec!["set -eu".to_owned(), format!("mkdir -p {root}; mount -t tmpfs tmpfs {root}")];
    // The image: the programs of this machine, read only.
    for directory in ["/usr", "/bin", "/sbin", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists()) {
        lines.push(format!("mkdir -p {root}{directory}; mount --bind {directory} {root}{directory}"));
        lines.push(format!("mount -o remount,bind,ro {root}{directory}"));
    }
    lines.push(format!("mkdir -p {root}/dev {root}/proc {root}/sys; mount --rbind /dev {root}/dev"));
    lines.push(format!("mount -t proc proc {root}/proc; mount --bind {root}/proc/sys {root}/proc/sys"));
    lines.push(format!("mount -o remount,bind,ro {root}/proc/sys; mount -t sysfs -o ro sysfs {root}/sys"));
    lines.push(format!("touch {root}/trimtab; mount --bind {} {root}/trimtab", env!("CARGO_BIN_EXE_trimtab")));
    let mut mounts: Vec<&VolumeMount> = container.volume_mounts.iter().collect();
    // Runtimes mount what is higher first.
    mounts.sort_by_key(|mount| mount.mount_path.components().count());
    for mount in mounts {
        let source = source(node, pod.volumes.iter().find(|volume| volume.name == mount.name).unwrap());
        let target = format!("{root}{}", mount.mount_path.display());
        // On the host's read-only directories a mount point must be there already.
        let make = if source.is_dir() { "mkdir -p" } else { "touch" };
        lines.push(format!("[ -e {target} ] || {{ mkdir -p $(dirname {target}); {make} {target}; }}"));
        lines.push(format!("mount --rbind {} {target}", source.display()));
        if mount.mount_propagation == Propagation::HostToContainer {
            lines.push(format!("mount --make-rslave {target}"));
        }
        if mount.read_only {
            lines.push(format!("mount -o remount,bind,ro {target}"));
        }
    }
    let security = &container.security_context;
    assert!(!security.privileged && security.capabilities.drop == ["ALL"]);
    if security.read_only_root_filesystem {
        lines.push(format!("mount -o remount,ro {root}"));
    }
    let added: Vec<String> =
        security.capabilities.add.iter().map(|name| format!(",+{}", name.to_lowercase())).collect();
    let mut variables: Vec<String> = container.env.iter().map(|set| format!("{}={}", set.name, set.value)).collect();
    variables.push(format!("TRIMTAB_CGROUP_ROOT=/{}", node.pods.path().file_name().unwrap().display()));
    lines.push(format!(
        "exec chroot {root} setpriv --bounding-set=-all{} --inh-caps=-all {} env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {} /trimtab {}",
        added.concat(),
        if security.allow_privilege_escalation { "" } else { "--no-new-privs" },
        variables.join(" "),
        container.args.join(" "),
    ));
    lines.join("\n")
}

/// The container's process, in the namespaces that a pod does not share with its node.
fn container(node: &Node, pod: &PodSpec) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--fork", "--kill-child", "--pid"]);
    assert!(!pod.host_pid, "the pod would share the namespace: mount the node's /proc here instead");
    for (own, flag) in [(!pod.host_network, "--net"), (!pod.host_ipc, "--ipc")] {
        if own {
            command.arg(flag);
        }
    }
    command.args(["sh", "-c", &script(node, pod)]).stdin(Stdio::null());
    command
}

#[test]
fn the_daemon_set_has_the_mounts_and_rights_that_the_agent_needs() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let Some(mut node) = Node::new() else { return };
        unshare(CloneFlags::CLONE_NEWIPC).unwrap();
        node.pods.make("kubepods/poda");
        node.pods.make("kubepods/burstable/podb");
        let exclusive = node.pods.container("kubepods/poda", 1, "app", Some(1));
        let shared = node.pods.container("kubepods/burstable/podb", 2, "app", None);
        fs::create_dir(node.path("config")).unwrap();
        fs::write(node.path("config/profile.yaml"), PROFILE).unwrap();
        fs::create_dir_all(node.host().join("var/log/pods")).unwrap();

        fs::create_dir_all(node.host().join("run/nri")).unwrap();
        let nri = UnixListener::bind(node.host().join("run/nri/nri.sock")).unwrap();
        nri.set_nonblocking(true).unwrap();

        let mut agent = node.spawn(container(&node, &manifest()));
        agent.until("ready", || http("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
        for subsystem in SUBSYSTEMS {
            let state = format!("trimtab_subsystem_state{{subsystem=\"{subsystem}\",state=\"converged\"}}");
            assert_eq!(metric(&state), Some(1.0), "{subsystem}\n{}", agent.log());
        }
        // Its directory comes after the agent's container, as at the boot of a node.
        let runtime = FakeCri::start(&node.host().join("run/containerd/containerd.sock"));
        node.pods.make("kubepods/podc");
        agent.until("the runtime is asked when a pod comes", || runtime.count("ListPodSandbox") > 0);
        assert!(!agent.log().contains("refused") && !agent.log().contains("not available"), "{}", agent.log());
        for (key, value) in SYSCTLS {
            assert_eq!(read(format!("/proc/sys/{key}")), value, "{key} of the node");
        }
        assert!(nat().matches(":IP-MASQ-AGENT").count() == 2, "{}", nat());
        assert!(node.host().join("etc/modprobe.d/trimtab-blocklist.conf").exists());
        if node.pods.allowed(&shared).contains(['-', ',']) || read("/sys/devices/system/cpu/online") != "0" {
            assert_ne!(node.pods.allowed(&exclusive), node.pods.allowed(&shared), "{}", agent.log());
        }
        agent.until("the container runtime is reached over NRI", || nri.accept().is_ok());
        for path in ["run/trimtab/trimtab.sock", "run/trimtab/lock", "var/lib/trimtab/ledger"] {
            assert!(node.host().join(path).exists(), "{path}");
        }
        for (key, value) in SYSCTLS {
            fs::write(format!("/proc/sys/{key}"), "77").unwrap();
            agent.until("drift is healed", || read(format!("/proc/sys/{key}")) == value);
        }
    });
}
