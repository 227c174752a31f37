//! Node allocatable: what is left of the node for pods, by resource.

use crate::cpuset::CpuSet;
use crate::quantity::Quantity;
use crate::reserved_memory::ResourceList;
use crate::spec::ResourceManagersSpec;
use crate::workload::ResourceName;

use super::{ReservationError, eviction, listed_cpus, parse_reserved};

/// What the node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capacity {
    /// Amounts by resource: `cpu`, `memory`, `ephemeral-storage`, `pid`, `hugepages-<size>`. A resource whose amount
    /// cannot be told is absent, and so is its row of the table.
    pub amounts: ResourceList,
    /// Online CPUs; `reservedSystemCPUs` must be among them.
    pub online: CpuSet,
}

/// One resource of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatableRow {
    /// The resource.
    pub resource: ResourceName,
    /// What the node has.
    pub capacity: Quantity,
    /// `kubeReserved`.
    pub kube_reserved: Quantity,
    /// `systemReserved`.
    pub system_reserved: Quantity,
    /// The hard eviction threshold: `memory.available`, `nodefs.available`; nothing for other resources.
    pub eviction: Quantity,
    /// Memory in huge pages, which is no ordinary memory any more; nothing for other resources.
    pub huge_pages: Quantity,
    /// What the scheduler may give to pods (`status.allocatable`): capacity without all of the above, at least 0.
    pub allocatable: Quantity,
    /// What the cgroup of all pods is bounded by: capacity without the reservations alone, at least 0.
    pub pods_limit: Quantity,
}

/// The table, in byte order of the resources (kubelet `cm/node_container_manager_linux.go`, KEP-17 worked out in the
/// user documentation "Reserve Compute Resources for System Daemons").
///
/// # Errors
/// What the kubelet refuses to start with: [`ReservationError`].
pub fn allocatable(spec: &ResourceManagersSpec, capacity: &Capacity) -> Result<Vec<AllocatableRow>, ReservationError> {
    let (kube, system) = reserved_amounts(spec, capacity)?;
    let huge_pages = huge_page_memory(&capacity.amounts);
    let mut rows = Vec::new();
    for (resource, amount) in &capacity.amounts {
        let of = |list: &ResourceList| list.get(resource).copied().unwrap_or(Quantity::ZERO);
        let signal = match resource.as_str() {
            "memory" => "memory.available",
            "ephemeral-storage" => "nodefs.available",
            _ => "",
        };
        let eviction = eviction::reservation(&spec.eviction_hard, signal, amount)?.unwrap_or(Quantity::ZERO);
        let huge_pages = if *resource == ResourceName::Memory { huge_pages } else { Quantity::ZERO };
        let (kube_reserved, system_reserved) = (of(&kube), of(&system));
        let too_large = || ReservationError::TooLarge(resource.clone());
        let reserved = kube_reserved.checked_add(&system_reserved).ok_or_else(too_large)?;
        let kept = reserved.checked_add(&eviction).ok_or_else(too_large)?;
        if kept > *amount {
            let (reserved, capacity) = (kept.to_string(), amount.to_string());
            return Err(ReservationError::OverCapacity { resource: resource.clone(), reserved, capacity });
        }
        let left = less(amount, &kept).ok_or_else(too_large)?;
        rows.push(AllocatableRow {
            resource: resource.clone(),
            capacity: *amount,
            kube_reserved,
            system_reserved,
            eviction,
            huge_pages,
            allocatable: less(&left, &huge_pages).ok_or_else(too_large)?,
            pods_limit: less(amount, &reserved).ok_or_else(too_large)?,
        });
    }
    Ok(rows)
}

/// `kubeReserved` and `systemReserved` as they count on this node: CPUs reserved by name replace every number.
///
/// # Errors
/// [`ReservationError`] for what the kubelet cannot read.
pub fn reserved_amounts(
    spec: &ResourceManagersSpec,
    capacity: &Capacity,
) -> Result<(ResourceList, ResourceList), ReservationError> {
    parse_reserved(spec, &listed_cpus(&spec.reserved_system_cpus, &capacity.online)?)
}

/// The bound of a resource for the cgroup of all pods; absent for a resource that the node does not have.
#[must_use]
pub fn pods_limit<'a>(rows: &'a [AllocatableRow], resource: &str) -> Option<&'a Quantity> {
    rows.iter().find(|row| row.resource.as_str() == resource).map(|row| &row.pods_limit)
}

fn huge_page_memory(amounts: &ResourceList) -> Quantity {
    let pages = amounts.iter().filter(|(resource, _)| resource.is_hugepages());
    pages.fold(Quantity::ZERO, |sum, (_, amount)| sum.checked_add(amount).unwrap_or(sum))
}

