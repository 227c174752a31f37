//! What happens in a machine: pods come, things go wrong, and after each step it is looked at what the kernel lets run where.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tonic::Status;
use trimtab_domain::cpuset::CpuSet;

use crate::agent::{Agent, LIMIT, once, write_profile};
use crate::alignment;
use crate::churn;
use crate::cluster::containerd::{Release, SOCKET, config, load_images};
use crate::cluster::pods::{Driver, Kubelet, Pod};
use crate::cluster::truth::{self, Running};
use crate::cluster::wait::{timed, until};
use crate::disturb;
use crate::units;

/// A core with its two threads is the system's; the rest is given out by whole cores.
pub(crate) const RESERVED: &str = "0-1";

/// What the runtime is told when an answer takes more than half a second.
const TOO_LATE: &str = "trimtab has no answer in time";
const TRIES: u32 = 5;
/// A kubelet waits longer.
const AGAIN: Duration = Duration::from_secs(1);

/// The node: who runs on it, and who runs them.
pub(crate) struct Machine {
    pub(crate) topology: String,
    pub(crate) kubelet: Kubelet,
    pub(crate) running: Vec<Running>,
    pods: u32,
}

pub(crate) fn reserved() -> CpuSet {
    CpuSet::parse(RESERVED).unwrap()
}

/// Pinning with everything that a machine with several NUMA nodes can be asked for; each machine has another policy of
/// alignment.
pub(crate) fn pinning(topology: &str) -> String {
    let policy = alignment::policy(topology);
    let reserved = alignment::reserved_memory(topology);
    format!(
        "  resourceManagers:
    cpuManagerPolicy: static
    reservedSystemCPUs: '{RESERVED}'
    topologyManagerPolicy: {policy}
    memoryManagerPolicy: Static
    reservedMemory: [{reserved}]
    systemReserved: {{memory: 64Mi}}
    evictionHard: {{memory.available: 100Mi}}
    extensions: {{resizeInPlace: true}}
"
    )
}

pub(crate) fn profile(sections: &str) -> String {
    format!("apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: lab}}\nspec:\n{sections}")
}

