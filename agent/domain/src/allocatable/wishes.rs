//! Which bounds a profile asks for on this node.

use super::interrupt::InterruptCpus;
use super::knob::{Control, Knob, huge_page_name};
use super::name::reserved_cgroup;
use super::observation::Facts;
use crate::cgroup::tree::hugepage_resource;
use crate::cgroup::{Version, milli_to_shares, shares_to_weight_old};
use crate::cpuset::CpuSet;
use crate::plan::{Cause, Refusal};
use crate::quantity::Quantity;
use crate::reservation::{AllocatableRow, allocatable, listed_cpus, pods_limit, reserved_amounts};
use crate::reserved_memory::ResourceList;
use crate::spec::ResourceManagersSpec;
use crate::workload::ResourceName;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// The table, in byte order of the resources; empty if it cannot be computed, and then a refusal says why.
    pub table: Vec<AllocatableRow>,
    /// Bounds to hold.
    pub bounds: Vec<Wish>,
    /// CPUs that interrupts are kept on; absent: they are left alone.
    pub interrupt_cpus: Option<CpuSet>,
    /// What cannot be had whatever the cgroups show.
    pub refusals: Vec<Refusal>,
}

/// One bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Of what.
    pub knob: Knob,
    /// The text to hold.
    pub value: String,
    /// Who asks for it.
    pub reason: Reason,
}

/// Why a bound is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `enforceNodeAllocatable` lists `pods`.
    Pods,
    /// It lists `kube-reserved` or its compressible form.
    KubeReserved,
    /// It lists `system-reserved` or its compressible form.
    SystemReserved,
    /// `extensions.confineSystem` lists the cgroup.
    Confined,
}

impl Reason {
    /// The words of the profile.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::KubeReserved => "kube-reserved",
            Self::SystemReserved => "system-reserved",
            Self::Confined => "confineSystem",
        }
    }
}

/// What of a reservation is enforced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Full,
    Compressible,
}

/// Works out what the profile asks of this node; without the section, nothing.
#[must_use]
pub fn wishes(spec: Option<&ResourceManagersSpec>, facts: &Facts) -> Wishes {
    let mut collector = Collector { facts, wishes: Wishes::default() };
    if let Some(spec) = spec {
        collector.bound(spec);
        collector.confine_all(spec);
    }
    collector.wishes
}

fn enforces(spec: &ResourceManagersSpec, word: &str) -> bool {
    spec.enforce_node_allocatable.iter().any(|known| known == word)
}

fn extent(spec: &ResourceManagersSpec, word: &str) -> Option<Extent> {
    if enforces(spec, word) {
        return Some(Extent::Full);
    }
    enforces(spec, &format!("{word}-compressible")).then_some(Extent::Compressible)
}

/// A cgroup to be bounded, and who asks for it.
#[derive(Clone, Copy)]
struct Place<'a> {
    cgroup: &'a str,
    reason: Reason,
}

struct Collector<'a> {
    facts: &'a Facts,
    wishes: Wishes,
}