/// The difference, but not below nothing.
fn less(from: &Quantity, what: &Quantity) -> Option<Quantity> {
    let left = from.checked_sub(what)?;
    Some(if left.is_negative() { Quantity::ZERO } else { left })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    type Texts<'a> = &'a [(&'a str, &'a str)];

    fn capacity(amounts: Texts<'_>) -> Capacity {
        let amounts = amounts.iter().map(|(name, text)| (ResourceName::from(*name), Quantity::parse(text).unwrap()));
        Capacity { amounts: amounts.collect(), online: CpuSet::range(0, 15) }
    }

    fn spec(kube: Texts<'_>, system: Texts<'_>, eviction: Texts<'_>) -> ResourceManagersSpec {
        let map = |texts: Texts<'_>| texts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (kube_reserved, system_reserved, eviction_hard) = (map(kube), map(system), map(eviction));
        ResourceManagersSpec { kube_reserved, system_reserved, eviction_hard, ..ResourceManagersSpec::default() }
    }

    /// `allocatable / pods_limit` by resource.
    fn shown(spec: &ResourceManagersSpec, capacity: &Capacity) -> Vec<String> {
        match allocatable(spec, capacity) {
            Ok(rows) => {
                rows.iter().map(|row| format!("{} {} / {}", row.resource, row.allocatable, row.pods_limit)).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn the_worked_example_of_the_user_documentation() {
        let spec = spec(
            &[("cpu", "1"), ("memory", "2Gi"), ("ephemeral-storage", "1Gi")],
            &[("cpu", "500m"), ("memory", "1Gi"), ("ephemeral-storage", "1Gi")],
            &[("memory.available", "500Mi"), ("nodefs.available", "10%")],
        );
        let capacity = capacity(&[("cpu", "16"), ("memory", "32Gi"), ("ephemeral-storage", "100Gi")]);
        let rows = allocatable(&spec, &capacity).unwrap();
        let of = |name: &str| rows.iter().find(|row| row.resource.as_str() == name).unwrap();
        assert_eq!(of("cpu").allocatable.to_string(), "14500m");
        assert_eq!(of("memory").allocatable.to_string(), "29196Mi");
        // 88 Gi in the documentation; the kubelet keeps a percentage in single precision, which is 160 bytes here.
        assert_eq!((88_i64 << 30) - of("ephemeral-storage").allocatable.value(), 160);
        assert_eq!(pods_limit(&rows, "memory").unwrap().value(), 31_138_512_896);
        let milli = u64::try_from(pods_limit(&rows, "cpu").unwrap().milli_value()).unwrap();
        let shares = crate::cgroup::milli_to_shares(milli);
        assert_eq!((shares, crate::cgroup::shares_to_weight_old(shares)), (14_848, 567));
    }

    #[test]
    fn huge_pages_leave_the_scheduler_less_memory_and_the_cgroup_as_much() {
        let spec = spec(&[("memory", "1Gi")], &[], &[("memory.available", "1Gi")]);
        let node = capacity(&[("memory", "8Gi"), ("hugepages-2Mi", "1Gi"), ("hugepages-1Gi", "2Gi")]);
        let rows = shown(&spec, &node);
        assert_eq!(rows, ["hugepages-1Gi 2Gi / 2Gi", "hugepages-2Mi 1Gi / 1Gi", "memory 3Gi / 7Gi"]);
        let all = capacity(&[("memory", "8Gi"), ("hugepages-1Gi", "8Gi")]);
        assert_eq!(shown(&spec, &all), ["hugepages-1Gi 8Gi / 8Gi", "memory 0 / 7Gi"], "never below nothing");
    }

    #[test]
    fn cpus_reserved_by_name_replace_their_number() {
        let mut spec = spec(&[("cpu", "3"), ("pid", "100")], &[("cpu", "500m")], &[]);
        spec.reserved_system_cpus = "0-1".to_owned();
        assert_eq!(shown(&spec, &capacity(&[("cpu", "16"), ("pid", "4000")])), ["cpu 14 / 14", "pid 3900 / 3900"]);
        spec.reserved_system_cpus = "16".to_owned();
        let rows = shown(&spec, &capacity(&[("cpu", "16")]));
        assert_eq!(rows, ["reserved-cpus: 16 is not a subset of online-cpus: 0-15"]);
    }

    #[test]
    fn more_reserved_than_there_is_is_refused_in_the_words_of_the_kubelet() {
        let spec = spec(&[("memory", "3Gi")], &[], &[("memory.available", "2Gi")]);
        let expected = "invalid Node Allocatable configuration. Resource \"memory\" has a reservation of 5Gi but \
                        capacity of 4Gi. Expected capacity >= reservation.";
        assert_eq!(shown(&spec, &capacity(&[("memory", "4Gi")])), [expected]);
    }
}
