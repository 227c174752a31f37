//! The subsystem `allocatable` on nodes in memory, through the real adapters for cgroups, topology and kubelet.

mod interrupts;
mod refusing;
mod units;

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::errno::Errno;
use trimtab::adapters::cgroup_fs::CgroupFs;
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::topology_sysfs::SysfsTopology;
use trimtab::ports::HostFiles;
use trimtab::ports::names::Processes;
use trimtab::reconcile::Subsystem;
use trimtab::reconcile::report::ObjectReport;
use trimtab::subsystems::allocatable::{Allocatable, AllocatablePorts};
use trimtab_domain::allocatable::step::AllocatableStep;
use trimtab_domain::plan::{Plan, Refusal};
use trimtab_domain::record::Record;
use trimtab_domain::spec::resource_managers::ConfinementSpec;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};

use crate::laws::{Fixture, Pass, dry_run, pass, prove_five_laws, texts};
use crate::support::fake_cgroups::{Shape, make_topology};
use crate::support::fake_host::{Contents, FakeHost};
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_units::FakeUnits;

const V2: &str = "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const V1: &str = "30 1 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
31 1 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 1 0:3 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 1 0:4 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
34 1 0:5 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb\n";
const GIB: u64 = 1 << 30;

/// A node of 8 CPUs and 32 GiB with the subsystem on it.
struct Node {
    host: FakeHost,
    units: FakeUnits,
    ledger: FakeLedger,
    subsystem: Allocatable,
}

impl Node {
    /// Version 2, cgroupfs names, no kubelet, no systemd.
    fn v2() -> Self {
        let node = Self::with_mounts(V2);
        node.host.file("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n");
        for cgroup in ["kubepods", "system", "kube"] {
            node.cgroup_v2(cgroup);
        }
        node
    }

    /// Version 1, each controller by itself.
    fn v1() -> Self {
        let node = Self::with_mounts(V1);
        for cgroup in ["kubepods", "system", "kube"] {
            let file = |controller: &str, file: &str, text: &str| {
                node.host.file(format!("/sys/fs/cgroup/{controller}/{cgroup}/{file}"), format!("{text}\n"));
            };
            file("cpu", "cpu.shares", "1024");
            file("memory", "memory.limit_in_bytes", "9223372036854771712");
            file("memory", "memory.usage_in_bytes", &(GIB / 2).to_string());
            file("pids", "pids.max", "max");
            file("pids", "pids.current", "100");
            file("cpuset", "cpuset.cpus", "0-7");
            file("hugetlb", "hugetlb.2MB.limit_in_bytes", "9223372036854771712");
            file("hugetlb", "hugetlb.2MB.usage_in_bytes", "0");
        }
        node
    }

