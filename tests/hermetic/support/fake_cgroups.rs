//! A node with pods in a cgroup tree, in memory. What it models, and why:
//!
//! - both versions and both drivers, with the kernel's rules for `cpuset` (measured on Linux 6.1 and 6.18): subset rules
//!   and their errors on version 1, effective sets that are recomputed below every write on version 2, `ENOSPC` for an
//!   empty list while processes run;
//! - limits in the files of the other controllers, on version 1 in other hierarchies: requests are read from them;
//! - a sandbox in every pod, which must not be pinned;
//! - the topology in sysfs, and names in the log directories.

mod kernel;
mod machine;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use trimtab::adapters::cgroup_fs::CgroupFs;
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::pod_names::LogNames;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::thread_masks::ProcThreads;
use trimtab::adapters::topology_sysfs::SysfsTopology;
use trimtab::ports::HostFiles;
use trimtab::ports::names::Processes;
use trimtab::subsystems::pinning::PinningPorts;
use trimtab_domain::cgroup::{CgroupRoot, Version, milli_to_quota, milli_to_shares, shares_to_weight_new};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::{PodUid, QosClass};

use self::kernel::{children, effective_name, set_of, write_v2};
pub(crate) use self::machine::{Shape, make_topology};
use super::fake_host::{Contents, FakeHost};
use super::fake_ledger::FakeLedger;

/// What a container asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) milli: u64,
    pub(crate) memory: Option<u64>,
}

impl Ask {
    pub(crate) const fn cpus(count: u64) -> Self {
        Self { milli: count * 1000, memory: Some(1 << 30) }
    }
}

/// The node.
#[derive(Clone)]
pub(crate) struct FakeCgroups {
    pub(crate) host: FakeHost,
    pub(crate) ledger: FakeLedger,
    version: Version,
    driver: CgroupDriver,
    shape: Shape,
}

const SHARES_OF_NOBODY: u64 = 2;

impl FakeCgroups {
    /// An empty node: directories of all pods and of the classes, no pod.
    pub(crate) fn new(version: Version, driver: CgroupDriver, shape: Shape) -> Self {
        let node = Self { host: FakeHost::new(), ledger: FakeLedger::new(), version, driver, shape };
        node.make_mounts();
        make_topology(&node.host, shape);
        node.make_cgroup("");
        let layout = CgroupRoot::default().layout(driver).unwrap();
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            node.make_cgroup(&layout.class_directory(qos));
        }
        node
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The adapters, on this node.
    pub(crate) fn ports(&self) -> PinningPorts {
        let host: Arc<dyn HostFiles> = Arc::new(self.host.clone());
        let processes: Arc<dyn Processes> = Arc::new(ProcessTable::new(Arc::clone(&host)));
        PinningPorts {
            tree: Arc::new(CgroupFs::new(Arc::clone(&host), "/").unwrap()),
            machine: Arc::new(SysfsTopology::new(Arc::clone(&host))),
            kubelet: Arc::new(KubeletFiles::new(Arc::clone(&host), processes)),
            names: Arc::new(LogNames::new(Arc::clone(&host))),
            threads: Arc::new(ProcThreads::new(host)),
            runtime: None,
            units: None,
            ledger: Arc::new(self.ledger.clone()),
        }
    }

    /// A pod with its sandbox; returns its directory.
    pub(crate) fn pod(&self, qos: QosClass, uid: &str) -> String {
        let layout = CgroupRoot::default().layout(self.driver).unwrap();
        let path = layout.pod_directory(qos, &PodUid(uid.into()));
        self.make_cgroup(&path);
        let sandbox = self.make_leaf(&path, &id(uid, 0), Ask { milli: 0, memory: None }, qos);
        let pid = self.run(&sandbox);
        self.host.file(format!("/proc/{pid}/comm"), "pause\n");
        path
    }

    /// A container with one process, and its names; returns its directory.
    pub(crate) fn container(&self, pod: &str, qos: QosClass, number: u32, ask: Ask) -> String {
        let uid = self.uid_of(pod, qos);
        let path = self.make_leaf(pod, &id(&uid, number), ask, qos);
        let pid = self.run(&path);
        self.host.file(format!("/proc/{pid}/comm"), "server\n");
        self.host.link(
            format!("/var/log/containers/pod-{uid}_shop_c{number}-{}.log", id(&uid, number)),
            format!("/var/log/pods/shop_pod-{uid}_{uid}/c{number}/0.log"),
        );
        self.host.directory(format!("/var/log/pods/shop_pod-{uid}_{uid}/c{number}"));
        path
    }

