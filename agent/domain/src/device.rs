//! Devices of plugins as a third giver of hints: which devices there are, who has which, and on which NUMA nodes a request
//! could be served.
//!
//! Trimtab does not hand devices to containers; the kubelet does, and tells so through its PodResources API. What is
//! here follows the kubelet's device manager, so that CPUs and memory can be put where the devices of a container are,
//! or will be.

mod hints;
mod pick;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hints::Prospect;

use crate::hint::{NumaMask, Opinion, ProviderHints};
use crate::placement::AllocationError;
use crate::workload::{Container, ContainerKind, Pod, PodUid, ResourceName, Resources};

/// Id of a device, unique within its resource.
pub type DeviceId = Arc<str>;

/// One device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// NUMA nodes that it is near; absent if the plugin does not tell.
    pub nodes: Option<NumaMask>,
    /// False for a device that must not be handed out; it still counts for what an empty machine could do.
    pub healthy: bool,
}

/// No device.
static NO_DEVICES: BTreeSet<DeviceId> = BTreeSet::new();

/// All devices of one resource.
pub type DevicePool = BTreeMap<DeviceId, Device>;

/// The devices of one node, and who has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceManager {
    /// NUMA nodes of the machine.
    nodes: NumaMask,
    pools: BTreeMap<ResourceName, DevicePool>,
    owned: BTreeMap<PodUid, BTreeMap<String, BTreeMap<ResourceName, BTreeSet<DeviceId>>>>,
    /// Devices of finished init containers of one pod, which its later containers may use again.
    reusable: Option<(PodUid, BTreeMap<ResourceName, BTreeSet<DeviceId>>)>,
}

impl DeviceManager {
    /// A machine with these NUMA nodes and devices, which nobody has.
    #[must_use]
    pub const fn new(nodes: NumaMask, pools: BTreeMap<ResourceName, DevicePool>) -> Self {
        Self { nodes, pools, owned: BTreeMap::new(), reusable: None }
    }

    /// Replaces the devices of the machine, as plugins come and go; what containers have is kept.
    pub fn replace_pools(&mut self, pools: BTreeMap<ResourceName, DevicePool>) {
        self.pools = pools;
    }

    /// Records what the kubelet says that a container has.
    pub fn record(&mut self, pod: &PodUid, container: &str, resource: &ResourceName, devices: BTreeSet<DeviceId>) {
        let containers = self.owned.entry(pod.clone()).or_default();
        containers.entry(container.to_owned()).or_default().insert(resource.clone(), devices);
    }

    /// Devices of one resource that a container has.
    #[must_use]
    pub fn devices_of(&self, pod: &PodUid, container: &str, resource: &ResourceName) -> Option<&BTreeSet<DeviceId>> {
        self.owned.get(pod)?.get(container)?.get(resource)
    }

    /// Where the devices of a container could come from.
    #[must_use]
    pub fn hints_for_container(&self, pod: &Pod, container: &Container) -> ProviderHints {
        let mut hints = ProviderHints::NO_OPINION;
        for (resource, pool, count) in self.requests(&container.resources) {
            let prospect = self.prospect(pod, container, (resource, pool), count);
            hints.push(resource.clone(), hints::list(pool, &prospect, self.nodes));
        }
        hints
    }

    /// Where the devices of all containers of a pod together could come from.
    #[must_use]
    pub fn hints_for_pod(&self, pod: &Pod) -> ProviderHints {
        let mut hints = ProviderHints::NO_OPINION;
        for (resource, pool) in &self.pools {
            let count = pod_request(pod, resource);
            if count > 0 {
                let prospect = Prospect::Free { free: self.free(resource, pool), reusable: &NO_DEVICES, count };
                hints.push(resource.clone(), hints::list(pool, &prospect, self.nodes));
            }
        }
        hints
    }

    /// What [`hints_for_container`](Self::hints_for_container) lists, as conditions, one per resource that has an
    /// opinion.
    #[must_use]
    pub fn demands_of_container(&self, pod: &Pod, container: &Container) -> Vec<Opinion> {
        let opinion = |(resource, pool, count): (&ResourceName, &DevicePool, usize)| {
            let prospect = self.prospect(pod, container, (resource, pool), count);
            hints::opinion(resource, pool, &prospect, self.nodes)
        };
        self.requests(&container.resources).filter_map(opinion).collect()
    }

    /// What [`hints_for_pod`](Self::hints_for_pod) lists, in the same form.
    #[must_use]
    pub fn demands_of_pod(&self, pod: &Pod) -> Vec<Opinion> {
        let opinion = |(resource, pool): (&ResourceName, &DevicePool)| {
            let count = pod_request(pod, resource);
            let prospect = Prospect::Free { free: self.free(resource, pool), reusable: &NO_DEVICES, count };
            if count > 0 { hints::opinion(resource, pool, &prospect, self.nodes) } else { None }
        };
        self.pools.iter().filter_map(opinion).collect()
    }