    fn with_mounts(mountinfo: &str) -> Self {
        let host = FakeHost::new();
        make_topology(&host, Shape { nodes: 2, cores_per_node: 2, threads: 2 });
        host.file("/proc/1/mountinfo", mountinfo);
        host.file("/proc/sys/kernel/pid_max", "4194304\n").file("/proc/sys/kernel/threads-max", "120000\n");
        host.file("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
        let (units, ledger) = (FakeUnits::absent(&host), FakeLedger::new());
        let subsystem = subsystem(&host, &units, &ledger);
        Self { host, units, ledger, subsystem }
    }

    fn cgroup_v2(&self, cgroup: &str) {
        for (file, text) in [
            ("cpu.weight", "100"),
            ("memory.max", "max"),
            ("memory.current", "536870912"),
            ("pids.max", "max"),
            ("pids.current", "100"),
            ("hugetlb.2MB.max", "max"),
            ("hugetlb.2MB.current", "0"),
            ("cpuset.cpus", ""),
        ] {
            self.host.file(format!("/sys/fs/cgroup/{cgroup}/{file}"), format!("{text}\n"));
        }
    }

    async fn pass(&self, spec: &ResourceManagersSpec) -> Pass<AllocatableStep> {
        pass(&self.subsystem, &whole(spec)).await
    }

    /// A pass after which nothing is left to do.
    async fn settle(&self, spec: &ResourceManagersSpec) -> Pass<AllocatableStep> {
        let pass = self.pass(spec).await;
        let failures: Vec<&String> = pass.failures.iter().map(|(_, cause)| cause).collect();
        assert!(failures.is_empty() && pass.left.is_empty(), "failures {failures:?}, left {:?}", texts(&pass.left));
        pass
    }

    async fn plan(&self, spec: &ResourceManagersSpec) -> Plan<AllocatableStep> {
        dry_run(&self.subsystem, &whole(spec)).await
    }

    async fn objects(&self, spec: &ResourceManagersSpec) -> Vec<ObjectReport> {
        let desired = Some(spec.clone());
        Allocatable::objects(&desired, &self.subsystem.observe(&desired).await.unwrap())
    }

    fn shows(&self, path: &str) -> String {
        self.host.text(path).unwrap_or_else(|| panic!("{path} is absent"))
    }
}

fn subsystem(host: &FakeHost, units: &FakeUnits, ledger: &FakeLedger) -> Allocatable {
    let files: Arc<dyn HostFiles> = Arc::new(host.clone());
    let processes: Arc<dyn Processes> = Arc::new(ProcessTable::new(Arc::clone(&files)));
    let tree = Arc::new(CgroupFs::new(Arc::clone(&files), "/").unwrap());
    Allocatable::new(AllocatablePorts {
        hierarchies: Arc::<CgroupFs>::clone(&tree),
        tree,
        machine: Arc::new(SysfsTopology::new(Arc::clone(&files))),
        kubelet: Arc::new(KubeletFiles::new(Arc::clone(&files), Arc::clone(&processes))),
        processes,
        units: Arc::new(units.clone()),
        ledger: Arc::new(ledger.clone()),
        files,
    })
}

fn whole(spec: &ResourceManagersSpec) -> NodeSpec {
    NodeSpec { resource_managers: Some(spec.clone()), ..NodeSpec::default() }
}

/// Reservations of both kinds, each in a cgroup of its own.
fn reserving(enforce: &[&str]) -> ResourceManagersSpec {
    let map = |amounts: &[(&str, &str)]| amounts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    ResourceManagersSpec {
        kube_reserved: map(&[("cpu", "1"), ("memory", "2Gi"), ("pid", "1000")]),
        system_reserved: map(&[("cpu", "500m"), ("memory", "1Gi")]),
        eviction_hard: map(&[("memory.available", "500Mi"), ("nodefs.available", "10%")]),
        kube_reserved_cgroup: "/kube".into(),
        system_reserved_cgroup: "/system".into(),
        enforce_node_allocatable: enforce.iter().map(|&word| word.to_owned()).collect(),
        ..ResourceManagersSpec::default()
    }
}

fn confining(cgroups: &[&str]) -> ResourceManagersSpec {
    ResourceManagersSpec {
        reserved_system_cpus: "0,4".into(),
        confinement: ConfinementSpec {
            cgroups: cgroups.iter().map(|&name| name.to_owned()).collect(),
            ..ConfinementSpec::default()
        },
        ..ResourceManagersSpec::default()
    }
}

fn causes(refusals: &[Refusal]) -> Vec<(&str, &str)> {
    refusals.iter().map(|refusal| (refusal.object.as_str(), refusal.cause.as_str())).collect()
}

/// The steps that change the node.
fn changes(plan: &Plan<AllocatableStep>) -> Vec<String> {
    texts(plan).into_iter().filter(|text| !text.starts_with("ledger")).collect()
}

struct Lawful {
    node: Node,
    drifting: &'static str,
    broken: (&'static str, &'static str),
}

impl Fixture for Lawful {
    type Sub = Allocatable;
    type State = (Contents, BTreeMap<(String, String), Record>);

    fn subsystem(&self) -> &Allocatable {
        &self.node.subsystem
    }

    fn spec(&self) -> NodeSpec {
        let mut spec = reserving(&["pods", "kube-reserved", "system-reserved"]);
        spec.confinement.cgroups.clear();
        whole(&spec)
    }

    fn state(&self) -> Self::State {
        (self.node.host.snapshot(), self.node.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.node.host.attempts())
    }

    fn drift(&self) {
        self.node.host.write_by_other(self.drifting, "77");
    }

    fn break_one(&self) -> Option<String> {
        self.node.host.fail_writes(self.broken.0, Errno::EIO, 100);
        Some(self.broken.1.to_owned())
    }

