//! The daemon as a plugin of a real containerd: containers have their CPUs from the first moment on, and the runtime's
//! restart is survived.

use std::path::Path;

use trimtab_domain::cpuset::CpuSet;

use crate::cluster::containerd::{Containerd, Release, SOCKET, fetch};
use crate::cluster::pods::{Driver, Kubelet, Pod};
use crate::cluster::truth::{self, Running};
use crate::support::namespace::{cannot_run, in_pid_namespace};
use crate::support::node::{Agent, Node, metric};

/// The first CPU is reserved, all others can be had. Without CRI and cgroup events nothing but NRI pins so early.
const PROFILE: &str = "\
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata: {name: nri}
spec:
  resourceManagers: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}
";

fn connected() -> bool {
    metric("trimtab_nri_connected") == Some(1.0)
}

fn created(result: &str) -> f64 {
    metric(&format!("trimtab_nri_handled_total{{method=\"CreateContainer\",result=\"{result}\"}}")).unwrap()
}

struct Bench {
    running: Vec<Running>,
    kubelet: Kubelet,
}

impl Bench {
    fn create(&self, pod: &Pod) -> (String, Result<String, String>) {
        let sandbox = self.kubelet.sandbox(pod).unwrap();
        let created = self.kubelet.create(pod, &sandbox, "app", 0).map_err(|status| status.message().to_owned());
        (sandbox, created)
    }

    fn run(&mut self, pod: Pod) {
        let (sandbox, created) = self.create(&pod);
        let id = created.unwrap();
        self.kubelet.start(&id).unwrap();
        self.running.push(Running { pod, sandbox, container: "app".into(), id, attempt: 0 });
    }

    /// What holds now; nothing is waited for.
    fn exclusive(&self) -> Result<CpuSet, String> {
        truth::exclusive(&self.running, &CpuSet::from_iter([0]))
    }
}

fn kubelet(node: &Node) -> Kubelet {
    let root = format!("/{}", node.pods.path().file_name().unwrap().display());
    Kubelet::new(Path::new(SOCKET), Driver::Cgroupfs { root })
}

fn start_agent(node: &Node) -> Agent {
    let socket = node.path("socket").display().to_string();
    // The resync is far away: what holds at once is the work of the answers.
    let mut agent = node.spawn(node.command("run", &["--socket", &socket, "--resync", "1h"]));
    agent.until("connected", connected);
    agent
}

#[test]
fn containers_have_their_cpus_from_the_first_moment_on() {
    in_pid_namespace("nri::containers_have_their_cpus_from_the_first_moment_on", || {
        if truth::online().len() < 2 {
            return cannot_run("two CPUs are needed");
        }
        let Some(node) = Node::new() else { return };
        let files = match fetch(Release::Trixie, &node.path("")) {
            Ok(files) => files,
            Err(why) => return cannot_run(&format!("no containerd can be had: {why}")),
        };
        node.share_run();
        node.write_profile(PROFILE);
        let mut containerd = Containerd::start(files, &node.path(""));
        let mut bench = Bench { running: Vec::new(), kubelet: kubelet(&node) };
        // One that runs before anybody is asked.
        bench.run(Pod::best_effort(1));
        let mut agent = start_agent(&node);

        bench.run(Pod::burstable(2, 100));
        bench.run(Pod::guaranteed(3, 1000));
        assert_eq!(bench.exclusive().map(|cpus| cpus.len()), Ok(1), "{}\n{}", agent.log(), containerd.log());
        assert_eq!((created("ok"), created("refused")), (2.0, 0.0), "{}", agent.log());

        let many = i64::try_from(truth::online().len()).unwrap() * 1000;
        let (sandbox, refused) = bench.create(&Pod::guaranteed(4, many));
        let refused = refused.unwrap_err();
        assert!(refused.contains("UnexpectedAdmissionError") || refused.contains("not enough cpus"), "{refused}");
        bench.kubelet.remove_sandbox(&sandbox).unwrap();
        assert_eq!((created("refused"), metric("trimtab_nri_undone_total")), (1.0, Some(0.0)));

        containerd.restart();
        bench.kubelet = kubelet(&node);
        agent.until("connected again", || metric("trimtab_nri_registrations_total") == Some(2.0) && connected());
        assert_eq!(bench.exclusive().map(|cpus| cpus.len()), Ok(1), "{}", agent.log());
        bench.run(Pod::best_effort(5));
        assert_eq!(bench.exclusive().map(|cpus| cpus.len()), Ok(1), "{}", agent.log());

        // A second agent takes over without moving anybody.
        agent.kill();
        let agent = start_agent(&node);
        assert_eq!(bench.exclusive().map(|cpus| cpus.len()), Ok(1), "{}", agent.log());
        bench.run(Pod::burstable(6, 200));
        assert_eq!(bench.exclusive().map(|cpus| cpus.len()), Ok(1), "{}", agent.log());
        assert_eq!(created("failed") + created("timeout"), 0.0, "{}", agent.log());
    });
}
