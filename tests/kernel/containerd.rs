//! The daemon beside a real containerd on this very machine: pods as the kubelet runs them, truth as the kernel tells it.

use std::path::Path;
use std::time::Duration;

use trimtab_domain::cpuset::CpuSet;

use crate::cluster::containerd::{Containerd, Release, SOCKET, fetch};
use crate::cluster::pods::{Driver, Kubelet, Pod};
use crate::cluster::truth::{self, Running};
use crate::cluster::wait::until;
use crate::support::namespace::{cannot_run, in_pid_namespace};
use crate::support::node::{Agent, Node, http};

const LIMIT: Duration = Duration::from_secs(60);
/// The first CPU is reserved, all others can be had.
const PROFILE: &str = "\
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata: {name: containerd}
spec:
  resourceManagers: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}
";

/// A node with a runtime, a kubelet and pods.
struct Bench {
    running: Vec<Running>,
    kubelet: Kubelet,
    containerd: Containerd,
    node: Node,
}

/// Runs a test with a containerd of this release, in namespaces of its own.
fn with_containerd(release: Release, name: &str, test: impl FnOnce(Bench)) {
    in_pid_namespace(name, || {
        if truth::online().len() < 2 {
            cannot_run("two CPUs are needed");
            return;
        }
        let Some(node) = Node::new() else { return };
        let files = match fetch(release, &node.path("")) {
            Ok(files) => files,
            Err(why) => return cannot_run(&format!("no containerd of {release:?} can be had: {why}")),
        };
        node.share_run();
        node.write_profile(PROFILE);
        let containerd = Containerd::start(files, &node.path(""));
        let root = format!("/{}", node.pods.path().file_name().unwrap().display());
        let kubelet = Kubelet::new(Path::new(SOCKET), Driver::Cgroupfs { root });
        test(Bench { running: Vec::new(), kubelet, containerd, node });
    });
}

fn reserved() -> CpuSet {
    CpuSet::from_iter([0])
}

impl Bench {
    /// Runs a pod of one container, and checks what holds from the first moment on; the sandbox.
    fn run(&mut self, pod: Pod) -> String {
        let sandbox = self.kubelet.sandbox(&pod).unwrap();
        self.restart(pod, &sandbox, 0);
        sandbox
    }

    fn restart(&mut self, pod: Pod, sandbox: &str, attempt: u32) {
        let id = self.kubelet.create(&pod, sandbox, "app", attempt).unwrap();
        self.kubelet.start(&id).unwrap();
        let sandbox = sandbox.to_owned();
        self.running.push(Running { pod, sandbox, container: "app".into(), id, attempt });
    }

    fn start_agent(&self) -> Agent {
        let socket = self.node.path("socket").display().to_string();
        let mut agent = self.node.spawn(self.node.command("run", &["--socket", &socket, "--resync", "1s"]));
        agent.until("ready", || http("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
        agent
    }

    fn exclusive(&self) -> CpuSet {
        truth::exclusive(&self.running, &reserved()).unwrap()
    }

    fn settle(&self, what: &str) {
        until(what, LIMIT, || truth::settled(&self.running, &reserved()));
    }
}

#[test]
fn pods_of_all_classes_run() {
    with_containerd(Release::Trixie, "containerd::pods_of_all_classes_run", |mut bench| {
        let _agent = bench.start_agent();
        bench.run(Pod::best_effort(1));
        bench.run(Pod::burstable(2, 100));
        bench.run(Pod::guaranteed(3, 500));
        bench.run(Pod::guaranteed(4, 1000));
        bench.settle("pinned");
        assert_eq!(bench.exclusive().len(), 1, "{}", bench.containerd.log());
    });
}
