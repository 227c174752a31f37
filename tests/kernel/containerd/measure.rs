//! What a node pays for the agent beside a real runtime. Prints figures and asserts nothing about time.
#![allow(clippy::disallowed_types, reason = "measures by the real clock")]

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::{Bench, with_containerd};
use crate::cluster::containerd::Release;
use crate::cluster::pods::Pod;
use crate::cluster::truth;
use crate::cluster::wait::timed;
use crate::support::node::{Agent, http, metric};

const CREATIONS: u32 = 50;
const DRIFTS: usize = 4;
const PODS: u32 = 250;
const IDLE: Duration = Duration::from_secs(60);

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

/// Seconds of CPU time and KiB of memory that the agent has used, and how much of it is its own.
fn usage(agent: &Agent) -> (f64, String) {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let memory = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
    let memory = memory.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    (metric("process_cpu_seconds_total").unwrap(), memory.join(", "))
}

#[test]
#[ignore = "measures for some minutes; `make bench` runs it"]
fn what_a_node_pays() {
    with_containerd(Release::Trixie, "containerd::measure::what_a_node_pays", |mut bench| {
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
        healing_and_hand_over(&mut bench);
        many_pods(&mut bench);
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

fn healing_and_hand_over(bench: &mut Bench) {
    let agent = bench.agent();
    bench.run(Pod::guaranteed(10, 1000));
    for number in 11..16 {
        bench.run(Pod::burstable(number, 100));
    }
    bench.settle("settled");
    let ids: Vec<String> = bench.running.iter().map(|one| one.id.clone()).collect();
    let times = ids.iter().flat_map(|id| (0..DRIFTS).map(|_| bench.drift(id)).collect::<Vec<_>>());
    show("a set changed by hand until healed", times.collect());
    assert_eq!(agent.terminate(), Some(0));
    let (agent, window) = timed(|| bench.agent());
    println!("measured: from the end of one agent until the runtime asks the next: {} ms", window.as_millis());
    drop(agent);
}

fn many_pods(bench: &mut Bench) {
    let mut agent = bench.agent();
    for number in 100..100 + PODS {
        bench.run(Pod::burstable(number, 10));
    }
    bench.settle("settled");
    agent.until("all pods are known", || metric("trimtab_pinning_pods").unwrap_or_default() >= f64::from(PODS));
    println!("measured: with {} pods: {}", bench.running.len(), usage(&agent).1);
    let (before, _) = usage(&agent);
    thread::sleep(IDLE);
    let (after, memory) = usage(&agent);
    let share = (after - before) / IDLE.as_secs_f64() * 100.0;
    println!("measured: CPU while idle with {} pods: {share:.3} % of a core; {memory}", bench.running.len());
}
