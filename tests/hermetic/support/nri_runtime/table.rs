//! What the runtime keeps of its pods and containers, and what it does with a plugin's changes.

use std::collections::BTreeMap;

use trimtab_proto::nri::v1alpha1 as nri;

/// Pods and containers; the resources of a container are those that it runs with.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) pods: BTreeMap<String, nri::PodSandbox>,
    pub(crate) containers: BTreeMap<String, nri::Container>,
}

/// Sets that a container runs with, in list form; empty: the whole machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sets {
    pub(crate) cpus: String,
    pub(crate) mems: String,
}

impl Table {
    pub(crate) fn sets(&self, id: &str) -> Option<Sets> {
        let cpu = self.containers.get(id)?.linux.as_ref()?.resources.as_ref()?.cpu.as_ref()?;
        Some(Sets { cpus: cpu.cpus.clone(), mems: cpu.mems.clone() })
    }

    pub(crate) fn quota(&self, id: &str) -> Option<i64> {
        self.containers.get(id)?.linux.as_ref()?.resources.as_ref()?.cpu.as_ref()?.quota.map(|quota| quota.value)
    }

    /// Containers that the plugin names and that are not there are skipped without a word, as containerd does.
    pub(crate) fn apply(&mut self, updates: Vec<nri::ContainerUpdate>) {
        for update in updates {
            if let (Some(container), Some(resources)) =
                (self.containers.get_mut(&update.container_id), update.linux.and_then(|linux| linux.resources))
            {
                merge(container, resources);
            }
        }
    }
}

/// What is empty or absent stays as it is.
pub(crate) fn merge(container: &mut nri::Container, change: nri::LinuxResources) {
    let own = container.linux.get_or_insert_default().resources.get_or_insert_default();
    if let Some(memory) = change.memory {
        own.memory = Some(memory);
    }
    if let Some(cpu) = change.cpu {
        let now = own.cpu.get_or_insert_default();
        now.shares = cpu.shares.or(now.shares);
        now.quota = cpu.quota.or(now.quota);
        now.period = cpu.period.or(now.period);
        if !cpu.cpus.is_empty() {
            now.cpus = cpu.cpus;
        }
        if !cpu.mems.is_empty() {
            now.mems = cpu.mems;
        }
    }
}
