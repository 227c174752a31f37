//! Reads everything that a plan over the bounds is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use trimtab_domain::allocatable::interrupt::Interrupt;
use trimtab_domain::allocatable::knob::Knob;
use trimtab_domain::allocatable::observation::{Bound, Facts, Observation};
use trimtab_domain::allocatable::wishes::wishes;
use trimtab_domain::cgroup::tree::hugepage_resource;
use trimtab_domain::cgroup::{Hierarchy, Version, running_driver};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::kernel_file::Shown;
use trimtab_domain::quantity::Quantity;
use trimtab_domain::record::Record;
use trimtab_domain::reservation::Capacity;
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::ResourceName;

use super::{Allocatable, Observed};
use crate::ports::kubelet::KubeletSettings;
use crate::ports::machine::Hardware;
use crate::ports::shown::read_shown;
use crate::reconcile::{Error, Subsystem};

/// Controllers that bounds belong to.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "hugetlb", "cpuset"];
/// Where the kernel shows each interrupt.
const INTERRUPTS: &str = "/proc/irq";
/// The kernel's own bounds of tasks; the smaller one counts (kubelet `cadvisor`, `pid_limits`).
const TASK_BOUNDS: [&str; 2] = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];

/// Hierarchies by controller.
type Mounted = BTreeMap<String, Hierarchy>;

impl Allocatable {
    pub(super) async fn look(&self, desired: Option<&ResourceManagersSpec>) -> Result<Observed, Error> {
        let records = self.ports.ledger.records(Self::NAME);
        let mounted = self.mounted()?;
        let mut facts = self.facts(desired, &records, &mounted)?;
        let wished = wishes(desired, &facts);
        let v2 = facts.versions.get("cpuset").copied().unwrap_or(Version::V2);
        let recorded = records.iter().filter_map(|record| Knob::parse(&record.object, v2));
        let knobs: BTreeSet<Knob> = wished.bounds.into_iter().map(|wish| wish.knob).chain(recorded).collect();
        // systemd is asked only where there is a unit to be bounded.
        let is_unit = |knob: &Knob| knob.unit().is_some() && knob.unit_property().is_some();
        facts.systemd = knobs.iter().any(is_unit) && self.ports.units.answers().await;
        let (mut bounds, mut paths) = (BTreeMap::new(), Vec::new());
        for knob in knobs {
            let bound = self.bound(&knob, &mounted)?;
            if let (Shown::Value(..), Some(path)) = (&bound.file, path_of(&knob, &mounted)) {
                paths.push(path);
            }
            bounds.insert(knob, bound);
        }
        let has_interrupts = records.iter().any(|record| Interrupt::parse(&record.object).is_some());
        let interrupts = if has_interrupts || wished.interrupt_cpus.is_some() {
            self.interrupts(&records)?
        } else {
            BTreeMap::new()
        };
        Ok(Observed { seen: Observation { facts, bounds, interrupts, records, rejections: BTreeMap::new() }, paths })
    }

    fn mounted(&self) -> Result<Mounted, Error> {
        let mut mounted = Mounted::new();
        for controller in CONTROLLERS {
            let found = self.ports.hierarchies.hierarchy(controller);
            let found = found.map_err(|error| Error::transient("cannot look at the cgroup hierarchies", error))?;
            mounted.extend(found.map(|hierarchy| (controller.to_owned(), hierarchy)));
        }
        // A hybrid node counts as version 1 for Kubernetes: nobody makes its cgroups in the unified hierarchy.
        if mounted.values().any(|hierarchy| hierarchy.version == Version::V1) {
            mounted.retain(|_, hierarchy| hierarchy.version == Version::V1);
        }
        Ok(mounted)
    }

    fn facts(
        &self,
        desired: Option<&ResourceManagersSpec>,
        records: &[Record],
        mounted: &Mounted,
    ) -> Result<Facts, Error> {
        let versions = mounted.iter().map(|(name, hierarchy)| (name.clone(), hierarchy.version)).collect();
        let mut facts = Facts {
            driver: CgroupDriver::Cgroupfs,
            versions,
            pods_root: None,
            kubelet_runs: false,
            systemd: false,
            capacity: Capacity::default(),
            isolated: CpuSet::new(),
            page_sizes: BTreeSet::new(),
            irqbalance_runs: false,
        };
        if desired.is_none() && records.is_empty() {
            return Ok(facts);
        }
        let evidence = self.ports.tree.evidence();
        let evidence = evidence.map_err(|error| Error::transient("cannot look at the cgroup hierarchies", error))?;
        let kubelet = self.ports.kubelet.settings();
        let configured = kubelet.driver.as_ref().map(|configured| configured.driver);
        facts.driver = running_driver(&evidence.trees).or(configured).unwrap_or(CgroupDriver::Cgroupfs);
        let root = evidence.trees.iter().find(|tree| tree.driver == facts.driver);
        facts.pods_root = root.map(|tree| tree.root.clone());
        facts.kubelet_runs = kubelet.running;
        facts.irqbalance_runs = !self.ports.processes.command_lines("irqbalance").is_empty();
        let hardware = self.ports.machine.read();
        let hardware = hardware.map_err(|error| Error::transient("cannot read the topology", error))?;
        facts.isolated = hardware.isolated.clone();
        facts.page_sizes = page_sizes(&hardware);
        facts.capacity = self.capacity(&hardware, &kubelet);
        Ok(facts)
    }