    /// A container of this id with one process; without a name it has no links to its logs. Returns its directory.
    pub(crate) fn leaf(&self, pod: &str, (id, name): (&str, Option<&str>), ask: Ask, qos: QosClass) -> String {
        let path = self.make_leaf(pod, id, ask, qos);
        if let Some(name) = name {
            let uid = self.uid_of(pod, qos);
            self.host.link(
                format!("/var/log/containers/pod-{uid}_shop_{name}-{id}.log"),
                format!("/var/log/pods/shop_pod-{uid}_{uid}/{name}/0.log"),
            );
            self.host.directory(format!("/var/log/pods/shop_pod-{uid}_{uid}/{name}"));
        }
        let pid = self.run(&path);
        self.host.file(format!("/proc/{pid}/comm"), "server\n");
        path
    }

    /// The shortest form: a pod with one container.
    pub(crate) fn simple(&self, qos: QosClass, uid: &str, ask: Ask) -> String {
        let pod = self.pod(qos, uid);
        self.container(&pod, qos, 1, ask)
    }

    /// The kubelet bounds the CPU time of a pod.
    pub(crate) fn bound_pod(&self, pod: &str, milli: u64) {
        let (file, text) = self.quota_text(milli_to_quota(milli, 100_000));
        self.make_quota(pod, file, &text);
        if self.version == Version::V1 {
            self.host.file(self.file_of(pod, "cpu.cfs_period_us"), "100000\n");
        }
    }

    /// File and text of a bound of CPU time; `None`: no bound.
    pub(crate) fn quota_text(&self, quota_us: Option<u64>) -> (&'static str, String) {
        let text = |none: &str| quota_us.map_or(none.to_owned(), |quota| quota.to_string());
        match self.version {
            Version::V1 => ("cpu.cfs_quota_us", text("-1")),
            Version::V2 => ("cpu.max", format!("{} 100000", text("max"))),
        }
    }

    /// Text of the bound of CPU time.
    pub(crate) fn bound(&self, path: &str) -> String {
        self.host.text(self.file_of(path, self.quota_text(None).0)).unwrap()
    }

    /// One more thread of a process of a container.
    pub(crate) fn thread(&self, container: &str, thread: u32, cpus: &str) {
        let pid = pid_of(container);
        self.host.file(format!("/proc/{pid}/task/{thread}/status"), format!("Name:\tx\nCpus_allowed_list:\t{cpus}\n"));
    }

    /// The cgroup with this name, or of the container with this id.
    pub(crate) fn path_of(&self, name: &str) -> Option<String> {
        let mount = Path::new(self.mounts()[0]);
        let found = self.host.snapshot().into_keys().find_map(|path| {
            let cgroup = path.parent().filter(|_| path.ends_with("cpuset.cpus"))?;
            let own = cgroup.file_name()?.to_string_lossy().into_owned();
            (own == name || own.contains(name)).then(|| cgroup.strip_prefix(mount).unwrap().to_owned())
        });
        found.map(|path| path.to_string_lossy().into_owned())
    }

    /// A CPU goes offline: version 1 takes it out of every set for good, version 2 out of what is in force.
    pub(crate) fn offline(&self, cpu: u32) {
        self.set_online(cpu, false);
    }

    /// It comes back; only the root of version 1 and the effective sets of version 2 see it again.
    pub(crate) fn online(&self, cpu: u32) {
        self.set_online(cpu, true);
    }