impl Collector<'_> {
    fn bound(&mut self, spec: &ResourceManagersSpec) {
        let table = match allocatable(spec, &self.facts.capacity) {
            Ok(table) => table,
            Err(error) => {
                return self.refuse("node allocatable", "the reservations of the profile", error.to_string());
            }
        };
        // The table was computed from the same amounts, so they can be read.
        if let Ok((kube, system)) = reserved_amounts(spec, &self.facts.capacity) {
            self.bound_reserved(spec, Reason::KubeReserved, &kube);
            self.bound_reserved(spec, Reason::SystemReserved, &system);
        }
        if enforces(spec, "pods") {
            self.bound_pods(&table);
        }
        self.wishes.table = table;
    }

    fn confine_all(&mut self, spec: &ResourceManagersSpec) {
        let capacity = &self.facts.capacity;
        // Why there are none has been said already; nothing is kept on no CPUs at all.
        let reserved = listed_cpus(&spec.reserved_system_cpus, &capacity.online).unwrap_or_default();
        let allowed = match spec.confinement.interrupts {
            InterruptCpus::Any => None,
            InterruptCpus::Reserved => Some(reserved.clone()),
            InterruptCpus::NotIsolated => Some(capacity.online.difference(&self.facts.isolated)),
        };
        self.wishes.interrupt_cpus = allowed.filter(|cpus| !cpus.is_empty());
        for cgroup in spec.confinement.cgroups.iter().filter(|_| !reserved.is_empty()) {
            self.confine(cgroup, &reserved);
        }
    }

    /// Only what is reserved is bounded, but huge pages always: a reserved cgroup gets none (kubelet
    /// `cm/cgroup_manager_linux.go`).
    fn bound_reserved(&mut self, spec: &ResourceManagersSpec, reason: Reason, amounts: &ResourceList) {
        let Some(extent) = extent(spec, reason.as_str()) else { return };
        let value =
            if reason == Reason::KubeReserved { &spec.kube_reserved_cgroup } else { &spec.system_reserved_cgroup };
        let cgroup = match reserved_cgroup(value, self.facts.driver) {
            Ok(cgroup) => cgroup,
            Err(error) => return self.refuse(value, reason.as_str(), error.to_string()),
        };
        let place = Place { cgroup: &cgroup, reason };
        if let Some(cpu) = amounts.get(&ResourceName::Cpu) {
            self.weigh(place, cpu);
        }
        if extent == Extent::Compressible {
            return;
        }
        if let Some(memory) = amounts.get(&ResourceName::Memory) {
            self.limit(place, Control::Memory, memory);
        }
        if let Some(pids) = amounts.get(&ResourceName::from("pid")) {
            self.limit(place, Control::Pids, pids);
        }
        for size in &self.facts.page_sizes {
            self.limit(place, Control::HugePages(huge_page_name(*size)), &Quantity::ZERO);
        }
    }

    fn bound_pods(&mut self, table: &[AllocatableRow]) {
        let facts = self.facts;
        let Some(root) = &facts.pods_root else { return };
        let place = Place { cgroup: root, reason: Reason::Pods };
        if let Some(cpu) = pods_limit(table, "cpu") {
            self.weigh(place, cpu);
        }
        for (resource, control) in [("memory", Control::Memory), ("pid", Control::Pids)] {
            if let Some(amount) = pods_limit(table, resource) {
                self.limit(place, control, amount);
            }
        }
        for size in &facts.page_sizes {
            let name = huge_page_name(*size);
            let resource = hugepage_resource(&name).unwrap_or_default();
            if let Some(amount) = pods_limit(table, &resource) {
                self.limit(place, Control::HugePages(name), amount);
            }
        }
    }

    fn weigh(&mut self, place: Place<'_>, cpu: &Quantity) {
        let shares = milli_to_shares(u64::try_from(cpu.milli_value()).unwrap_or(0));
        self.push(place, Control::CpuWeight, |version| match version {
            Version::V1 => shares.to_string(),
            Version::V2 => shares_to_weight_old(shares).to_string(),
        });
    }

    fn limit(&mut self, place: Place<'_>, control: Control, amount: &Quantity) {
        self.push(place, control, |_| amount.value().to_string());
    }

    fn confine(&mut self, name: &str, reserved: &CpuSet) {
        let cgroup = name.trim_matches('/');
        let is_pods = self.facts.pods_root.as_deref().is_some_and(|root| {
            let inside = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            inside(cgroup, root) || inside(root, cgroup)
        });
        if cgroup.is_empty() || is_pods {
            let detail =
                format!("{name:?} holds pods or everything; name a cgroup of the system, such as system.slice");
            return self.refuse(name, &reserved.to_string(), detail);
        }
        self.push(Place { cgroup, reason: Reason::Confined }, Control::Cpus, |_| reserved.to_string());
    }

    fn push(&mut self, Place { cgroup, reason }: Place<'_>, control: Control, value: impl Fn(Version) -> String) {
        let mut knob = Knob { cgroup: cgroup.to_owned(), control, version: Version::V2 };
        let Some(version) = self.facts.versions.get(knob.controller()) else {
            return self.lack(&knob, value(Version::V2), reason);
        };
        knob.version = *version;
        let value = value(*version);
        match self.wishes.bounds.iter().find(|known| known.knob == knob) {
            Some(known) if known.value != value => {
                let (asker, there) = (known.reason.as_str(), &known.value);
                let detail = format!("{asker} asks for {there} there already; give each its own cgroup");
                self.refuse(&knob.to_string(), &value, detail);
            }
            Some(_) => {}
            None => self.wishes.bounds.push(Wish { knob, value, reason }),
        }
    }

    fn lack(&mut self, knob: &Knob, wish: String, reason: Reason) {
        // Like the kubelet, which bounds no huge pages where the controller is missing.
        if matches!(knob.control, Control::HugePages(_)) {
            return;
        }
        let (object, controller) = (knob.to_string(), knob.controller());
        let detail = format!(
            "no mounted cgroup hierarchy has the controller {controller}; mount it, or drop {} from the profile",
            reason.as_str()
        );
        self.wishes.refusals.push(Refusal { object, wish, cause: Cause::Unsupported, detail });
    }

    fn refuse(&mut self, object: &str, wish: &str, detail: String) {
        let (object, wish) = (object.to_owned(), wish.to_owned());
        self.wishes.refusals.push(Refusal { object, wish, cause: Cause::InvalidValue, detail });
    }
}