    fn repair(&self) {
        self.node.host.repair();
    }
}

#[tokio::test(start_paused = true)]
async fn the_five_laws_hold_on_version_2() {
    prove_five_laws(|| Lawful {
        node: Node::v2(),
        drifting: "/sys/fs/cgroup/system/cpu.weight",
        broken: ("/sys/fs/cgroup/kube/memory.max", "kube/memory.max"),
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_five_laws_hold_on_version_1() {
    prove_five_laws(|| Lawful {
        node: Node::v1(),
        drifting: "/sys/fs/cgroup/cpu/system/cpu.shares",
        broken: ("/sys/fs/cgroup/pids/kube/pids.max", "kube/pids.max"),
    })
    .await;
}

#[tokio::test]
async fn reserved_cgroups_and_pods_get_what_the_kubelet_would_write() {
    let node = Node::v2();
    let pass = node.settle(&reserving(&["pods", "kube-reserved", "system-reserved"])).await;
    assert_eq!(
        changes(&pass.plan),
        [
            "kube/cpu.weight: 100 -> 39",
            "kube/memory.max: max -> 2147483648",
            "kube/pids.max: max -> 1000",
            "kube/hugetlb.2MB.max: max -> 0",
            "system/cpu.weight: 100 -> 20",
            "system/memory.max: max -> 1073741824",
            "system/hugetlb.2MB.max: max -> 0",
            "kubepods/cpu.weight: 100 -> 254",
            "kubepods/memory.max: max -> 31138512896",
            "kubepods/pids.max: max -> 119000",
            "kubepods/hugetlb.2MB.max: max -> 1073741824",
        ]
    );
    let codes: Vec<(&str, &str)> =
        pass.left.findings.iter().map(|finding| (finding.code, finding.object.as_str())).collect();
    let low = "reservation-lowers-weight";
    assert_eq!(codes, [(low, "kube/cpu.weight"), (low, "system/cpu.weight")]);
}

#[tokio::test]
async fn the_compressible_form_bounds_cpu_alone() {
    let node = Node::v1();
    let pass = node.settle(&reserving(&["kube-reserved-compressible", "system-reserved-compressible"])).await;
    assert_eq!(changes(&pass.plan), ["kube/cpu.shares: 1024 -> 1024", "system/cpu.shares: 1024 -> 512"][1..]);
    let none = node.settle(&reserving(&["none"])).await;
    assert_eq!(changes(&none.plan), ["system/cpu.shares: 512 -> 1024 (given back)"]);
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn the_report_shows_the_table_whatever_is_enforced() {
    let node = Node::v2();
    let objects = node.objects(&reserving(&[])).await;
    let shown: Vec<(&str, &str)> =
        objects.iter().map(|object| (object.object.as_str(), object.observed.as_deref().unwrap())).collect();
    assert_eq!(
        shown,
        [
            ("allocatable cpu", "6500m"),
            ("allocatable hugepages-2Mi", "1Gi"),
            ("allocatable memory", "28172Mi"),
            ("allocatable pid", "119k"),
        ]
    );
    let memory = objects.iter().find(|object| object.object == "allocatable memory").unwrap();
    assert_eq!(
        memory.attributes,
        [
            ("capacity", "32Gi".to_owned()),
            ("kube reserved", "2Gi".to_owned()),
            ("system reserved", "1Gi".to_owned()),
            ("eviction", "500Mi".to_owned()),
            ("huge pages", "1Gi".to_owned()),
            ("pods' cgroup", "29Gi".to_owned()),
        ]
    );
    assert!(node.plan(&reserving(&[])).await.is_empty(), "nothing is enforced that the profile does not name");
}

#[tokio::test]
async fn cgroups_of_the_system_are_held_on_the_reserved_cpus() {
    for (node, file, original) in [
        (Node::v2(), "/sys/fs/cgroup/system/cpuset.cpus", ""),
        (Node::v1(), "/sys/fs/cgroup/cpuset/system/cpuset.cpus", "0-7"),
    ] {
        node.settle(&confining(&["/system"])).await;
        assert_eq!(node.shows(file), "0,4");
        node.host.write_by_other(file, "0-7");
        let healed = node.settle(&confining(&["system"])).await;
        assert_eq!(changes(&healed.plan), ["system/cpuset.cpus: 0-7 -> 0,4"]);
        node.settle(&confining(&[])).await;
        assert_eq!(node.shows(file), original);
    }
}

#[tokio::test]
async fn a_populated_set_of_version_2_is_given_back_as_the_whole_of_its_parent() {
    let node = Node::v2();
    let file = "/sys/fs/cgroup/system/cpuset.cpus";
    node.host.file("/sys/fs/cgroup/cpuset.cpus.effective", "0-7\n");
    node.host.on_write(file, |text, _| if text.trim().is_empty() { Err(Errno::ENOSPC) } else { Ok(text.to_owned()) });
    node.settle(&confining(&["system"])).await;
    node.settle(&confining(&[])).await;
    assert_eq!((node.shows(file).as_str(), node.ledger.snapshot().len()), ("0-7", 0));
}