    fn set_online(&self, cpu: u32, online: bool) {
        let list = Path::new("/sys/devices/system/cpu/online");
        let mut now = CpuSet::parse(&self.host.text(list).unwrap()).unwrap();
        if online {
            now.insert(cpu)
        } else {
            now.remove(cpu)
        };
        self.host.file(list, format!("{now}\n"));
        let root = self.cpuset_file("", "cpuset.cpus").parent().unwrap().to_owned();
        let root_file = root.join(if self.version == Version::V1 { "cpuset.cpus" } else { "cpuset.cpus.effective" });
        for (path, text) in self.host.snapshot() {
            if self.version == Version::V1
                && path.starts_with(&root)
                && (path.ends_with("cpuset.cpus") || path.ends_with("cpuset.effective_cpus"))
            {
                let set = CpuSet::parse(text.trim()).unwrap().intersection(&now);
                self.host.file(&path, format!("{set}\n"));
            }
        }
        self.host.file(&root_file, format!("{now}\n"));
        if self.version == Version::V1 {
            self.host.file(root.join("cpuset.effective_cpus"), format!("{now}\n"));
        } else {
            let mut contents = self.host.snapshot();
            for child in children(&contents, &root, "cpuset.cpus.effective") {
                let configured = set_of(&contents, &child.join("cpuset.cpus")).unwrap_or_default();
                write_v2(&mut contents, &child, "cpus", &configured);
            }
            for (path, text) in contents {
                if path.to_string_lossy().ends_with("cpuset.cpus.effective") {
                    self.host.file(path, text);
                }
            }
        }
    }

    /// A pod or container goes away.
    pub(crate) fn vanish(&self, path: &str) {
        for mount in self.mounts() {
            self.host.vanish(Path::new(mount).join(path));
        }
    }

    /// Every process ends; the cgroups stay.
    pub(crate) fn stop_processes(&self) {
        for path in self.host.snapshot().into_keys() {
            if path.file_name().is_some_and(|name| name == "cgroup.procs") {
                self.host.file(path, "");
            }
        }
    }

    /// A cgroup that the container's own processes made.
    pub(crate) fn make_inner(&self, container: &str, name: &str) -> String {
        let path = format!("{container}/{name}");
        self.make_cgroup(&path);
        path
    }

    /// Text of a file of the controller `cpuset`.
    pub(crate) fn cpuset(&self, path: &str, file: &str) -> String {
        self.host.text(self.cpuset_file(path, file)).unwrap()
    }

    /// What is in force.
    pub(crate) fn effective(&self, path: &str) -> CpuSet {
        let file = if self.version == Version::V1 { "cpuset.effective_cpus" } else { "cpuset.cpus.effective" };
        CpuSet::parse(&self.cpuset(path, file)).unwrap()
    }

    pub(crate) fn cpuset_file(&self, path: &str, file: &str) -> PathBuf {
        Path::new(self.mounts()[0]).join(path).join(file)
    }

    /// Another program writes.
    pub(crate) fn drift(&self, path: &str, file: &str, text: &str) {
        self.host.write_by_other(self.file_of(path, file), text);
    }

    /// A file, in the hierarchy of its controller.
    fn file_of(&self, path: &str, file: &str) -> PathBuf {
        let mounts = self.mounts();
        let mount = if file.starts_with("cpu.") { mounts.get(1).unwrap_or(&mounts[0]) } else { &mounts[0] };
        Path::new(mount).join(path).join(file)
    }

    /// Every cpuset file of the tree, to compare before with after.
    pub(crate) fn cpusets(&self) -> Contents {
        let mut contents = self.host.snapshot();
        contents.retain(|path, _| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cpuset.")));
        contents
    }

    /// The same with the bounds of CPU time.
    pub(crate) fn controls(&self) -> Contents {
        let mut contents = self.host.snapshot();
        contents.retain(|path, _| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("cpuset.") || name == "cpu.max" || name == "cpu.cfs_quota_us"
        });
        contents
    }

    fn uid_of(&self, pod: &str, qos: QosClass) -> String {
        let layout = CgroupRoot::default().layout(self.driver).unwrap();
        layout.parse_pod(qos, pod.rsplit('/').next().unwrap()).unwrap().0
    }

