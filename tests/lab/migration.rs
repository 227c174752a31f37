//! The move to another cgroup driver, with a real systemd and a real containerd: an agent that is killed after each change
//! is followed by one that goes on, and the node arrives.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::agent::{LIMIT, write_profile};
use crate::cluster::containerd::{Release, SOCKET, config, load_images};
use crate::cluster::pods::{Driver, Kubelet, Pod};
use crate::cluster::wait::until;
use crate::scenario::{profile, system};
use crate::support::api_server::ApiServer;

const NODE: &str = "/api/v1/nodes/lab";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/trimtab-system/leases";
const JOURNAL: &str = "/var/lib/trimtab/migration";
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
const RUNTIME_CONFIG: &str = "/etc/containerd/config.toml";
const KUBECONFIG: &str = "/run/lab/kubeconfig";
const AUTHORITY: &str = "/run/lab/ca.crt";
const UNITS: [&str; 4] = ["kubelet.service", "containerd.service", "kubelet.timer", "containerd.timer"];
/// Fewer would mean that changes were missed: cordon, eviction, two stops, two edits, two starts, the end.
const LEAST_DEATHS: u32 = 8;

pub(crate) fn run() {
    prepare_files();
    system("systemctl", &["start", "containerd", "kubelet"]);
    load_images(Command::new("ctr"), Path::new("/lab/images.tar"));
    let kubelet = Kubelet::new(Path::new(SOCKET), Driver::Cgroupfs { root: String::new() });
    let left = kubelet.sandbox(&Pod::best_effort(1)).unwrap();
    let server = cluster();
    write_profile(&profile(
        "  cgroup: {driver: systemd, onMismatch: Migrate, migration: {readyTimeoutSeconds: 1200}}\n",
    ));
    let deaths = migrate(&server);
    println!("    the agent was killed {deaths} times");
    assert!(deaths >= LEAST_DEATHS);
    assert_moved(&server, &left);
}

fn prepare_files() {
    for folder in ["/etc/containerd", "/var/lib/kubelet", "/run/lab", "/run/systemd/system"] {
        fs::create_dir_all(folder).unwrap();
    }
    let text = config(Release::Trixie, Path::new("/var/lib/containerd"), false);
    fs::write(RUNTIME_CONFIG, format!("# by hand\n{text}")).unwrap();
    fs::write(KUBELET_CONFIG, "kind: KubeletConfiguration\ncgroupDriver: cgroupfs # by hand\n").unwrap();
    let unit = "[Service]\nExecStart=/usr/bin/busybox sleep 2147483647\n";
    fs::write("/run/systemd/system/kubelet.service", unit).unwrap();
    system("systemctl", &["daemon-reload"]);
}

/// An API server that knows this node, a pod that can go elsewhere and one that cannot; and the kubelet's heartbeats.
fn cluster() -> ApiServer {
    let server = ApiServer::new();
    server.put(NODE, json!({"metadata": {"uid": "u"}, "spec": {}, "status": {}}));
    for (name, kind) in [("web", "ReplicaSet"), ("daemon", "DaemonSet")] {
        let owner = json!([{"kind": kind, "name": "o", "controller": true}]);
        let metadata = json!({"uid": name, "ownerReferences": owner});
        let pod = json!({"metadata": metadata, "spec": {"nodeName": "lab"}, "status": {"phase": "Running"}});
        server.put(&format!("/api/v1/namespaces/default/pods/{name}"), pod);
    }
    let address = listen(server.clone());
    // Not used without TLS, but there is no other in the machine, and a client is not made without any.
    let authority = rcgen::generate_simple_self_signed(vec!["lab".to_owned()]).unwrap();
    fs::write(AUTHORITY, authority.cert.pem()).unwrap();
    fs::write(
        KUBECONFIG,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\ncontexts: [{{name: lab, context: {{cluster: lab, user: \
             lab}}}}]\nclusters: [{{name: lab, cluster: {{server: 'http://{}', \
             certificate-authority: {AUTHORITY}}}}}]\nusers: [{{name: lab, user: {{}}}}]\n",
            address
        ),
    )
    .unwrap();
    let beating = server.clone();
    thread::spawn(move || {
        loop {
            beat(&beating);
            thread::sleep(Duration::from_millis(500));
        }
    });
    server
}

