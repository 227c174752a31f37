//! What is read besides the tree: who answers for a write, what containers asked for before their bound was lifted, where
//! their threads may run.

use std::collections::{BTreeMap, BTreeSet};

use tracing::debug;
use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup, PodTree};
use trimtab_domain::cgroup::{Quota, Version, Weight, parse_cpu_max, parse_quota_v1};
use trimtab_domain::record::{Original, Record};
use trimtab_domain::roster::SandboxContainer;
use trimtab_domain::roster::told::Asked;
use trimtab_domain::workload::{ContainerId, QosClass};

use super::Pinning;
use super::decide::Decision;
use super::facts::{self, CPUS, Observed, file_object};
use super::step::FirstPin;
use super::writers::{Writers, quota_file};
use crate::ports::runtime::RuntimeListing;
use crate::ports::threads::ThreadMasks;

impl Pinning {
    /// Everything that the runtime runs; `None` if there is none, or it does not answer.
    pub(super) async fn ask_runtime(&self) -> Option<RuntimeListing> {
        match self.ports.runtime.as_ref()?.list().await {
            Ok(listing) => Some(listing),
            Err(error) => {
                debug!(%error, "the runtime is not asked to write");
                None
            }
        }
    }

    /// Tells the desk what the runtime lists, or what is left of the pods if it lists nothing.
    pub(super) fn tell_desk(&self, listing: Option<RuntimeListing>, tree: Option<&PodTree>) {
        match listing {
            Some(mut listing) => {
                listing.containers.extend(self.forgotten(&listing, tree));
                self.desk.listed(listing);
            }
            None => self.desk.unlisted(tree),
        }
    }

    /// Containers that run although the runtime does not list them any more, each as it was known: one that is restarted
    /// under load may not find all of them again. What has processes is not over, and must not be let onto CPUs of others.
    fn forgotten(&self, listing: &RuntimeListing, tree: Option<&PodTree>) -> Vec<SandboxContainer> {
        let mut left_out = self.desk.left_out_of(listing);
        left_out.retain(|known| {
            let pods = tree.into_iter().flat_map(|tree| &tree.pods);
            let cgroup = pods.flat_map(|pod| &pod.containers).find(|cgroup| cgroup.id == known.id);
            // One that cannot be looked at is taken to be as it was.
            cgroup.is_some_and(|cgroup| self.ports.tree.is_populated(&cgroup.cpuset.path).unwrap_or(true))
        });
        left_out
    }

    /// Asks the runtime anew for containers of which its kept answers and the files say different things: they may have
    /// been resized since. Over NRI resizes are told. True if it answered.
    pub(super) async fn ask_again(&self, observed: &Observed) -> bool {
        let doubtful = &observed.joined.doubtful;
        let Some(runtime) = self.ports.runtime.as_ref().filter(|_| !doubtful.is_empty() && !observed.desk.connected)
        else {
            return false;
        };
        runtime.forget(doubtful);
        let listing = self.ask_runtime().await;
        let answered = listing.is_some();
        if answered {
            self.tell_desk(listing, observed.tree.as_ref());
        }
        answered
    }

    /// Who would write now.
    pub(super) async fn find_writers(&self, listing: Option<&RuntimeListing>) -> Writers {
        let known = listing.iter().flat_map(|listing| &listing.containers).map(|container| container.id.clone());
        let units = match &self.ports.units {
            Some(units) if !self.lookout.systemd_refuses() => units.answers().await,
            _ => false,
        };
        // Two ways to one runtime would each undo what the other has not heard of.
        let is_needed = listing.is_none() && !self.lookout.plugin_is_silent();
        let changeable = if is_needed { self.desk.changeable() } else { BTreeSet::new() };
        let plugin = self.lookout.without_refused(changeable);
        Writers { runtime: self.lookout.without_refused(known.collect()), plugin, units }
    }

    /// The containers that came since the last look.
    pub(super) fn find_newcomers(
        &self,
        tree: Option<&PodTree>,
        listing: Option<&RuntimeListing>,
        taken_over: bool,
    ) -> BTreeMap<ContainerId, FirstPin> {
        let listed = listing.into_iter().flat_map(|listing| &listing.containers);
        let created: BTreeMap<&ContainerId, i64> =
            listed.map(|container| (&container.id, container.created_at_ns)).filter(|(_, at)| *at > 0).collect();
        let containers = tree.into_iter().flat_map(|tree| &tree.pods).flat_map(|pod| &pod.containers);
        let ids = containers.map(|container| &container.id);
        self.lookout.saw_containers(ids, taken_over, |id| created.get(id).copied())
    }

