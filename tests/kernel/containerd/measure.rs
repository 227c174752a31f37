//! What a node pays for the agent beside a real runtime. Prints figures and asserts nothing about time.
#![allow(clippy::disallowed_types, reason = "measures by the real clock")]

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use trimtab_domain::cpuset::CpuSet;

use super::{Bench, with_containerd};
use crate::cluster::containerd::Release;
use crate::cluster::pods::Pod;
use crate::cluster::truth::{self, Running};
use crate::cluster::wait::timed;
use crate::support::node::{Agent, http, metric};

const CREATIONS: u32 = 50;
const DRIFTS: usize = 4;
const HAND_OVERS: u32 = 5;
const PODS: u32 = 250;
/// Until what 250 starts have left to do is done.
const REST: Duration = Duration::from_secs(15);
/// Two resyncs.
const IDLE: Duration = Duration::from_secs(125);
/// Pods that a runtime without NRI starts.
const RACES: u32 = 30;
/// Every subsystem has something to hold.
const EVERYTHING: &str = "\
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata: {name: everything}
spec:
  sysctls:
    values: {net.core.somaxconn: 16384, net.ipv4.ip_local_port_range: 1024 65000, net.ipv4.conf.*.rp_filter: 2}
  kernel:
    modules: {block: [dccp, sctp]}
  cgroup: {driver: cgroupfs}
  resourceManagers:
    cpuManagerPolicy: static
    reservedSystemCPUs: '0'
    topologyManagerPolicy: restricted
    memoryManagerPolicy: Static
    reservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}]
    systemReserved: {memory: 924Mi}
    evictionHard: {memory.available: 100Mi}
  ipMasq:
    nonMasqueradeCIDRs: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]
    enableIPv6: true
";

/// Median, 99th percentile and largest, in milliseconds.
fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    let count = times.len();
    println!("measured: {what}: median {:.2} ms, p99 {:.2} ms, max {:.2} ms (n = {count})", at(50), at(99), at(100));
}

impl Bench {
    /// How long the runtime takes to create a container of this pod, again and again.
    fn creations(&self, pod: &Pod) -> Vec<Duration> {
        let sandbox = self.kubelet.sandbox(pod).unwrap();
        let times = (0..CREATIONS).map(|attempt| {
            let (id, took) = timed(|| self.kubelet.create(pod, &sandbox, "app", attempt).unwrap());
            self.kubelet.remove(&id).unwrap();
            took
        });
        let times = times.collect();
        self.kubelet.remove_sandbox(&sandbox).unwrap();
        times
    }

    fn cpuset(&self, id: &str) -> PathBuf {
        let find = |directory: PathBuf| {
            let inside = fs::read_dir(directory).unwrap().flatten();
            inside.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
        };
        let mut directories = find(self.node.pods.path());
        loop {
            if let Some(found) = directories.iter().find(|path| path.ends_with(id)) {
                return found.join("cpuset.cpus");
            }
            directories = directories.into_iter().flat_map(find).collect();
        }
    }

    /// Writes another set by hand, until it is right again.
    fn drift(&self, id: &str) -> Duration {
        let file = self.cpuset(id);
        let right = fs::read_to_string(&file).unwrap();
        let wrong = truth::online().to_string();
        assert_ne!(wrong, right.trim());
        fs::write(&file, wrong).unwrap();
        let begin = Instant::now();
        while fs::read_to_string(&file).unwrap() != right {
            assert!(begin.elapsed() < super::LIMIT, "never healed\n{}", self.log());
            thread::sleep(Duration::from_micros(200));
        }
        begin.elapsed()
    }
}

/// CPU time of all threads in nanoseconds; the counter of the metrics has ticks to round to.
fn cpu_ns(agent: &Agent) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap().flatten();
    let used = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    tasks.map(used).sum()
}

/// Resident memory, and how much of it is the agent's own and pages of files.
fn memory(agent: &Agent) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let fields = ["VmRSS", "RssAnon", "RssFile", "VmHWM"].map(|field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap();
        format!("{field} {:.1} MiB", kib / 1024.0)
    });
    fields.join(", ")
}

#[test]
#[ignore = "measures for some minutes; `make bench` runs it"]
fn what_a_creation_waits_for() {
    with_containerd(Release::Trixie, "containerd::measure::what_a_creation_waits_for", |bench| {
        let (shared, pinned) = (Pod::burstable(1, 100), Pod::guaranteed(2, 1000));
        let (mut without, mut with) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..2 {
            without[0].extend(bench.creations(&shared));
            without[1].extend(bench.creations(&pinned));
            let agent = bench.agent();
            with[0].extend(bench.creations(&shared));
            with[1].extend(bench.creations(&pinned));
            answers();
            assert_eq!(agent.terminate(), Some(0));
        }
        let [shared_without, pinned_without] = without;
        show("CreateContainer, shared, without the agent", shared_without);
        let [shared_with, pinned_with] = with;
        show("CreateContainer, shared, with the agent", shared_with);
        show("CreateContainer, exclusive, without the agent", pinned_without);
        show("CreateContainer, exclusive, with the agent", pinned_with);
    });
}

