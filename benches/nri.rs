//! What a runtime waits for when it creates containers: 1,000 of them, 100 a second, decided by the desk over a real
//! socket; and that no CPU is given twice and no answer is lost while others look at the desk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench stops at the first surprise and prints what it measured"
)]

#[path = "../tests/hermetic/support"]
#[allow(dead_code, reason = "the doubles are those of the tests, and only a part of them is used")]
mod support {
    pub(crate) mod fake_cgroups;
    pub(crate) mod fake_host;
    pub(crate) mod fake_ledger;
    pub(crate) mod nri_runtime;
}

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use trimtab::adapters::nri::{Nri, NriPorts};
use trimtab::ports::admission::Terminations;
use trimtab::ports::nri_stats::{NriMethod, NriResult, NriStats};
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::pinning::Pinning;
use trimtab::subsystems::pinning::desk::Desk;
use trimtab_domain::cgroup::Version;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::spec::resource_managers::ReservedMemory;
use trimtab_proto::nri::v1alpha1 as nri;

use self::support::fake_cgroups::{FakeCgroups, Shape};
use self::support::nri_runtime::objects::{Qos, container, pod};
use self::support::nri_runtime::{Behaviour, NriRuntime};

/// 256 CPUs.
const MACHINE: Shape = Shape { nodes: 8, cores_per_node: 16, threads: 2 };
const RESERVED: &str = "0-1";
const CONTAINERS: usize = 1000;
/// Creations and removals once that many live.
const CHURN: usize = 500;
const CREATES_PER_SECOND: u64 = 100;
/// One of so many gets a CPU of its own, and narrows all that share.
const EXCLUSIVE_ONE_OF: usize = 4;

struct NothingEnds;

impl Terminations for NothingEnds {
    fn longest_remaining(&self) -> Pin<Box<dyn Future<Output = Option<Duration>> + Send + '_>> {
        Box::pin(async { None })
    }
}

type Pod = (nri::PodSandbox, nri::Container);

fn nth(index: usize) -> Pod {
    let qos = if index.is_multiple_of(EXCLUSIVE_ONE_OF) { Qos::Guaranteed } else { Qos::Burstable };
    let pod = pod(&format!("p{index}"), qos);
    let milli = if qos == Qos::Guaranteed { 1000 } else { 100 };
    let container = container(&pod, "app", milli);
    (pod, container)
}

async fn create(runtime: &NriRuntime, (pod, container): &Pod) {
    runtime.run_pod(pod).await;
    runtime.create(pod, container).await.unwrap();
    runtime.start(pod, &container.id).await;
}

async fn remove(runtime: &NriRuntime, (pod, container): &Pod) {
    runtime.stop(pod, &container.id).await;
    runtime.stop_pod(pod).await;
    runtime.remove(pod, &container.id).await;
    runtime.remove_pod(pod).await;
}

/// No CPU belongs to two, and whoever shares runs on none that belongs to somebody.
async fn check(runtime: &NriRuntime, living: &VecDeque<Pod>) {
    let mut taken = CpuSet::default();
    let mut shared = Vec::new();
    for (pod, container) in living {
        let sets = runtime.sets(&container.id).await.expect("no container is lost");
        let cpus = CpuSet::parse(&sets.cpus).unwrap();
        if pod.linux.as_ref().unwrap().cgroup_parent.contains("burstable") {
            shared.push(cpus);
        } else {
            assert_eq!(cpus.len(), 1, "{}", container.id);
            assert!(cpus.is_disjoint(&taken), "{cpus} of {} belongs to another", container.id);
            taken = taken.union(&cpus);
        }
    }
    for cpus in shared {
        // Before the first exclusive container nobody is bound.
        assert!(cpus.is_disjoint(&taken), "{cpus} is shared and exclusive");
    }
}