    /// The threads of containers with CPUs of their own, at a bounded rate.
    pub(super) fn look_at_threads(
        &self,
        decision: &Decision,
        observed: &Observed,
    ) -> BTreeMap<ContainerId, ThreadMasks> {
        if self.lookout.wants_threads() {
            let pods = observed.tree.iter().flat_map(|tree| &tree.pods);
            let owns = |container: &&ContainerCgroup| {
                let holding = decision.holdings.get(&container.cpuset.path);
                let placed = holding.is_some_and(|holding| holding.cpus.is_some());
                placed && observed.records.contains_key(&file_object(&container.cpuset.path, CPUS))
            };
            let owners: Vec<&ContainerId> =
                pods.flat_map(|pod| &pod.containers).filter(owns).map(|container| &container.id).collect();
            if !owners.is_empty() {
                self.lookout.saw_threads(self.ports.threads.masks(&owners));
            }
        }
        self.lookout.masks()
    }
}

/// Puts the bounds back into the picture that containers had before they were lifted, because they tell what was asked
/// for; returns the cgroups whose bound is lifted.
pub(super) fn remember_bounds(tree: &mut PodTree, records: &BTreeMap<String, Record>) -> BTreeSet<String> {
    let mut lifted = BTreeSet::new();
    let Some(version) = tree.cpu.as_ref().map(|cpu| cpu.version) else { return lifted };
    let guaranteed = tree.pods.iter_mut().filter(|pod| pod.qos == QosClass::Guaranteed);
    for container in guaranteed.flat_map(|pod| &mut pod.containers) {
        let path = &container.cpuset.path;
        let Some(now) = container.cpu.quota.filter(|quota| quota.quota_us.is_none()) else { continue };
        let was = match records.get(&file_object(path, quota_file(version))).map(|record| &record.original) {
            Some(Original::Value(was)) => parse(version, was, now.period_us),
            _ => by_shape(container, now.period_us),
        };
        if was.is_some() {
            lifted.insert(path.clone());
            container.cpu.quota = was;
        }
    }
    lifted
}

/// The bound that a container would have without us, if nobody remembers it: it has just as many CPUs as its share of
/// time is worth. Version 1 tells requests by the share alone.
fn by_shape(container: &ContainerCgroup, period_us: u64) -> Option<Quota> {
    let count = u64::try_from(facts::configured_set(&container.cpuset, CPUS)?.len()).ok()?;
    let by_weight = matches!(container.cpu.weight, Some(Weight::Weight(_)));
    let shape = by_weight && count > 0 && container.cpu.fits_request(count * 1000);
    shape.then_some(Quota { quota_us: Some(count.saturating_mul(period_us)), period_us })
}

fn parse(version: Version, text: &str, period_us: u64) -> Option<Quota> {
    match version {
        Version::V1 => parse_quota_v1(text, &period_us.to_string()).ok(),
        Version::V2 => parse_cpu_max(text).ok(),
    }
}

impl Observed {
    /// The bound that a container was asked for, where a runtime told; `None`: it was asked for none, or nobody told. One
    /// that was lifted through the runtime shows what it was made with, and since then the kubelet may have resized it: in
    /// a Guaranteed pod the limit is the request, which its share of time tells.
    pub(super) fn told_quota(&self, container: &ContainerCgroup, qos: QosClass, period_us: u64) -> Option<Quota> {
        let told = self.desk.roster.container(&container.id)?.resources.as_ref()?;
        let bound = |quota: Option<i64>| u64::try_from(quota?).ok().filter(|quota| *quota > 0);
        let period_us = told.cpu_period_us.filter(|period| *period > 0).unwrap_or(period_us);
        let quota_us = bound(told.cpu_quota_us).or_else(|| {
            let made_with = bound(told.made_with_quota_us)?;
            let asked = Asked::of_runtime(told, Some(qos), None);
            let request = asked.cpu_request.exact().filter(|milli| qos == QosClass::Guaranteed && milli.0 > 0);
            Some(request.map_or(made_with, |milli| milli.0.saturating_mul(period_us) / 1000))
        })?;
        Some(Quota { quota_us: Some(quota_us), period_us })
    }

    /// The same for a Guaranteed pod as a whole: what the kubelet reckoned when it was made, or what its containers have
    /// come to since.
    pub(super) fn told_pod_quota(&self, pod: &PodCgroup, period_us: u64) -> Option<Quota> {
        let sandbox = self.desk.roster.youngest_sandbox(&pod.uid).filter(|_| pod.qos == QosClass::Guaranteed)?;
        let told = sandbox.pod_resources.as_ref()?;
        let quota_us = u64::try_from(told.cpu_quota_us?).ok().filter(|quota| *quota > 0)?;
        let told_period = told.cpu_period_us.filter(|period| *period > 0).unwrap_or(period_us);
        let whole = quota_us.saturating_mul(period_us) / told_period;
        let parts = self.containers(pod).map(|one| self.told_quota(one, pod.qos, period_us)?.in_period(period_us));
        let sum: Option<u64> = parts.sum();
        Some(Quota { quota_us: Some(whole.max(sum.unwrap_or(0))), period_us })
    }
}