    /// Mount points: of `cpuset` first, then of the other controllers.
    fn mounts(&self) -> &'static [&'static str] {
        match self.version {
            Version::V1 => &["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"],
            Version::V2 => &["/sys/fs/cgroup"],
        }
    }

    fn make_mounts(&self) {
        let text = match self.version {
            Version::V1 => {
                "30 1 0:1 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
31 1 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 1 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            }
            Version::V2 => "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        };
        self.host.file("/proc/1/mountinfo", text);
    }

    fn make_leaf(&self, pod: &str, id: &str, ask: Ask, qos: QosClass) -> String {
        let name = if self.driver == CgroupDriver::Systemd { format!("cri-containerd-{id}.scope") } else { id.into() };
        let path = format!("{pod}/{name}");
        self.make_cgroup(&path);
        self.set_bounds(&path, ask, qos);
        path
    }

    /// The limits of a container, as its runtime writes them.
    pub(crate) fn set_bounds(&self, path: &str, ask: Ask, qos: QosClass) {
        let shares = if ask.milli == 0 { SHARES_OF_NOBODY } else { milli_to_shares(ask.milli) };
        let limited = qos == QosClass::Guaranteed && ask.milli > 0;
        let quota = if limited { milli_to_quota(ask.milli, 100_000) } else { None };
        let write = |mount: usize, file: &str, text: String| {
            let mounts = self.mounts();
            let mount = mounts.get(mount).copied().unwrap_or(mounts[0]);
            self.host.file(Path::new(mount).join(path).join(file), text + "\n");
        };
        let (file, text) = self.quota_text(quota);
        self.make_quota(path, file, &text);
        match self.version {
            Version::V1 => {
                write(1, "cpu.shares", shares.to_string());
                write(1, "cpu.cfs_period_us", "100000".into());
                let unlimited = 9_223_372_036_854_771_712;
                write(2, "memory.limit_in_bytes", ask.memory.unwrap_or(unlimited).to_string());
            }
            Version::V2 => {
                write(0, "cpu.weight", shares_to_weight_new(shares).to_string());
                write(0, "memory.max", ask.memory.map_or("max".into(), |bytes| bytes.to_string()));
            }
        }
    }

    /// A bound of CPU time.
    fn make_quota(&self, path: &str, file: &'static str, text: &str) {
        let target = self.file_of(path, file);
        self.host.file(&target, format!("{text}\n"));
        match file {
            "cpu.max" => self.host.on_write(target, |text, _| kernel::quota_v2(text)),
            _ => {
                let directory = target.parent().unwrap().to_owned();
                self.host.on_write(target, move |text, contents| kernel::quota_v1(contents, &directory, file, text))
            }
        };
    }

    /// A process in the cgroup; its number is derived from the path.
    fn run(&self, path: &str) -> u32 {
        let pid = pid_of(path);
        self.host.file(format!("/proc/{pid}/cgroup"), format!("0::/{path}\n"));
        self.host.file(self.cpuset_file(path, "cgroup.procs"), format!("{pid}\n"));
        pid
    }

    /// A cgroup as a runtime makes it: on version 1 it copies the sets of its parent.
    fn make_cgroup(&self, path: &str) {
        let all = CpuSet::range(0, self.shape.cpus() - 1).to_string();
        let nodes = CpuSet::range(0, self.shape.nodes - 1).to_string();
        for mount in self.mounts() {
            self.host.directory(Path::new(mount).join(path));
        }
        let parent = path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        let inherited = |file: &str, otherwise: &str| match (&parent, path.is_empty()) {
            (_, true) => otherwise.to_owned(),
            (Some(parent), _) => self.cpuset(parent, file),
            (None, _) => self.cpuset("", file),
        };
        for (kind, all) in [("cpus", &all), ("mems", &nodes)] {
            let configured = format!("cpuset.{kind}");
            let effective = effective_name(self.version, kind);
            let shown = match self.version {
                Version::V1 => inherited(&configured, all),
                Version::V2 => String::new(),
            };
            let granted = inherited(&effective, all);
            self.host.file(self.cpuset_file(path, &effective), granted + "\n");
            // The root of version 2 has no such file.
            if self.version == Version::V1 || !path.is_empty() {
                self.host.file(self.cpuset_file(path, &configured), shown + "\n");
                self.install(path, kind, CpuSet::parse(all).unwrap());
            }
        }
        self.host.file(self.cpuset_file(path, "cgroup.procs"), "");
    }

    fn install(&self, path: &str, kind: &'static str, all: CpuSet) {
        let file = self.cpuset_file(path, &format!("cpuset.{kind}"));
        let directory = file.parent().unwrap().to_owned();
        let version = self.version;
        self.host.on_write(file, move |text, contents| {
            kernel::write_set(contents, (version, kind), &directory, (text, &all))
        });
    }
}

/// A container id: 64 hexadecimal digits.
pub(crate) fn id(uid: &str, number: u32) -> String {
    let hash =
        uid.bytes().fold(u64::from(number) + 1, |sum, byte| sum.wrapping_mul(1_099_511_628_211) ^ u64::from(byte));
    format!("{hash:016x}{number:048x}")
}

fn pid_of(path: &str) -> u32 {
    1000 + path.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 1_000_000
}