    /// Gives a container its devices, near the hinted nodes as far as there are any. One that has devices keeps them.
    ///
    /// # Errors
    /// Too few devices are free, or the request is not what the container was given. Nothing has changed then.
    pub fn allocate(
        &mut self,
        pod: &Pod,
        container: &Container,
        affinity: Option<NumaMask>,
    ) -> Result<(), AllocationError> {
        let mut taken = BTreeMap::new();
        for (resource, pool, requested) in self.requests(&container.resources) {
            let owned = self.devices_of(&pod.uid, &container.name, resource);
            if let Some(owned) = owned.filter(|owned| !owned.is_empty()) {
                if owned.len() != requested {
                    let (pod, container) = (pod.uid.clone(), container.name.clone());
                    let (resource, from) = (resource.clone(), owned.len());
                    return Err(AllocationError::DeviceRequestChanged {
                        pod,
                        container,
                        resource,
                        from,
                        to: requested,
                    });
                }
                taken.insert(resource.clone(), owned.clone());
                continue;
            }
            let free = self.free(resource, pool);
            let reusable = self.reusable_of(&pod.uid, resource);
            let devices = pick::pick(pool, (&free, reusable), requested, affinity).ok_or_else(|| {
                let available = free.union(reusable).count();
                AllocationError::NotEnoughDevices { resource: resource.clone(), requested, available }
            })?;
            taken.insert(resource.clone(), devices);
        }
        for (resource, devices) in taken {
            self.note_reuse(&pod.uid, container.kind, &resource, &devices);
            self.record(&pod.uid, &container.name, &resource, devices);
        }
        Ok(())
    }

    /// Takes its devices from a container.
    pub fn remove_container(&mut self, pod: &PodUid, container: &str) {
        if let Some(containers) = self.owned.get_mut(pod) {
            containers.remove(container);
            if containers.is_empty() {
                self.owned.remove(pod);
            }
        }
    }

    /// Containers of a pod that have devices.
    pub fn containers_of(&self, pod: &PodUid) -> impl Iterator<Item = &str> {
        self.owned.get(pod).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Out of which devices a container could be served.
    fn prospect<'a>(
        &'a self,
        pod: &Pod,
        container: &Container,
        (resource, pool): (&ResourceName, &DevicePool),
        count: usize,
    ) -> Prospect<'a> {
        match self.devices_of(&pod.uid, &container.name, resource) {
            Some(owned) if !owned.is_empty() => Prospect::Owned { owned, count },
            _ => {
                let reusable = self.reusable_of(&pod.uid, resource);
                Prospect::Free { free: self.free(resource, pool), reusable, count }
            }
        }
    }

    /// What a container asks for of the resources that are devices here.
    fn requests<'a>(
        &'a self,
        resources: &Resources,
    ) -> impl Iterator<Item = (&'a ResourceName, &'a DevicePool, usize)> {
        let wanted = |(resource, pool): (&'a ResourceName, &'a DevicePool)| {
            Some((resource, pool, count_of(resources, resource))).filter(|(_, _, count)| *count > 0)
        };
        self.pools.iter().filter_map(wanted)
    }

    /// Healthy devices that nobody has.
    fn free(&self, resource: &ResourceName, pool: &DevicePool) -> BTreeSet<DeviceId> {
        let containers = self.owned.values().flat_map(BTreeMap::values);
        let owned: BTreeSet<&DeviceId> = containers.filter_map(|owned| owned.get(resource)).flatten().collect();
        let free = pool.iter().filter(|(id, device)| device.healthy && !owned.contains(id));
        free.map(|(id, _)| Arc::clone(id)).collect()
    }

    fn reusable_of(&self, pod: &PodUid, resource: &ResourceName) -> &BTreeSet<DeviceId> {
        let reusable = self.reusable.as_ref().filter(|(owner, _)| owner == pod);
        reusable.and_then(|(_, devices)| devices.get(resource)).unwrap_or(&NO_DEVICES)
    }

    /// Devices of init containers may be used again, until a container that goes on running takes them.
    fn note_reuse(&mut self, pod: &PodUid, kind: ContainerKind, resource: &ResourceName, devices: &BTreeSet<DeviceId>) {
        if self.reusable.as_ref().is_none_or(|(owner, _)| owner != pod) {
            self.reusable = Some((pod.clone(), BTreeMap::new()));
        }
        let Some((_, reusable)) = &mut self.reusable else { return };
        let again = reusable.entry(resource.clone()).or_default();
        if kind == ContainerKind::Init {
            again.extend(devices.iter().cloned());
        } else {
            again.retain(|id| !devices.contains(id));
        }
    }
}

/// Devices of one resource in a limit; devices have no fractions.
fn count_of(resources: &Resources, resource: &ResourceName) -> usize {
    resources.limits.get(resource).map_or(0, |quantity| usize::try_from(quantity.value()).unwrap_or(0))
}

/// Devices that the pod needs at its busiest moment: an init container beside the sidecars before it, or all
/// application containers beside all sidecars.
fn pod_request(pod: &Pod, resource: &ResourceName) -> usize {
    let (mut sidecars, mut highest_init, mut apps) = (0_usize, 0_usize, 0_usize);
    for container in &pod.containers {
        let count = count_of(&container.resources, resource);
        match container.kind {
            ContainerKind::Sidecar => {
                sidecars = sidecars.saturating_add(count);
                highest_init = highest_init.max(sidecars);
            }
            ContainerKind::Init => highest_init = highest_init.max(sidecars.saturating_add(count)),
            ContainerKind::App => apps = apps.saturating_add(count),
        }
    }
    highest_init.max(apps.saturating_add(sidecars))
}
