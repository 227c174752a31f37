//! The subsystem `allocatable` on the real cgroups of this machine, in temporary ones, and on a tree of interrupts that
//! only looks like the kernel's: the host's interrupts are never touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use trimtab::adapters::cgroup_fs::CgroupFs;
use trimtab::adapters::host_fs::HostFs;
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::systemd::Systemd;
use trimtab::adapters::topology_sysfs::SysfsTopology;
use trimtab::ports::HostFiles;
use trimtab::ports::names::Processes;
use trimtab::subsystems::allocatable::{Allocatable, AllocatablePorts};
use trimtab_domain::allocatable::interrupt::InterruptCpus;
use trimtab_domain::cgroup::{CgroupMounts, Version};
use trimtab_domain::record::Record;
use trimtab_domain::spec::resource_managers::ConfinementSpec;
use trimtab_domain::spec::{NodeSpec, ResourceManagersSpec};

use crate::laws::{Fixture, pass, prove_five_laws, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::namespace::cannot_run;

/// Controllers that are bounded here; huge pages are not: not every machine has the controller.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "cpuset"];

/// Two cgroups below one of its own in every hierarchy: one for Kubernetes, one for the system with a process in it.
struct Cgroups {
    name: String,
    directories: Vec<PathBuf>,
    files: BTreeMap<&'static str, (PathBuf, Version)>,
    process: Child,
    ledger: FakeLedger,
    subsystem: Allocatable,
}

impl Cgroups {
    /// `None` (with a word) where this machine does not let us.
    fn new(number: u32) -> Option<Self> {
        let mounts = CgroupMounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap()).unwrap();
        let name = format!("trimtab-allocatable-{}-{number}", std::process::id());
        let mut directories = Vec::new();
        let mut files = BTreeMap::new();
        for controller in CONTROLLERS {
            let Some(hierarchy) = mounts.hierarchy_of(controller) else {
                cannot_run(&format!("no cgroup hierarchy has the controller {controller}"));
                return None;
            };
            let top = Path::new(&hierarchy.mount).join(&name);
            for directory in [top.clone(), top.join("kube"), top.join("system")] {
                if fs::create_dir_all(&directory).is_err() {
                    cannot_run("no cgroup can be made (root is needed)");
                    return None;
                }
                if hierarchy.version == Version::V1 && controller == "cpuset" {
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        let above = fs::read_to_string(directory.parent().unwrap().join(file)).unwrap();
                        fs::write(directory.join(file), above.trim()).unwrap();
                    }
                }
                if hierarchy.version == Version::V2 && !directory.ends_with("kube") && !directory.ends_with("system") {
                    let control = directory.join("cgroup.subtree_control");
                    if fs::write(control, format!("+{controller}")).is_err() {
                        cannot_run("the cgroup controllers cannot be enabled");
                        return None;
                    }
                }
                directories.push(directory);
            }
            files.insert(controller, (top, hierarchy.version));
        }
        let process = Command::new("/bin/sleep").arg("3600").stdin(Stdio::null()).spawn().unwrap();
        for (top, _) in files.values() {
            fs::write(top.join("system/cgroup.procs"), process.id().to_string()).unwrap();
        }
        let ledger = FakeLedger::new();
        let subsystem = subsystem(Path::new("/"), &name, &ledger);
        Some(Self { name, directories, files, process, ledger, subsystem })
    }

    fn spec(&self) -> ResourceManagersSpec {
        let map = |amounts: &[(&str, &str)]| amounts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ResourceManagersSpec {
            kube_reserved: map(&[("cpu", "500m"), ("memory", "64Mi"), ("pid", "100")]),
            system_reserved: map(&[("cpu", "250m"), ("memory", "65537")]),
            kube_reserved_cgroup: format!("/{}/kube", self.name),
            system_reserved_cgroup: format!("/{}/system", self.name),
            enforce_node_allocatable: vec!["kube-reserved".into(), "system-reserved".into()],
            ..ResourceManagersSpec::default()
        }
    }

    /// Text of a file of the first of these names that exists.
    fn file(&self, controller: &str, cgroup: &str, names: [&str; 2]) -> PathBuf {
        let (top, version) = &self.files[controller];
        top.join(cgroup).join(names[usize::from(*version == Version::V2)])
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
        for directory in self.directories.iter().rev() {
            // The last process may take a moment to be gone for good; on version 2 the same directory comes up again.
            for _ in 0..1000 {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::yield_now(),
                    _ => break,
                }
            }
        }
    }
}

fn subsystem(root: &Path, cgroup_root: &str, ledger: &FakeLedger) -> Allocatable {
    let files: Arc<dyn HostFiles> = Arc::new(HostFs::new(root).unwrap());
    let processes: Arc<dyn Processes> = Arc::new(ProcessTable::new(Arc::clone(&files)));
    let tree = Arc::new(CgroupFs::new(Arc::clone(&files), &format!("/{cgroup_root}")).unwrap());
    Allocatable::new(AllocatablePorts {
        hierarchies: Arc::<CgroupFs>::clone(&tree),
        tree,
        machine: Arc::new(SysfsTopology::new(Arc::clone(&files))),
        kubelet: Arc::new(KubeletFiles::new(Arc::clone(&files), Arc::clone(&processes))),
        processes,
        units: Arc::new(Systemd::new(root)),
        ledger: Arc::new(ledger.clone()),
        files,
    })
}

fn whole(spec: &ResourceManagersSpec) -> NodeSpec {
    NodeSpec { resource_managers: Some(spec.clone()), ..NodeSpec::default() }
}