/// The settings to measure with, by name.
fn settings() -> [(&'static str, ResourceManagersSpec); 2] {
    let cpus = ResourceManagersSpec {
        cpu_manager_policy: "static".into(),
        reserved_system_cpus: RESERVED.into(),
        ..ResourceManagersSpec::default()
    };
    let limits = BTreeMap::from([("memory".to_owned(), "1Gi".to_owned())]);
    let both = ResourceManagersSpec {
        topology_manager_policy: "restricted".into(),
        memory_manager_policy: "Static".into(),
        system_reserved: BTreeMap::from([("memory".to_owned(), "924Mi".to_owned())]),
        reserved_memory: vec![ReservedMemory { numa_node: 0, limits }],
        ..cpus.clone()
    };
    [("CPUs, topology policy none", cpus), ("CPUs and memory, topology policy restricted", both)]
}

/// A desk that knows the machine.
fn desk(spec: ResourceManagersSpec) -> Arc<Desk> {
    let node = FakeCgroups::new(Version::V2, CgroupDriver::Cgroupfs, MACHINE);
    let pinning = Pinning::new(node.ports()).0;
    let desk = pinning.desk();
    Builder::new_current_thread().build().unwrap().block_on(pinning.observe(&Some(spec))).unwrap();
    desk
}

/// The plugin on a thread of its own, as in the daemon.
fn start(socket: &Path, desk: &Arc<Desk>, stats: &Arc<NriStats>, cancel: &CancellationToken) -> thread::JoinHandle<()> {
    let ports =
        NriPorts { admission: Arc::<Desk>::clone(desk), terminations: Arc::new(NothingEnds), stats: Arc::clone(stats) };
    let nri = Nri::new(socket, ports).unwrap();
    let cancel = cancel.clone();
    thread::spawn(move || Builder::new_current_thread().enable_all().build().unwrap().block_on(nri.run(cancel)))
}

fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / f64::from(1 << 20)
}

fn print(what: &str, mut waits: Vec<Duration>) {
    waits.sort();
    let at = |share: usize| waits[(waits.len() - 1) * share / 1000].as_micros();
    println!(
        "  {what}: {} creations, the runtime waited p50 {} µs, p99 {} µs, p99.9 {} µs, most {} µs",
        waits.len(),
        at(500),
        at(990),
        at(999),
        at(1000),
    );
}

async fn load(runtime: &NriRuntime) {
    let mut pace = interval(Duration::from_secs(1) / u32::try_from(CREATES_PER_SECOND).unwrap());
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut living = VecDeque::new();
    let began = Instant::now();
    for index in 0..CONTAINERS {
        pace.tick().await;
        living.push_back(nth(index));
        create(runtime, living.back().unwrap()).await;
        if index % 100 == 99 {
            check(runtime, &living).await;
        }
    }
    print("0 to 1,000 containers", runtime.take_create_waits());
    for index in CONTAINERS..CONTAINERS + CHURN {
        pace.tick().await;
        let oldest = living.pop_front().unwrap();
        remove(runtime, &oldest).await;
        living.push_back(nth(index));
        create(runtime, living.back().unwrap()).await;
        if index % 100 == 99 {
            check(runtime, &living).await;
        }
    }
    print("one for one of 1,000 containers", runtime.take_create_waits());
    let rate = f64::from(u32::try_from(CONTAINERS + CHURN).unwrap()) / began.elapsed().as_secs_f64();
    println!("  {rate:.0} creations a second were made of {CREATES_PER_SECOND} that were asked for");
}

fn main() {
    for (name, spec) in settings() {
        println!("{name}:");
        measure(spec);
    }
}

fn measure(spec: ResourceManagersSpec) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nri.sock");
    let (desk, stats, cancel) = (desk(spec), Arc::<NriStats>::default(), CancellationToken::new());
    let before = resident_mib();
    let plugin = start(&socket, &desk, &stats, &cancel);
    // As a pass does, which looks at everything that the desk knows.
    let (looking, stop) = (Arc::clone(&desk), cancel.clone());
    let looker = thread::spawn(move || {
        while !stop.is_cancelled() {
            drop(looking.view());
            thread::sleep(Duration::from_millis(100));
        }
    });
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let runtime = NriRuntime::listen(&socket, Behaviour::containerd_2_1());
        runtime.accept().await.unwrap();
        load(&runtime).await;
        assert_eq!((runtime.fail_open(), runtime.violations()), (0, vec![]));
    });
    let answered = stats.answered(NriMethod::CreateContainer, NriResult::Ok);
    assert_eq!(answered, u64::try_from(CONTAINERS + CHURN).unwrap(), "every creation was answered once");
    println!("  resident memory grew by {:.1} MiB, the runtime's double included", resident_mib() - before);
    cancel.cancel();
    plugin.join().unwrap();
    looker.join().unwrap();
}