/// Runs a program that must succeed.
pub(crate) fn system(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Has a container made as a kubelet has: where the agent had no answer in time, the same again a little later. An emulated
/// machine stands still for half a second now and then.
pub(crate) fn create(
    kubelet: &Kubelet,
    pod: &Pod,
    sandbox: &str,
    container: &str,
    attempt: u32,
) -> Result<String, Status> {
    for _ in 0..TRIES {
        match kubelet.create(pod, sandbox, container, attempt) {
            Err(error) if error.message().contains(TOO_LATE) => println!("    too late for {}: again", pod.name),
            made => return made,
        }
        thread::sleep(AGAIN);
    }
    kubelet.create(pod, sandbox, container, attempt)
}

impl Machine {
    fn new(topology: &str) -> Self {
        fs::create_dir_all("/etc/containerd").unwrap();
        let release = if topology == "forky" { Release::Forky } else { Release::Trixie };
        let text = config(release, Path::new("/var/lib/containerd"), true);
        fs::write("/etc/containerd/config.toml", text).unwrap();
        system("systemctl", &["start", "containerd"]);
        load_images(Command::new("ctr"), Path::new("/lab/images.tar"));
        let kubelet = Kubelet::new(Path::new(SOCKET), Driver::Systemd);
        Self { topology: topology.into(), kubelet, running: Vec::new(), pods: 0 }
    }

    /// A number that no pod had before.
    pub(crate) fn number(&mut self) -> u32 {
        self.pods += 1;
        self.pods
    }

    /// Runs a pod of one container.
    pub(crate) fn run(&mut self, pod: Pod) {
        let sandbox = self.kubelet.sandbox(&pod).unwrap();
        self.run_in(pod, sandbox);
    }

    /// Runs the container of a pod whose sandbox runs.
    pub(crate) fn run_in(&mut self, pod: Pod, sandbox: String) {
        let id = create(&self.kubelet, &pod, &sandbox, "app", 0).unwrap();
        self.kubelet.start(&id).unwrap();
        self.running.push(Running { pod, sandbox, container: "app".into(), id, attempt: 0 });
    }

    /// Ends the pod at this place.
    pub(crate) fn end(&mut self, place: usize) {
        let gone = self.running.remove(place);
        self.kubelet.stop(&gone.id).unwrap();
        self.kubelet.remove_sandbox(&gone.sandbox).unwrap();
    }

    /// The container ends and is made anew, while its pod lives.
    pub(crate) fn restart(&mut self, place: usize) {
        let old = self.running.remove(place);
        self.kubelet.stop(&old.id).unwrap();
        let attempt = old.attempt + 1;
        let id = create(&self.kubelet, &old.pod, &old.sandbox, &old.container, attempt).unwrap();
        self.kubelet.start(&id).unwrap();
        self.kubelet.remove(&old.id).unwrap();
        self.running.insert(place, Running { id, attempt, ..old });
    }

    /// What must hold at each moment.
    pub(crate) fn check(&self) -> CpuSet {
        truth::exclusive(&self.running, &reserved()).unwrap()
    }

    /// Waits for what must hold in the end.
    pub(crate) fn settle(&self, agent: &mut Agent, what: &str) {
        agent.until(what, || truth::settled(&self.running, &reserved()));
    }

    /// What the container of the newest pod may use.
    pub(crate) fn newest(&self) -> truth::Allowed {
        truth::containers()[&self.running.last().unwrap().id].clone()
    }

    pub(crate) fn clear(&mut self) {
        while !self.running.is_empty() {
            self.end(0);
        }
    }
}

fn step<T>(name: &str, act: impl FnOnce() -> T) -> T {
    let (value, took) = timed(act);
    println!("ok  {name} ({:.1} s)", took.as_secs_f64());
    value
}

/// Everything, in order.
pub(crate) fn run(topology: &str, pods: u32) {
    let mut machine = step("containerd runs", || Machine::new(topology));
    write_profile(&profile(&pinning(topology)));
    let mut agent = step("the agent holds the node", Agent::start_ready);
    step("what is too large for a NUMA node is spread, or refused", || alignment::too_large(&mut machine));
    step("pods of all classes are placed from their first moment", || all_classes(&mut machine, &mut agent));
    step("CPUs and memory of a pod come from one NUMA node", || alignment::aligned(&mut machine));
    step("what cannot be had is refused in the kubelet's words", || refused(&mut machine));
    step("a restarted container has its CPUs again", || restarted(&mut machine));
    step("systemd reads its units again", || disturb::daemon_reload(&machine, &mut agent));
    step("systemd stops and starts units, also by itself", units::run);
    step("a resize grows and shrinks", || disturb::resize(&mut machine, &mut agent));
    step("the runtime is restarted", || disturb::runtime_restart(&mut machine, &mut agent));
    step("the process of a sandbox dies", || disturb::sandbox_death(&mut machine, &mut agent));
    step("a CPU goes away and comes back", || disturb::hotplug(&machine, &mut agent));
    step("a reserved CPU goes away and comes back", || disturb::reserved_hotplug(&mut machine, &mut agent));
    step("the policy is changed and changed back", || disturb::policy(&machine, &mut agent));
    agent = step("the agent is killed while containers are made", || disturb::kill(&mut machine, agent));
    step("pods come and go", || churn::run(&mut machine, &mut agent, pods));
    step("everything is given back", || give_back(&mut machine, agent));
}

fn all_classes(machine: &mut Machine, agent: &mut Agent) {
    let (one, two, three, four, five) =
        (machine.number(), machine.number(), machine.number(), machine.number(), machine.number());
    let pods = [
        Pod::best_effort(one),
        Pod::burstable(two, 100),
        Pod::guaranteed(three, 500),
        Pod::guaranteed(four, 2000),
        Pod::guaranteed(five, 1000),
    ];
    for pod in pods {
        machine.run(pod);
        machine.check();
    }
    assert_eq!(machine.check().len(), 3);
    machine.settle(agent, "all classes are placed");
}

fn refused(machine: &mut Machine) {
    let all = i64::try_from(truth::online().len()).unwrap();
    let pod = Pod::guaranteed(machine.number(), all * 1000);
    let sandbox = machine.kubelet.sandbox(&pod).unwrap();
    let error = create(&machine.kubelet, &pod, &sandbox, "app", 0).unwrap_err();
    assert!(error.message().contains(alignment::refusal(&machine.topology, true)), "{error:?}");
    machine.check();
    machine.kubelet.remove_sandbox(&sandbox).unwrap();
}

fn restarted(machine: &mut Machine) {
    let place = machine.running.iter().position(|one| one.pod.exclusive_cpus("app") == 2).unwrap();
    let before = truth::containers()[&machine.running[place].id].cpus.clone();
    machine.restart(place);
    machine.check();
    assert_eq!(truth::containers()[&machine.running[place].id].cpus, before);
}

fn give_back(machine: &mut Machine, agent: Agent) {
    assert_eq!(agent.terminate(), Some(0));
    machine.check();
    // A runtime that is emulated does not always answer in time, which the command says; a person calls it again.
    until("everything is given back", LIMIT, || match once("rollback") {
        (Some(0), _) => Ok(()),
        (_, text) => Err(text),
    });
    let allowed = truth::containers();
    for one in &machine.running {
        assert_eq!(allowed[&one.id].cpus, truth::online(), "{}", one.pod.name);
    }
    machine.clear();
}
