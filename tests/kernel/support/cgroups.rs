//! A temporary subtree of the machine's own cgroups, with real processes standing for containers.
//!
//! Made as a runtime makes it, in every hierarchy that pods need; removed with all its processes when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use trimtab::adapters::cgroup_fs::CgroupFs;
use trimtab::adapters::host_fs::HostFs;
use trimtab::adapters::kubelet_config::KubeletFiles;
use trimtab::adapters::pod_names::LogNames;
use trimtab::adapters::process_table::ProcessTable;
use trimtab::adapters::thread_masks::ProcThreads;
use trimtab::adapters::topology_sysfs::SysfsTopology;
use trimtab::ports::HostFiles;
use trimtab::subsystems::pinning::PinningPorts;
use trimtab_domain::cgroup::{CgroupMounts, Version};

use super::fake_ledger::FakeLedger;
use super::namespace::{CGROUP, cannot_run};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The subtree.
pub(crate) struct Subtree {
    name: String,
    number: u64,
    version: Version,
    /// Mount points, that of `cpuset` first.
    mounts: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    processes: BTreeMap<String, Child>,
    programs: tempfile::TempDir,
    /// Controllers that were enabled for this test in the root of version 2.
    enabled: Vec<&'static str>,
    pub(crate) ledger: FakeLedger,
}

impl Subtree {
    /// An empty tree of pods below a cgroup root of its own; `None` (with a word) where this machine does not let us.
    pub(crate) fn new() -> Option<Self> {
        let mounts = CgroupMounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap()).unwrap();
        let Some(cpuset) = mounts.hierarchy_of("cpuset") else {
            cannot_run("no cgroup hierarchy is mounted");
            return None;
        };
        let mut points = vec![PathBuf::from(&cpuset.mount)];
        for controller in ["cpu", "memory"] {
            let point = PathBuf::from(mounts.hierarchy_of(controller)?.mount);
            if !points.contains(&point) {
                points.push(point);
            }
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Inside a PID namespace our own number is not the only one of its kind.
        let name = std::env::var(CGROUP).unwrap_or_else(|_| format!("trimtab-test-{}-{number}", std::process::id()));
        let mut tree = Self {
            name,
            number: u64::from(std::process::id()) << 32 | u64::from(number),
            version: cpuset.version,
            mounts: points,
            directories: Vec::new(),
            processes: BTreeMap::new(),
            programs: tempfile::tempdir().unwrap(),
            enabled: Vec::new(),
            ledger: FakeLedger::new(),
        };
        if let Err(error) = tree.enable(Path::new("")) {
            cannot_run(&format!("the cgroup controllers cannot be enabled: {error}"));
            return None;
        }
        if fs::create_dir(tree.mounts[0].join(&tree.name)).is_err() {
            cannot_run("no cgroup can be made (root is needed)");
            return None;
        }
        fs::remove_dir(tree.mounts[0].join(&tree.name)).unwrap();
        for path in ["", "kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            tree.make(path);
        }
        Some(tree)
    }

    /// The adapters, with this subtree as the kubelet's cgroup root.
    pub(crate) fn ports(&self) -> PinningPorts {
        let host: Arc<dyn HostFiles> = Arc::new(HostFs::new(Path::new("/")).unwrap());
        let processes = Arc::new(ProcessTable::new(Arc::clone(&host)));
        PinningPorts {
            tree: Arc::new(CgroupFs::new(Arc::clone(&host), &format!("/{}", self.name)).unwrap()),
            machine: Arc::new(SysfsTopology::new(Arc::clone(&host))),
            kubelet: Arc::new(KubeletFiles::new(Arc::clone(&host), processes)),
            names: Arc::new(LogNames::new(Arc::clone(&host))),
            threads: Arc::new(ProcThreads::new(host)),
            runtime: None,
            units: None,
            ledger: Arc::new(self.ledger.clone()),
        }
    }

