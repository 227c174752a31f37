//! Pods and their containers, with what they ask for.

use std::collections::BTreeMap;

use super::{Labels, PodUid, QosClass, ResourceName};
use crate::quantity::Quantity;

/// A pod as the resource managers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// UID.
    pub uid: PodUid,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// QoS class: that of the status if set, else [`QosClass::of`].
    pub qos: QosClass,
    /// Init containers (sidecars among them) in the order of the spec, then application containers.
    pub containers: Vec<Container>,
    /// Pod-level resources (`pod.spec.resources`, KEP-2837); absent for nearly all pods.
    pub resources: Option<Resources>,
    /// Annotations that Trimtab understands, and perhaps others.
    pub annotations: Labels,
}

/// A container of a pod as the resource managers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// When it runs.
    pub kind: ContainerKind,
    /// What it asks for; a request that the pod leaves out but limits is the limit, as the API server has it.
    pub resources: Resources,
}

/// When a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    /// Init container that ends before the next one starts.
    Init,
    /// Init container with `restartPolicy: Always`: it runs beside all that come after it (KEP-753).
    Sidecar,
    /// Application container.
    App,
}

/// Requests and limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Amounts that are set aside.
    pub requests: BTreeMap<ResourceName, Quantity>,
    /// Amounts that are not exceeded.
    pub limits: BTreeMap<ResourceName, Quantity>,
}

/// CPU time in thousandths of a CPU; finer values are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MilliCpu(pub u64);

impl MilliCpu {
    /// The number of CPUs if it is whole, as exclusive CPUs need it.
    #[must_use]
    pub fn whole(self) -> Option<usize> {
        if self.0.is_multiple_of(1000) { usize::try_from(self.0 / 1000).ok() } else { None }
    }

    /// The number of CPUs, rounded up.
    #[must_use]
    pub fn ceil(self) -> usize {
        usize::try_from(self.0.div_ceil(1000)).unwrap_or(usize::MAX)
    }
}

impl Resources {
    /// The CPU request, rounded up to a thousandth; 0 without one.
    #[must_use]
    pub fn cpu_request(&self) -> MilliCpu {
        let milli = self.requests.get(&ResourceName::Cpu).map_or(0, Quantity::milli_value);
        MilliCpu(u64::try_from(milli).unwrap_or(0))
    }

    /// True if a container with these resources alone would make a pod Guaranteed: CPU and memory, requested as limited.
    #[must_use]
    pub fn is_guaranteed(&self) -> bool {
        [ResourceName::Cpu, ResourceName::Memory].iter().all(|name| match self.limits.get(name) {
            Some(limit) => !limit.is_zero() && self.requests.get(name) == Some(limit),
            None => false,
        })
    }

    /// CPU and memory of the map that are above zero: only those count for the QoS class.
    fn counted(map: &BTreeMap<ResourceName, Quantity>) -> impl Iterator<Item = (&ResourceName, Quantity)> {
        let counts = |name: &ResourceName| matches!(name, ResourceName::Cpu | ResourceName::Memory);
        map.iter().filter(move |(name, q)| counts(name) && !q.is_zero() && !q.is_negative()).map(|(n, q)| (n, *q))
    }
}

impl QosClass {
    /// The class of a pod with these containers, all kinds of them, and these pod-level resources, which decide alone
    /// if there are any.
    #[must_use]
    pub fn of(containers: &[Container], pod: Option<&Resources>) -> Self {
        let each: Vec<&Resources> = match pod {
            Some(resources) => vec![resources],
            None => containers.iter().map(|container| &container.resources).collect(),
        };
        let requests = Self::sum(each.iter().map(|resources| &resources.requests));
        let limits = Self::sum(each.iter().map(|resources| &resources.limits));
        if requests.is_empty() && limits.is_empty() {
            return Self::BestEffort;
        }
        let limited = each.iter().all(|resources| Resources::counted(&resources.limits).count() == 2);
        if limited && requests == limits { Self::Guaranteed } else { Self::Burstable }
    }

    fn sum<'a>(
        maps: impl Iterator<Item = &'a BTreeMap<ResourceName, Quantity>>,
    ) -> BTreeMap<&'a ResourceName, Quantity> {
        let mut sums = BTreeMap::new();
        for (name, quantity) in maps.flat_map(Resources::counted) {
            let sum = sums.entry(name).or_insert(Quantity::ZERO);
            *sum = sum.checked_add(&quantity).unwrap_or(*sum);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn resources(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Resources {
        let map = |list: &[(&str, &str)]| list.iter().map(|(n, q)| ((*n).into(), q.parse().unwrap())).collect();
        Resources { requests: map(requests), limits: map(limits) }
    }

    #[test]
    fn qos_class_follows_requests_and_limits() {
        let full = [("cpu", "2"), ("memory", "1Gi")];
        let rows = [
            ("nothing", vec![resources(&[], &[])], QosClass::BestEffort),
            ("zeros count as nothing", vec![resources(&[("cpu", "0")], &[("memory", "0")])], QosClass::BestEffort),
            ("equal", vec![resources(&full, &full)], QosClass::Guaranteed),
            ("other spelling", vec![resources(&full, &[("cpu", "2000m"), ("memory", "1024Mi")])], QosClass::Guaranteed),
            ("no memory", vec![resources(&[("cpu", "2")], &[("cpu", "2")])], QosClass::Burstable),
            ("one without", vec![resources(&full, &full), resources(&[], &[])], QosClass::Burstable),
            ("devices only", vec![resources(&[("x.io/d", "1")], &[("x.io/d", "1")])], QosClass::BestEffort),
        ];
        for (name, list, class) in rows {
            let container = |resources| Container { name: "c".into(), kind: ContainerKind::App, resources };
            let containers: Vec<_> = list.into_iter().map(container).collect();
            assert_eq!(QosClass::of(&containers, None), class, "{name}");
            if containers.len() == 1 {
                let bare = [container(resources(&[], &[]))];
                assert_eq!(QosClass::of(&bare, containers.first().map(|c| &c.resources)), class, "{name}, for the pod");
            }
        }
    }

    #[test]
    fn whole_cpus_are_counted_after_rounding_up_to_a_thousandth() {
        for (text, whole, ceil) in
            [("2", Some(2), 2), ("2000m", Some(2), 2), ("1.9999", Some(2), 2), ("1500m", None, 2)]
        {
            let cpu = resources(&[("cpu", text)], &[]).cpu_request();
            assert_eq!((cpu.whole(), cpu.ceil()), (whole, ceil), "{text}");
        }
    }
}