impl Fixture for Cgroups {
    type Sub = Allocatable;
    type State = (BTreeMap<PathBuf, String>, BTreeMap<(String, String), Record>);

    fn subsystem(&self) -> &Allocatable {
        &self.subsystem
    }

    fn spec(&self) -> NodeSpec {
        let mut spec = self.spec();
        // Bounds that the process in the system's cgroup is within, whatever the kernel charges it with.
        spec.system_reserved.insert("memory".into(), "64Mi".into());
        whole(&spec)
    }

    fn state(&self) -> Self::State {
        let names = ["cpu.shares", "cpu.weight", "memory.limit_in_bytes", "memory.max", "pids.max", "cpuset.cpus"];
        let files = self.directories.iter().flat_map(|directory| names.map(|name| directory.join(name)));
        let texts = files.filter_map(|file| Some((file.clone(), fs::read_to_string(&file).ok()?)));
        (texts.collect(), self.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        None
    }

    fn drift(&self) {
        fs::write(self.file("pids", "kube", ["pids.max", "pids.max"]), "77").unwrap();
    }

    /// Nothing here can be made to fail on purpose; the hermetic tests do.
    fn break_one(&self) -> Option<String> {
        None
    }

    fn repair(&self) {}
}

#[tokio::test]
async fn the_laws_hold_on_real_cgroups() {
    let number = std::sync::atomic::AtomicU32::new(0);
    let next = || number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // On a machine that does not let us this has been said, and with CI set it has failed.
    if Cgroups::new(next()).is_some() {
        prove_five_laws(|| Cgroups::new(next()).unwrap()).await;
    }
}

#[tokio::test]
async fn the_kernel_shows_what_was_reserved_and_a_bound_below_the_usage_is_refused() {
    let Some(node) = Cgroups::new(100) else { return };
    let mut spec = node.spec();
    let usage = node.file("memory", "system", ["memory.usage_in_bytes", "memory.current"]);
    // A process is charged for its pages from its move on, so one that moves there first fills a pipe and a file.
    let script = format!(
        "echo $$ > {}; seq 200000 | sort | tail -n 1",
        node.file("memory", "system", ["cgroup.procs"; 2]).display()
    );
    assert!(Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::null()).status().unwrap().success());
    let charged: u64 = fs::read_to_string(&usage).unwrap().trim().parse().unwrap();
    spec.system_reserved.insert("memory".into(), "4096".into());
    let pass = pass(&node.subsystem, &whole(&spec)).await;
    assert!(pass.failures.is_empty() && pass.left.is_empty(), "{:?} {:?}", pass.failures, texts(&pass.left));
    let shares = fs::read_to_string(node.file("cpu", "kube", ["cpu.shares", "cpu.weight"])).unwrap();
    assert!(["512", "20"].contains(&shares.trim()), "{shares}");
    let limit = fs::read_to_string(node.file("memory", "kube", ["memory.limit_in_bytes", "memory.max"])).unwrap();
    assert_eq!(limit.trim(), "67108864");
    let refused: Vec<&str> = pass.left.refusals.iter().map(|refusal| refusal.cause.as_str()).collect();
    assert!(charged > 4096, "{charged} bytes are charged");
    assert_eq!(refused, ["insufficient"], "{charged} bytes are charged");
}

#[tokio::test]
async fn the_system_moves_to_the_reserved_cpus_and_back() {
    let Some(node) = Cgroups::new(101) else { return };
    let allowed = || {
        let status = fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    let before = allowed();
    let spec = ResourceManagersSpec {
        reserved_system_cpus: "0".into(),
        confinement: ConfinementSpec { cgroups: vec![format!("{}/system", node.name)], ..ConfinementSpec::default() },
        ..ResourceManagersSpec::default()
    };
    let held = pass(&node.subsystem, &whole(&spec)).await;
    assert!(held.failures.is_empty() && held.left.is_empty(), "{:?}", held.failures);
    assert_eq!(allowed(), "0");
    let back = pass(&node.subsystem, &NodeSpec::default()).await;
    assert!(back.failures.is_empty() && back.left.is_empty(), "{:?}", back.failures);
    assert_eq!(allowed(), before);
}

#[tokio::test]
async fn interrupts_are_moved_on_a_tree_of_files() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for cpu in 0..4 {
        put(&format!("sys/devices/system/cpu/cpu{cpu}/topology/core_id"), &format!("{cpu}\n"));
        put(&format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"), "0\n");
    }
    put("sys/devices/system/cpu/online", "0-3\n");
    put("proc/meminfo", "MemTotal: 33554432 kB\n");
    put("proc/irq/default_smp_affinity", "f\n");
    put("proc/irq/24/smp_affinity_list", "0-3\n");
    put("proc/irq/25/smp_affinity_list", "0\n");
    let ledger = FakeLedger::new();
    let subsystem = subsystem(root.path(), "", &ledger);
    let spec = ResourceManagersSpec {
        reserved_system_cpus: "0-1".into(),
        confinement: ConfinementSpec { interrupts: InterruptCpus::Reserved, ..ConfinementSpec::default() },
        ..ResourceManagersSpec::default()
    };
    let held = pass(&subsystem, &whole(&spec)).await;
    assert!(held.failures.is_empty() && held.left.is_empty(), "{:?}", held.failures);
    let shows = |path: &str| fs::read_to_string(root.path().join(path)).unwrap().trim().to_owned();
    assert_eq!(shows("proc/irq/24/smp_affinity_list"), "0-1");
    assert_eq!(shows("proc/irq/25/smp_affinity_list"), "0");
    assert!(shows("proc/irq/default_smp_affinity").starts_with("00000003"));
}