    fn capacity(&self, hardware: &Hardware, kubelet: &KubeletSettings) -> Capacity {
        let online: CpuSet = hardware.cpus.iter().map(|info| info.cpu).collect();
        let mut capacity = Capacity { online, ..Capacity::default() };
        let count = |amount: u64| Quantity::from_count(i64::try_from(amount).unwrap_or(i64::MAX));
        let bytes = |amount: u64| Quantity::from_bytes(i64::try_from(amount).unwrap_or(i64::MAX));
        let mut put = |name: &str, amount: Quantity| capacity.amounts.insert(ResourceName::from(name), amount);
        put("cpu", count(u64::try_from(hardware.cpus.len()).unwrap_or(u64::MAX)));
        put("memory", bytes(hardware.memory_bytes));
        let number = |path: &str| self.ports.files.read(Path::new(path)).ok()??.trim().parse::<u64>().ok();
        if let Some(tasks) = TASK_BOUNDS.iter().filter_map(|path| number(path)).min() {
            put("pid", count(tasks));
        }
        let root = if kubelet.root_dir.is_empty() { "/var/lib/kubelet" } else { &kubelet.root_dir };
        // What cannot be told is left out of the table, as it is for a kubelet without statistics.
        if let Some(size) = self.ports.files.storage_bytes(Path::new(root)).ok().flatten() {
            put("ephemeral-storage", bytes(size));
        }
        for pages in hardware.nodes.iter().flat_map(|node| &node.hugepages) {
            let name = trimtab_domain::allocatable::knob::huge_page_name(pages.page_size_bytes);
            let Some(name) = hugepage_resource(&name) else { continue };
            let more = bytes(pages.count.saturating_mul(pages.page_size_bytes));
            let amount = capacity.amounts.entry(ResourceName::from(name.as_str())).or_insert(Quantity::from_bytes(0));
            *amount = amount.checked_add(&more).unwrap_or(*amount);
        }
        capacity
    }

    fn bound(&self, knob: &Knob, mounted: &Mounted) -> Result<Bound, Error> {
        let absent = Bound { has_cgroup: false, file: Shown::Absent, usage: None };
        let (Some(path), Some(hierarchy)) = (path_of(knob, mounted), mounted.get(knob.controller())) else {
            return Ok(absent);
        };
        let directory = Path::new(&hierarchy.mount).join(&knob.cgroup);
        let files = &*self.ports.files;
        let listed = files.list(&directory).map_err(|error| Error::transient("cannot look at a cgroup", error))?;
        if listed.is_none() {
            return Ok(absent);
        }
        let usage = knob.usage_file().and_then(|file| files.read(&directory.join(file)).ok()?);
        let usage = usage.and_then(|text| text.trim().parse().ok());
        Ok(Bound { has_cgroup: true, file: read_shown(files, &path), usage })
    }

    fn interrupts(&self, records: &[Record]) -> Result<BTreeMap<Interrupt, Shown>, Error> {
        let files = &*self.ports.files;
        let entries = files.list(Path::new(INTERRUPTS));
        let entries = entries.map_err(|error| Error::transient("cannot look at the interrupts", error))?;
        let numbers = entries.into_iter().flatten().filter(|entry| entry.is_directory);
        let numbers = numbers.filter_map(|entry| Some(Interrupt::Number(entry.name.parse().ok()?)));
        let recorded = records.iter().filter_map(|record| Interrupt::parse(&record.object));
        let all: BTreeSet<Interrupt> = numbers.chain(recorded).chain([Interrupt::Default]).collect();
        Ok(all.into_iter().map(|one| (one, read_shown(files, Path::new(&one.path())))).collect())
    }
}

/// Path of the file of a bound on the host; `None`: no hierarchy has the controller.
pub(super) fn path_of(knob: &Knob, mounted: &Mounted) -> Option<PathBuf> {
    let hierarchy = mounted.get(knob.controller())?;
    Some(Path::new(&hierarchy.mount).join(&knob.cgroup).join(knob.file()))
}

fn page_sizes(hardware: &Hardware) -> BTreeSet<u64> {
    hardware.nodes.iter().flat_map(|node| &node.hugepages).map(|pages| pages.page_size_bytes).collect()
}
