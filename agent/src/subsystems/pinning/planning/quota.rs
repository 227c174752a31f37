//! CPU time: no bound for containers with CPUs of their own, and none for their pods (as the kubelet's feature gate
//! `DisableCPUQuotaWithExclusiveCPUs` has it).
//!
//! The pod's bound is lifted before the container's, which would have no effect otherwise, and comes back after it:
//! version 1 refuses a container a bound that is wider than its pod's (EINVAL, kernel/sched/core.c).
//!
//! Where the ledger was lost, what the runtime was asked for stands in for it.

use trimtab_domain::cgroup::tree::PodTree;
use trimtab_domain::cgroup::{Quota, Version};
use trimtab_domain::record::{LedgerChange, Original, Record};
use trimtab_domain::workload::QosClass;

use super::{Planner, When};
use crate::subsystems::pinning::decide::Rule;
use crate::subsystems::pinning::facts::{CPUS, file_object};
use crate::subsystems::pinning::step::{FileWrite, PinStep};
use crate::subsystems::pinning::writers::{Via, quota_file};

/// The bound of one cgroup.
struct Bound<'a> {
    path: &'a str,
    now: Quota,
    /// What a runtime was asked for, if that is known: what it was before it was lifted by somebody in our name.
    told: Option<Quota>,
    lift: bool,
    /// True if a bound that is missing was lifted by an agent whose ledger is lost.
    restores: bool,
    via: Via,
    /// When it is lifted and given back.
    when: (When, When),
}

impl Planner<'_> {
    pub(super) fn plan_quotas(&mut self, tree: &PodTree) {
        let Some(cpu) = &tree.cpu else { return };
        if self.decision.cpus == Rule::LeaveAlone {
            return;
        }
        let lifts = self.limits.lift_quota && self.rule(CPUS) == Rule::Enforce;
        for pod in &tree.pods {
            let owns = |path: &str| self.decision.holdings.get(path).is_some_and(|holding| holding.cpus.is_some());
            // Nobody but an agent lifts the bounds of Guaranteed pods; without a policy and a ledger there was none.
            let by_us = self.rule(CPUS) == Rule::Enforce || !self.observed.records.is_empty();
            let restores = by_us && pod.qos == QosClass::Guaranteed;
            let owner = pod.containers.iter().any(|container| owns(&container.cpuset.path));
            let mut bounds: Vec<Bound<'_>> = pod
                .containers
                .iter()
                .filter_map(|container| {
                    let path = container.cpuset.path.as_str();
                    let quota = container.cpu.quota?;
                    let is_lifted = self.observed.lifted.contains(path);
                    Some(Bound {
                        path,
                        now: if is_lifted { quota.lifted() } else { quota },
                        told: self.observed.told_quota(container, pod.qos, quota.period_us),
                        lift: lifts && owns(path),
                        restores,
                        via: self.observed.writers.for_container_quota(tree, container),
                        when: (When::LiftContainers, When::BoundContainers),
                    })
                })
                .collect();
            bounds.extend(pod.quota.map(|now| Bound {
                path: &pod.cpuset.path,
                now,
                told: self.observed.told_pod_quota(pod, now.period_us),
                lift: lifts && owner,
                restores,
                via: self.observed.writers.for_pod_quota(tree, pod),
                when: (When::LiftPods, When::BoundPods),
            }));
            for bound in &bounds {
                self.plan_quota(cpu.version, bound);
            }
        }
    }

    fn plan_quota(&mut self, version: Version, bound: &Bound<'_>) {
        let file = quota_file(version);
        let object = file_object(bound.path, file);
        let known = self.observed.records.get(&object).cloned();
        let (now, lifted) = (bound.now.to_text(version), bound.now.lifted().to_text(version));
        let order = |new: String, repair| {
            PinStep::Write(FileWrite {
                object: object.clone(),
                path: bound.path.to_owned(),
                file,
                old: now.clone(),
                new,
                when_populated: None,
                repair,
                via: bound.via.clone(),
                grows_at: None,
                narrows: false,
                first_pin: None,
            })
        };
        let promise = |was: String| {
            LedgerChange::Promise(Record {
                object: object.clone(),
                original: Original::Value(was),
                ordered: lifted.clone(),
            })
        };
        let forget = || LedgerChange::Forget { object: object.clone() };
        match (bound.lift, bound.now.quota_us, known) {
            (true, Some(_), Some(record)) if record.original == Original::Value(now.clone()) => {
                let step = order(lifted.clone(), true);
                self.push(bound.when.0, vec![step]);
            }
            (true, Some(_), known) => {
                // A bound that is not the recorded one is a new limit: that is what comes back one day.
                self.before.extend(known.map(|_| forget()));
                self.before.push(promise(now.clone()));
                let step = order(lifted.clone(), false);
                self.push(bound.when.0, vec![step]);
            }
            (true, None, None) => self.before.extend(bound.told.map(|told| promise(told.to_text(version)))),
            (false, None, None) => {
                let back = bound.told.filter(|_| bound.restores).map(|told| order(told.to_text(version), false));
                self.push(bound.when.1, back.into_iter().collect());
            }
            (false, None, Some(Record { original: Original::Value(was), .. })) => {
                let step = order(was, false);
                self.push(bound.when.1, vec![step]);
                self.after.push(forget());
            }
            (false, _, Some(_)) => self.after.push(forget()),
            (true, None, Some(_)) | (false, Some(_), None) => {}
        }
    }
}
