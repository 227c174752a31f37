//! The daemon beside a real containerd on this very machine: pods as the kubelet runs them, truth as the kernel tells it.

mod bounds;
mod measure;
mod nri;
mod testing;

use std::path::Path;
use std::time::Duration;

use trimtab_domain::cpuset::CpuSet;

use crate::cluster::containerd::{Containerd, Release, SOCKET, fetch};
use crate::cluster::pods::{DEBUGGER, Driver, Kubelet, Pod};
use crate::cluster::truth::{self, Running};
use crate::cluster::wait::until;
use crate::support::namespace::{cannot_run, in_pid_namespace};
use crate::support::node::{Node, read};

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
        test(Bench { running: Vec::new(), kubelet: kubelet(&node), containerd, node });
    });
}

fn kubelet(node: &Node) -> Kubelet {
    let root = format!("/{}", node.pods.path().file_name().unwrap().display());
    Kubelet::new(Path::new(SOCKET), Driver::Cgroupfs { root })
}

fn reserved() -> CpuSet {
    CpuSet::from_iter([0])
}

impl Bench {
    /// Runs a pod of one container.
    fn run(&mut self, pod: Pod) {
        let sandbox = self.kubelet.sandbox(&pod).unwrap();
        self.run_in(pod, sandbox, 0);
    }

    fn run_in(&mut self, pod: Pod, sandbox: String, attempt: u32) {
        let id = self.kubelet.create(&pod, &sandbox, "app", attempt).unwrap();
        self.kubelet.start(&id).unwrap();
        self.running.push(Running { pod, sandbox, container: "app".into(), id, attempt });
    }

    /// Somebody looks into a pinned pod, leaves, and it keeps its CPUs all the time.
    fn debug(&mut self) {
        self.run(Pod::guaranteed(1, 1000));
        self.settle("placed");
        let before = self.exclusive();
        let Running { pod, sandbox, .. } = self.running[0].clone();
        let pod = pod.debugged();
        let id = self.kubelet.create(&pod, &sandbox, DEBUGGER, 0).unwrap();
        self.kubelet.start(&id).unwrap();
        self.running.push(Running { pod, sandbox, container: DEBUGGER.into(), id: id.clone(), attempt: 0 });
        self.settle("the one to debug with has the shared CPUs");
        assert_eq!(self.exclusive(), before);
        self.kubelet.stop(&id).unwrap();
        self.running.pop();
        self.settle("nobody looks any more");
        assert_eq!(self.exclusive(), before);
    }

    /// Ends the newest pod.
    fn end(&mut self) {
        let gone = self.running.pop().unwrap();
        self.kubelet.stop(&gone.id).unwrap();
        self.kubelet.remove_sandbox(&gone.sandbox).unwrap();
    }

    /// Waits until the runtime has seen that the sandbox of the first pod is over.
    fn until_sandbox_is_not_ready(&self) {
        until("the sandbox is not ready", LIMIT, || {
            let ready = self.kubelet.cri.is_ready(&self.running[0].sandbox);
            if ready { Err("it still is".into()) } else { Ok(()) }
        });
    }

    /// A new connection to the runtime, after it was restarted.
    fn reconnect(&mut self) {
        self.kubelet = kubelet(&self.node);
    }

    /// Why a pod is not run.
    fn refusal(&self, pod: &Pod) -> String {
        let sandbox = self.kubelet.sandbox(pod).unwrap();
        let error = self.kubelet.create(pod, &sandbox, "app", 0).unwrap_err();
        self.kubelet.remove_sandbox(&sandbox).unwrap();
        error.message().to_owned()
    }

    /// The exclusive CPUs; what must hold at each moment holds.
    fn exclusive(&self) -> CpuSet {
        truth::exclusive(&self.running, &reserved()).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    fn settle(&self, what: &str) {
        let settled = || truth::settled(&self.running, &reserved());
        until(what, LIMIT, || settled().map_err(|error| format!("{error}\n{}", self.log())));
    }

    fn log(&self) -> String {
        read(self.node.path("log"))
    }
}

#[test]
fn without_nri_pods_are_placed_over_cri() {
    with_containerd(Release::Bookworm, "containerd::without_nri_pods_are_placed_over_cri", |mut bench| {
        let mut agent = bench.node.start_ready();
        for pod in [Pod::best_effort(1), Pod::burstable(2, 100), Pod::guaranteed(3, 500), Pod::guaranteed(4, 1000)] {
            bench.run(pod);
        }
        bench.settle("placed");
        assert_eq!(bench.exclusive().len(), 1);
        let Running { pod, id, .. } = bench.running.last().unwrap();
        bench.kubelet.resize(pod, "app", id).unwrap();
        assert_eq!(bench.exclusive().len(), 1, "the runtime itself knows the sets");
        agent.kill();
        bench.end();
        bench.run(Pod::guaranteed(5, 1000));
        agent = bench.node.start_ready();
        bench.settle("what changed meanwhile is made good");
        bench.containerd.restart();
        bench.reconnect();
        bench.end();
        bench.settle("given back");
        assert!(!agent.log().contains("ERROR"), "{}", agent.log());
    });
}

#[test]
fn without_nri_a_container_to_debug_with_takes_nothing_from_its_pod() {
    let name = "containerd::without_nri_a_container_to_debug_with_takes_nothing_from_its_pod";
    with_containerd(Release::Bookworm, name, |mut bench| {
        let _agent = bench.node.start_ready();
        bench.debug();
    });
}

#[test]
fn without_nri_what_runs_in_a_sandbox_that_has_died_keeps_its_cpus() {
    let name = "containerd::without_nri_what_runs_in_a_sandbox_that_has_died_keeps_its_cpus";
    with_containerd(Release::Bookworm, name, |mut bench| {
        let agent = bench.node.start_ready();
        let all = i64::try_from(truth::online().len()).unwrap() - 1;
        bench.run(Pod::guaranteed(1, all * 1000));
        bench.settle("placed");
        let before = bench.exclusive();
        truth::kill_all(&bench.running[0].sandbox);
        bench.until_sandbox_is_not_ready();
        // One that is promised CPUs and cannot have them shares those that nobody owns.
        let second = Pod::guaranteed(2, 1000);
        let sandbox = bench.kubelet.sandbox(&second).unwrap();
        let id = bench.kubelet.create(&second, &sandbox, "app", 0).unwrap();
        bench.kubelet.start(&id).unwrap();
        until("the second one has left them", LIMIT, || {
            let seen = truth::containers().remove(&id).unwrap_or_default().cpus;
            if seen.is_disjoint(&before) { Ok(()) } else { Err(format!("{seen}\n{}", bench.log())) }
        });
        assert_eq!(bench.exclusive(), before);
        bench.end();
        until("they are the second one's now", LIMIT, || {
            let seen = truth::containers().remove(&id).unwrap_or_default().cpus;
            if seen.len() == 1 && seen.is_subset(&before) { Ok(()) } else { Err(format!("{seen}\n{}", bench.log())) }
        });
        bench.kubelet.stop(&id).unwrap();
        bench.kubelet.remove_sandbox(&sandbox).unwrap();
        drop(agent);
    });
}