    /// A cgroup below the subtree, as a runtime makes it.
    pub(crate) fn make(&mut self, path: &str) {
        for mount in self.mounts.clone() {
            let directory = mount.join(&self.name).join(path);
            fs::create_dir(&directory).unwrap();
            if self.version == Version::V1 && mount == self.mounts[0] {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let parent = fs::read_to_string(directory.parent().unwrap().join(file)).unwrap();
                    fs::write(directory.join(file), parent.trim()).unwrap();
                }
            }
            self.directories.push(directory);
        }
        // Processes live in the leaves, so only directories hand controllers down.
        if self.version == Version::V2 && path.rsplit('/').next().is_none_or(|name| name.len() != 64) {
            self.enable(&Path::new(&self.name).join(path)).unwrap();
        }
    }

    fn enable(&mut self, path: &Path) -> std::io::Result<()> {
        if self.version == Version::V1 {
            return Ok(());
        }
        let file = self.mounts[0].join(path).join("cgroup.subtree_control");
        let now = fs::read_to_string(&file)?;
        for controller in ["cpuset", "cpu", "memory"] {
            if !now.split_whitespace().any(|known| known == controller) {
                fs::write(&file, format!("+{controller}"))?;
                if path.as_os_str().is_empty() {
                    self.enabled.push(controller);
                }
            }
        }
        Ok(())
    }

    /// A container with a process of this name (`pause` for a sandbox); returns its path below the subtree.
    pub(crate) fn container(&mut self, pod: &str, number: u32, program: &str, cpus: Option<u32>) -> String {
        // An id is nobody else's, in whichever test.
        let path = format!("{pod}/{:032x}{number:032x}", self.number);
        self.make(&path);
        match self.version {
            Version::V1 => {
                self.set("cpu.shares", &path, &cpus.map_or(2, |cpus| cpus * 1024).to_string());
                self.set("cpu.cfs_quota_us", &path, &cpus.map_or("-1".into(), |cpus| (cpus * 100_000).to_string()));
            }
            Version::V2 => {
                self.set("cpu.weight", &path, if cpus.is_some() { "100" } else { "1" });
                self.set("cpu.max", &path, &cpus.map_or("max".into(), |cpus| (cpus * 100_000).to_string()));
            }
        }
        let child = self.spawn(program);
        for mount in &self.mounts {
            fs::write(mount.join(&self.name).join(&path).join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        self.processes.insert(path.clone(), child);
        path
    }

    fn spawn(&self, program: &str) -> Child {
        let program = self.programs.path().join(program);
        if !program.exists() {
            // A link, not a copy: what another thread forks meanwhile may hold a copy open for writing (ETXTBSY).
            std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        }
        Command::new(program).arg("3600").stdin(Stdio::null()).spawn().unwrap()
    }

    /// A process in no cgroup of the subtree; ends with it.
    pub(crate) fn process(&mut self, program: &str) -> u32 {
        let child = self.spawn(program);
        let pid = child.id();
        self.processes.insert(format!("process {pid}"), child);
        pid
    }

    /// Puts a process into a cgroup of one hierarchy of version 1 alone.
    pub(crate) fn enter(&self, controller: &str, path: &str, pid: u32) {
        let target = self.find(path, &format!("{controller}.shares")).unwrap();
        fs::write(target.with_file_name("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Text of a file in whichever hierarchy has it.
    pub(crate) fn text(&self, file: &str, path: &str) -> String {
        fs::read_to_string(self.find(path, file).unwrap()).unwrap().trim().to_owned()
    }

    /// Writes a file, unless the kernel refuses.
    pub(crate) fn try_set(&self, file: &str, path: &str, text: &str) -> std::io::Result<()> {
        fs::write(self.find(path, file).unwrap(), text)
    }

    /// Writes a file in whichever hierarchy has it.
    pub(crate) fn set(&self, file: &str, path: &str, text: &str) {
        let target = self.find(path, file).unwrap_or_else(|| panic!("{path} has no {file}"));
        fs::write(&target, text).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
    }

    fn find(&self, path: &str, file: &str) -> Option<PathBuf> {
        self.mounts.iter().map(|mount| mount.join(&self.name).join(path).join(file)).find(|target| target.exists())
    }

    /// What the kernel lets the process of a container use, from `/proc/<pid>/status`.
    pub(crate) fn allowed(&self, path: &str) -> String {
        let pid = self.processes[path].id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    }

    /// Every configured set of the subtree, byte for byte.
    pub(crate) fn cpusets(&self) -> BTreeMap<PathBuf, String> {
        let files = self
            .directories
            .iter()
            .flat_map(|directory| ["cpuset.cpus", "cpuset.mems"].into_iter().map(move |file| directory.join(file)));
        files.filter_map(|file| Some((file.clone(), fs::read_to_string(&file).ok()?))).collect()
    }

    /// The process ends, and the runtime removes the cgroup.
    pub(crate) fn stop(&mut self, path: &str) {
        if let Some(mut child) = self.processes.remove(path) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let gone: Vec<PathBuf> = self.mounts.iter().map(|mount| mount.join(&self.name).join(path)).collect();
        for directory in self
            .directories
            .extract_if(.., |directory| gone.iter().any(|gone| directory.starts_with(gone)))
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            remove(directory);
        }
    }

    /// Name of the subtree, for a look whether it is gone.
    pub(crate) fn path(&self) -> PathBuf {
        self.mounts[0].join(&self.name)
    }

    /// The version of the hierarchy with the controller `cpuset`.
    pub(crate) fn version(&self) -> Version {
        self.version
    }
}

/// A cgroup can be removed once its last process is reaped, which the kernel finishes a moment after `wait`.
fn remove(directory: &Path) {
    for _ in 0..1000 {
        match fs::remove_dir(directory) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(_) => std::thread::yield_now(),
        }
    }
    eprintln!("{} could not be removed", directory.display());
}

impl Drop for Subtree {
    fn drop(&mut self) {
        if std::env::var_os(CGROUP).is_some() {
            // A runtime has processes here still; whoever gave us the name removes everything.
            return;
        }
        for child in self.processes.values_mut() {
            // Both fail only for a process that has ended.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
        for directory in self.directories.iter().rev() {
            remove(directory);
        }
        for controller in &self.enabled {
            // Another test may need it still, and then the kernel keeps it (EBUSY).
            let _kept = fs::write(self.mounts[0].join("cgroup.subtree_control"), format!("-{controller}"));
        }
    }
}
