//! The answer to a change of resources of a container that exists: an in-place resize, or a change of its sets.

use trimtab_domain::cpu::CpuClaim;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::isolation::sandboxed;
use trimtab_domain::roster::{Roster, Sandbox, SandboxContainer, ToldResources};
use trimtab_domain::workload::Pod;

use super::claim::Newcomer;
use super::create::{place_timed, refused};
use super::standing::{Rules, Standing};
use super::state::State;
use crate::ports::admission::{CpusetUpdate, Refused};

/// Reason of the kubelet for a resize that the node cannot make (KEP-1287).
const INFEASIBLE: &str = "Infeasible";

impl State {
    pub(super) fn update(
        &mut self,
        sandbox: &Sandbox,
        container: &SandboxContainer,
        asked: &ToldResources,
    ) -> Result<Vec<CpusetUpdate>, Refused> {
        self.roster.put_sandbox(sandbox.clone());
        let sandbox = self.roster.sandbox(&sandbox.id).unwrap_or(sandbox).clone();
        let before = self.roster.container(&container.id).unwrap_or(container).clone();
        let asked_cpus = CpuSet::parse(&asked.cpus).unwrap_or_default();
        let ours = asked.cpus.is_empty() || self.is_ours(&sandbox, &before, &asked_cpus);
        // A request of ours may arrive when its container has just ended, and what was announced is forgotten then.
        if !ours && self.living.0.contains_key(&container.id) {
            let who = self.display_name(&sandbox.id, &before);
            self.foreign.note_change(&container.id, &who, &asked.cpus);
            if self.foreign.cpus.is_some() {
                self.yield_to_foreign();
            }
        }
        let after = merged(before.resources.as_ref(), asked);
        let is_left_alone = sandboxed(&sandbox.runtime_handler, &self.handlers).is_some();
        if let Standing::Holding(rules) = &mut self.standing
            && !is_left_alone
            && let Some(newcomer) = resized(rules, &self.roster, &sandbox, (&before, &after))
        {
            if !rules.managers.config().extensions.cpu.resize {
                return Err(infeasible());
            }
            let (placed, decided) = place_timed(rules, &self.living, &newcomer, &before.name);
            self.tally.forget_container(&sandbox.uid, &before.name);
            self.tally.note(&decided);
            placed.map_err(|rejection| refused(&rejection))?;
            self.version += 1;
        }
        let mut known = before;
        known.resources = Some(after);
        self.roster.put_container(known.clone());
        self.admit_to_living(&sandbox, &known);
        let allowed = if ours { Some(&asked_cpus) } else { None };
        Ok(if is_left_alone { Vec::new() } else { self.corrected(&known, asked, allowed) })
    }

    /// True if these CPUs are what the agent wishes, or has said that it is going to write.
    fn is_ours(&self, sandbox: &Sandbox, container: &SandboxContainer, cpus: &CpuSet) -> bool {
        let announced = self.announced.get(&container.id).is_some_and(|sets| sets.contains(cpus));
        let wished =
            self.rules().is_some_and(|rules| rules.wish(&sandbox.uid, &container.name).cpus.as_ref() == Some(cpus));
        announced || wished
    }

    /// What is to be made of the request: the sets of the container itself, so that a request from before the last
    /// decision does no harm, and what others have to leave.
    fn corrected(
        &mut self,
        container: &SandboxContainer,
        asked: &ToldResources,
        allowed: Option<&CpuSet>,
    ) -> Vec<CpusetUpdate> {
        let Standing::Holding(rules) = &self.standing else { return Vec::new() };
        let Some(live) = self.living.0.get_mut(&container.id) else { return Vec::new() };
        let wish = rules.wish(&live.uid, &live.name);
        // A request of the agent that only shrinks is not undone by growing at once.
        let kept = |wish: &CpuSet| match allowed.map(|asked| asked.intersection(wish)) {
            Some(kept) if !kept.is_empty() => kept,
            _ => wish.clone(),
        };
        let cpus = if asked.cpus.is_empty() {
            wish.cpus.clone().filter(|cpus| wish.exclusive && live.cpus.as_ref() != Some(cpus))
        } else {
            wish.cpus.as_ref().map(kept)
        };
        let mems = wish.mems.clone().filter(|_| !asked.mems.is_empty());
        let asks_quota = asked.cpu_quota_us.is_some_and(|quota| quota > 0);
        let lift_quota = wish.exclusive && rules.lift_quota && (asks_quota || cpus.is_some());
        live.told(cpus.as_ref(), mems.as_ref());
        let mut updates = self.living.narrow(rules, Some(&container.id));
        if cpus.is_some() || mems.is_some() || lift_quota {
            updates.push(CpusetUpdate { id: container.id.clone(), cpus, mems, lift_quota });
        }
        updates
    }
}

/// The resources of a container after a request in which only some fields are set.
fn merged(before: Option<&ToldResources>, asked: &ToldResources) -> ToldResources {
    let mut after = before.cloned().unwrap_or_default();
    after.cpu_shares = asked.cpu_shares.filter(|shares| *shares > 0).or(after.cpu_shares);
    // −1 is how the agent itself lifts a quota; what the container asks for does not change with it.
    after.cpu_quota_us = asked.cpu_quota_us.filter(|quota| *quota > 0).or(after.cpu_quota_us);
    after.cpu_period_us = asked.cpu_period_us.filter(|period| *period > 0).or(after.cpu_period_us);
    after.memory_limit_bytes = asked.memory_limit_bytes.filter(|bytes| *bytes != 0).or(after.memory_limit_bytes);
    after
}

/// The pod as it is going to be, if the request changes how many CPUs the container may own.
fn resized(
    rules: &Rules,
    roster: &Roster,
    sandbox: &Sandbox,
    (container, after): (&SandboxContainer, &ToldResources),
) -> Option<Newcomer> {
    let known = rules.managers.active().get(&sandbox.uid);
    let claimed = |pod: &Pod| {
        let container = pod.containers.iter().find(|known| known.name == container.name);
        container.and_then(|container| rules.managers.cpu().claim(pod, container).ok()).map_or(0, CpuClaim::cpus)
    };
    let before = Newcomer::new(roster, known, sandbox, (container, container.resources.as_ref()?))?;
    let after = Newcomer::new(roster, known, sandbox, (container, after))?;
    (claimed(&before.pod) != claimed(&after.pod)).then_some(after)
}

fn infeasible() -> Refused {
    Refused {
        reason: INFEASIBLE.to_owned(),
        message: "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy".to_owned(),
    }
}
