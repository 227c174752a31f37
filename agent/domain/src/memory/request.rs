//! What a container or a pod asks of the memory manager.

use std::collections::BTreeMap;

use crate::placement::AllocationError;
use crate::workload::{Container, ContainerKind, Pod, ResourceName, Resources};

/// Bytes by type of memory, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryRequest(Vec<(ResourceName, u64)>);

impl MemoryRequest {
    /// The requests for `memory` and `hugepages-*` of one container.
    ///
    /// # Errors
    /// [`AllocationError::MemoryQuantity`] for a quantity that is not an integer of bytes.
    pub fn of_container(container: &Container) -> Result<Self, AllocationError> {
        Self::of_resources(&container.resources)
    }

    /// The same for a list of requests.
    ///
    /// # Errors
    /// As for a container.
    pub fn of_resources(resources: &Resources) -> Result<Self, AllocationError> {
        let asked = resources.requests.iter().filter(|(kind, _)| is_memory(kind));
        let bytes = asked.map(|(kind, quantity)| {
            let bytes = quantity.as_int64().ok_or(AllocationError::MemoryQuantity)?;
            // A negative request cannot pass the API server; the reference would see a huge number.
            Ok((kind.clone(), u64::try_from(bytes).unwrap_or(u64::MAX)))
        });
        bytes.collect::<Result<_, _>>().map(Self)
    }

    /// What a pod needs at its busiest moment (KEP-753), of each type that an application container asks for: an init
    /// container beside the sidecars before it, or all application containers beside all sidecars.
    ///
    /// # Errors
    /// As for a container, for the first that has such a quantity.
    pub fn of_pod(pod: &Pod) -> Result<Self, AllocationError> {
        let mut sums: BTreeMap<ResourceName, PodSum> = BTreeMap::new();
        for container in &pod.containers {
            for (kind, bytes) in Self::of_container(container)?.0 {
                sums.entry(kind).or_default().add(container.kind, bytes);
            }
        }
        let named = sums.into_iter().filter(|(_, sum)| sum.has_app);
        Ok(Self(named.map(|(kind, sum)| (kind, sum.app.saturating_add(sum.sidecars).max(sum.init))).collect()))
    }

    /// Bytes of one type; absent if it is not asked for.
    #[must_use]
    pub fn bytes(&self, kind: &ResourceName) -> Option<u64> {
        self.0.iter().find(|(name, _)| name == kind).map(|(_, bytes)| *bytes)
    }

    /// Types and bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, u64)> {
        self.0.iter().map(|(kind, bytes)| (kind, *bytes))
    }

    /// Number of types.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// True if no memory is asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ResourceName, u64)> for MemoryRequest {
    fn from_iter<I: IntoIterator<Item = (ResourceName, u64)>>(amounts: I) -> Self {
        Self(amounts.into_iter().collect())
    }
}

/// Bytes of one type that the containers of a pod ask for.
#[derive(Default)]
struct PodSum {
    init: u64,
    sidecars: u64,
    app: u64,
    has_app: bool,
}

impl PodSum {
    fn add(&mut self, kind: ContainerKind, bytes: u64) {
        match kind {
            ContainerKind::Sidecar => self.sidecars = self.sidecars.saturating_add(bytes),
            ContainerKind::Init => self.init = self.init.max(self.sidecars.saturating_add(bytes)),
            ContainerKind::App => {
                self.app = self.app.saturating_add(bytes);
                self.has_app = true;
            }
        }
    }
}

fn is_memory(kind: &ResourceName) -> bool {
    *kind == ResourceName::Memory || kind.is_hugepages()
}