/// Listens on a thread of its own, for as long as the machine runs.
fn listen(server: ApiServer) -> SocketAddr {
    let (told, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listening = server.listen().await;
            told.send(listening.address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}

/// The node is ready while the unit of its kubelet is active.
fn beat(server: &ApiServer) {
    let ready = if is_active("kubelet.service") == "active" { "True" } else { "Unknown" };
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    server.edit(NODE, |node| {
        let others = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let mut all: Vec<Value> = others.into_iter().filter(|one| one["type"] != "Ready").collect();
        all.push(json!({"type": "Ready", "status": ready, "lastHeartbeatTime": time}));
        node["status"]["conditions"] = all.into();
    });
}

fn is_active(unit: &str) -> String {
    let output = Command::new("systemctl").args(["is-active", unit]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Agents follow one another until one says that the node has arrived; how many were killed.
fn migrate(server: &ApiServer) -> u32 {
    let mut agent = Killed::start();
    let (mut seen, mut deaths) = (look(server), 0);
    until("it begins", LIMIT, || if Path::new(JOURNAL).exists() { Ok(()) } else { Err(crate::agent::log()) });
    until("the node has arrived", 8 * LIMIT, || {
        let now = look(server);
        if now != seen && !has_arrived() {
            seen.clone_from(&now);
            agent = Killed::start();
            deaths += 1;
        }
        if has_arrived() { Ok(()) } else { Err(format!("{now:?}\n{}", crate::agent::log())) }
    });
    until("the node is open", LIMIT, || {
        let closed = server.object(NODE).unwrap()["spec"]["unschedulable"] == true;
        if closed { Err(crate::agent::log()) } else { Ok(()) }
    });
    deaths
}

/// What a migration changes: the journal, the files, the units, the node.
fn look(server: &ApiServer) -> Vec<String> {
    let mut all: Vec<String> =
        [JOURNAL, KUBELET_CONFIG, RUNTIME_CONFIG].map(|path| fs::read_to_string(path).unwrap_or_default()).into();
    all.extend(UNITS.map(is_active));
    all.push(server.object(NODE).unwrap()["spec"]["unschedulable"].to_string());
    all.push(server.object("/api/v1/namespaces/default/pods/web").is_some().to_string());
    all
}

fn has_arrived() -> bool {
    fs::read_to_string(JOURNAL).is_ok_and(|text| text.contains("\"migrated\""))
}

fn assert_moved(server: &ApiServer, left: &str) {
    let kubelet_config = fs::read_to_string(KUBELET_CONFIG).unwrap();
    assert_eq!(kubelet_config, "kind: KubeletConfiguration\ncgroupDriver: systemd # by hand\n");
    let runtime_config = fs::read_to_string(RUNTIME_CONFIG).unwrap();
    let before = config(Release::Trixie, Path::new("/var/lib/containerd"), false);
    let wanted = format!("# by hand\n{}", before.replace("SystemdCgroup = false", "SystemdCgroup = true"));
    assert_eq!(runtime_config, wanted);
    assert!(fs::read_to_string(format!("{KUBELET_CONFIG}.trimtab-before")).unwrap().contains("cgroupfs"));
    let holders: Vec<Value> =
        server.objects(LEASES).iter().map(|lease| lease["spec"]["holderIdentity"].clone()).collect();
    assert!(holders.iter().all(|holder| holder.as_str().is_none_or(str::is_empty)), "{holders:?}");
    assert_eq!(UNITS.map(is_active), ["active", "active", "inactive", "inactive"]);
    assert!(server.object("/api/v1/namespaces/default/pods/web").is_none(), "evicted");
    assert!(server.object("/api/v1/namespaces/default/pods/daemon").is_some(), "not evicted");
    // An agent that dies between stop and removal leaves what a kubelet clears away by itself.
    let listed = Command::new("ctr").args(["-n", "k8s.io", "tasks", "list", "-q"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(left), "what the drain left has ended");
    // The runtime makes slices now.
    let kubelet = Kubelet::new(Path::new(SOCKET), Driver::Systemd);
    kubelet.sandbox(&Pod::guaranteed(2, 100)).unwrap();
    assert!(Path::new("/sys/fs/cgroup/kubepods.slice").is_dir());
}

/// An agent that dies without a word when it is dropped.
struct Killed(Child);

impl Killed {
    fn start() -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open("/run/lab/agent.log").unwrap();
        let mut command = Command::new("/lab/trimtab");
        command.args(["run", "--profile", "/run/lab/profile.yaml", "--node-name", "lab", "--profile-source", "file"]);
        Self(command.args(["--kubeconfig", KUBECONFIG]).stdin(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