/// How long the runtime waited for the answers alone, as the agent counts it.
fn answers() {
    let of_creations =
        |line: &&str| line.starts_with("trimtab_nri_handling_seconds") && line.contains("method=\"CreateContainer\"");
    for line in http("/metrics").unwrap().lines().filter(of_creations) {
        println!("measured: {line}");
    }
}

#[test]
#[ignore = "measures for some minutes; `make bench` runs it"]
fn how_fast_drift_is_healed_and_one_agent_follows_another() {
    let name = "containerd::measure::how_fast_drift_is_healed_and_one_agent_follows_another";
    with_containerd(Release::Trixie, name, |mut bench| {
        let mut agent = bench.agent();
        bench.run(Pod::guaranteed(10, 1000));
        for number in 11..16 {
            bench.run(Pod::burstable(number, 100));
        }
        bench.settle("settled");
        let ids: Vec<String> = bench.running.iter().map(|one| one.id.clone()).collect();
        let times = ids.iter().flat_map(|id| (0..DRIFTS).map(|_| bench.drift(id)).collect::<Vec<_>>());
        show("a set changed by hand until healed", times.collect());
        let mut windows = Vec::new();
        for _ in 0..HAND_OVERS {
            let begin = Instant::now();
            assert_eq!(agent.terminate(), Some(0));
            agent = bench.agent();
            windows.push(begin.elapsed());
        }
        show("from the signal to one agent until the runtime asks the next", windows);
    });
}

#[test]
#[ignore = "measures for some minutes; `make bench` runs it"]
fn what_many_pods_cost() {
    with_containerd(Release::Trixie, "containerd::measure::what_many_pods_cost", |mut bench| {
        bench.node.write_profile(EVERYTHING);
        let mut agent = bench.agent();
        bench.run(Pod::guaranteed(99, 1000));
        for number in 100..100 + PODS - 1 {
            bench.run(match number % 5 {
                0 => Pod::best_effort(number),
                1 => Pod::guaranteed(number, 10),
                _ => Pod::burstable(number, 10),
            });
        }
        bench.settle("settled");
        agent.until("all pods are known", || metric("trimtab_pinning_pods").unwrap_or_default() >= f64::from(PODS));
        thread::sleep(REST);
        println!("measured: with {} pods: {}", bench.running.len(), memory(&agent));
        let (before, begin) = (cpu_ns(&agent), Instant::now());
        thread::sleep(IDLE);
        let used = Duration::from_nanos(cpu_ns(&agent) - before);
        let share = used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
        println!(
            "measured: CPU while idle with {} pods: {share:.3} % of a core; {}",
            bench.running.len(),
            memory(&agent)
        );
    });
}

#[test]
#[ignore = "measures for some minutes; `make bench` runs it"]
fn how_long_a_container_runs_unpinned_without_nri() {
    let name = "containerd::measure::how_long_a_container_runs_unpinned_without_nri";
    with_containerd(Release::Bookworm, name, |mut bench| {
        let _agent = bench.node.start_ready();
        let (mut made, mut ran) = (Vec::new(), Vec::new());
        for number in 1..=RACES {
            let race = bench.race(Pod::guaranteed(number, 1000));
            made.push(race.since_made);
            ran.push(race.ran);
            bench.end();
        }
        show("without NRI, from the cgroup of a container until it is pinned", made);
        show("without NRI, the container's own program ran unpinned", ran);
        let longest = metric("trimtab_pinning_unpinned_seconds{phase=\"later\"}").unwrap();
        println!("measured: without NRI, the agent's own count since creation: at most {:.1} ms", longest * 1000.0);
    });
}

/// Who was first.
struct Race {
    /// From the cgroup of the container until it had its CPUs.
    since_made: Duration,
    /// How long the program of the container ran before; zero: it never ran unpinned.
    ran: Duration,
}

impl Bench {
    /// Starts a pod and watches whether its program or its CPUs come first.
    fn race(&mut self, pod: Pod) -> Race {
        let sandbox = self.kubelet.sandbox(&pod).unwrap();
        let id = self.kubelet.create(&pod, &sandbox, "app", 0).unwrap();
        let directory = self.node.pods.path().join("kubepods").join(format!("pod{}", pod.uid)).join(&id);
        let watcher = thread::spawn(move || {
            let everywhere = truth::online();
            let (mut made, mut ran) = (None, None);
            let begin = Instant::now();
            while begin.elapsed() < super::LIMIT {
                let cpus = fs::read_to_string(directory.join("cpuset.cpus")).unwrap_or_default();
                let Ok(cpus) = CpuSet::parse(cpus.trim()) else { continue };
                if cpus.is_empty() {
                    continue;
                }
                let now = Instant::now();
                let made = *made.get_or_insert(now);
                if ran.is_none() && program_runs(&directory) {
                    ran = Some(now);
                }
                if cpus != everywhere {
                    let ran = ran.map(|since| now - since).unwrap_or_default();
                    return Some(Race { since_made: now - made, ran });
                }
            }
            None
        });
        self.kubelet.start(&id).unwrap();
        self.running.push(Running { pod, sandbox, container: "app".into(), id, attempt: 0 });
        watcher.join().unwrap().unwrap_or_else(|| panic!("never pinned\n{}", self.log()))
    }
}

/// True once the process of the container is no longer runc's, which prepares it.
fn program_runs(directory: &std::path::Path) -> bool {
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut names = processes.lines().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    names.any(|name| !name.starts_with("runc"))
}
