//! The files of one container, with the cgroups inside it.

use trimtab_domain::cgroup::Version;
use trimtab_domain::cgroup::tree::{ContainerCgroup, Cpuset, PodCgroup};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};
use trimtab_domain::record::{Original, Record};
use trimtab_domain::roster::ContainerState;

use super::restore::Way;
use super::{Planner, When};
use crate::subsystems::pinning::decide::Rule;
use crate::subsystems::pinning::facts::{self, CPUS, MEMS, file_object};
use crate::subsystems::pinning::step::{Expected, PinStep};
use crate::subsystems::pinning::transition::{self, Move};
use crate::subsystems::pinning::writers::Via;

/// What becomes of a text that somebody else wrote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Foreign {
    /// It stays, and that is reported: nothing is wished any more.
    Keep,
    /// It is drift: the original is what is wished.
    Overwrite,
}

/// What a file of a container should hold.
enum Wish {
    /// This set; `exclusive` if nobody else may use it.
    Set { set: CpuSet, exclusive: bool },
    /// The original.
    Original,
    /// Whatever it holds.
    Nothing,
}

impl Planner<'_> {
    pub(super) fn plan_container(&mut self, pod: &PodCgroup, container: &ContainerCgroup, is_real: bool) {
        if self.is_being_made(container) {
            return;
        }
        // Both files of one container go into the same chains: a pin is of use only as a whole.
        for file in [CPUS, MEMS] {
            match self.wish(container, file, is_real) {
                Wish::Nothing => {}
                Wish::Original => self.restore_container(pod, container, file, Foreign::Keep),
                Wish::Set { set, .. } if self.original_is(pod, &container.cpuset, file, &set) => {
                    self.restore_container(pod, container, file, Foreign::Overwrite);
                }
                Wish::Set { set, exclusive } => self.enforce(pod, container, (file, &set, exclusive)),
            }
        }
    }

    fn wish(&self, container: &ContainerCgroup, file: &'static str, is_real: bool) -> Wish {
        let holding = self.decision.holdings.get(&container.cpuset.path);
        match (self.rule(file), is_real, file) {
            (Rule::LeaveAlone, ..) => Wish::Nothing,
            (Rule::Enforce, true, CPUS) => match holding.and_then(|holding| self.decision.cpus_of(holding)) {
                Some(set) => Wish::Set { set, exclusive: true },
                None if self.decision.shared.is_empty() => Wish::Nothing,
                None => Wish::Set { set: self.decision.shared.clone(), exclusive: false },
            },
            (Rule::Enforce, true, _) if holding.is_some_and(|holding| holding.nodes.is_some()) => {
                let nodes = holding.and_then(|holding| holding.nodes).unwrap_or_default();
                Wish::Set { set: nodes.iter().collect(), exclusive: true }
            }
            (_, true, MEMS) if self.decision.cpus == Rule::Enforce && self.fills(&container.cpuset) => {
                Wish::Set { set: self.usable(MEMS), exclusive: false }
            }
            // Its cgroup goes in a moment. Should something run in it all the same, it stays where it is.
            (Rule::Enforce, false, _) if self.observed.is_over(container) => Wish::Nothing,
            _ => Wish::Original,
        }
    }

    /// True if version 1 needs memory nodes where there are none, before a process can enter.
    fn fills(&self, cpuset: &Cpuset) -> bool {
        let empty = facts::configured(cpuset, MEMS) == Some("") || self.was_empty(cpuset, MEMS);
        !self.inherits && empty
    }

    /// True if the recorded original is the wish: then the original comes back, and nothing need be remembered.
    fn original_is(&self, pod: &PodCgroup, cpuset: &Cpuset, file: &str, set: &CpuSet) -> bool {
        let Some(record) = self.record(cpuset, file) else { return false };
        match &record.original {
            Original::Value(text) if text.is_empty() => {
                self.inherits && facts::effective(&pod.cpuset, file).as_ref() == Some(set)
            }
            Original::Value(text) => CpuSet::parse(text).as_ref() == Ok(set),
            Original::Absent => facts::effective(&pod.cpuset, file).as_ref() == Some(set),
            Original::Unknown => false,
        }
    }

    /// True if the set of a container is the agent's own without a pass having written it: the runtime was told it when the
    /// container was created, and no kubelet tells one that leaves pinning to us; or it was told since, in the answer to a
    /// request for another one. Then there is no original but "as the pod".
    fn is_born_with(&self, container: &ContainerCgroup, file: &str, set: &CpuSet) -> bool {
        let desk = &self.observed.desk;
        let told = desk.roster.container(&container.id).and_then(|known| known.resources.as_ref());
        let told = told.map(|told| if file == CPUS { told.cpus.as_str() } else { told.mems.as_str() });
        let is_told = told.is_some_and(|told| CpuSet::parse(told).as_ref() == Ok(set));
        let is_answered = || desk.born_pinned.contains(&container.id) || desk.answered.get(&container.id) == Some(set);
        !set.is_empty() && (is_told || file == CPUS && is_answered())
    }

    fn enforce(
        &mut self,
        pod: &PodCgroup,
        container: &ContainerCgroup,
        (file, set, exclusive): (&'static str, &CpuSet, bool),
    ) {
        let cpuset = &container.cpuset;
        let Some(text) = facts::configured(cpuset, file) else {
            return self.refuse_absent(pod, container, file, set);
        };
        let object = file_object(&cpuset.path, file);
        let effective = facts::effective(cpuset, file).unwrap_or_default();
        let configured = facts::configured_set(cpuset, file);
        let inherits = text.is_empty() && self.inherits;
        let ordered = set.to_string();
        if file == MEMS && self.would_move_pages(&effective, set) {
            return self.report_pages(pod, container, (set, &effective));
        }
        let born = configured.as_ref().is_some_and(|set| self.is_born_with(container, file, set));
        let original = if born { Original::Absent } else { Original::Value(text.to_owned()) };
        if configured.as_ref() == Some(set) || (inherits && effective == *set) {
            let is_everything = facts::effective(&pod.cpuset, file).as_ref() == Some(set);
            if self.record(cpuset, file).is_some() || (born && !is_everything) {
                self.promise_back(&object, original, &ordered);
            }
            return;
        }
        self.promise_back(&object, original, &ordered);
        let now = if inherits { effective } else { configured.unwrap_or_default() };
        if exclusive && file == CPUS && self.record(cpuset, CPUS).is_some() && !now.is_empty() {
            return self.replace(container, &now, set);
        }
        if exclusive || now.is_empty() {
            self.change(container, file, (&now, set), When::Pin);
            return;
        }
        let kept = now.intersection(set);
        if kept.is_empty() {
            let free = if file == CPUS { self.owners.without_theirs(&cpuset.path, set) } else { CpuSet::new() };
            let way = if free.is_empty() { set } else { &free };
            self.change(container, file, (&now, way), When::Move);
            if way != set {
                self.change(container, file, (way, set), When::Grow);
            }
            return;
        }
        if kept != now {
            self.change(container, file, (&now, &kept), When::Shrink);
        }
        if kept != *set {
            self.change(container, file, (&kept, set), When::Grow);
        }
    }

    /// Brings a container that has CPUs of its own to others. What it is to leave another one may be about to get, so it
    /// leaves first and comes to its new CPUs when all have left.
    fn replace(&mut self, container: &ContainerCgroup, now: &CpuSet, set: &CpuSet) {
        let path = &container.cpuset.path;
        let kept = now.intersection(set);
        let mut here = now.clone();
        if !kept.is_empty() {
            if kept != here {
                self.change(container, CPUS, (&here, &kept), When::Shrink);
                here = kept;
            }
        } else if self.owners.is_awaited(path, now) {
            // Nothing of its place remains, and somebody waits for it: on the way it runs where nobody owns anything.
            let way = self.owners.without_theirs(path, &self.decision.shared);
            if !way.is_empty() {
                self.change(container, CPUS, (&here, &way), When::Move);
                here = way;
            }
        }
        // What it shares with others it comes to when those who owned it have left.
        let shared = set.intersection(&self.decision.shared).difference(&here);
        let pinned = set.difference(&shared);
        if !pinned.is_empty() && pinned != here {
            self.change(container, CPUS, (&here, &pinned), When::Pin);
            here = pinned;
        }
        if here != *set {
            self.change(container, CPUS, (&here, set), When::Grow);
        }
    }

    /// The writes that bring a container from one set to another, with the cgroups inside it.
    fn change(&mut self, container: &ContainerCgroup, file: &'static str, (old, new): (&CpuSet, &CpuSet), when: When) {
        let mut moves = vec![Move { item: &container.cpuset, old: old.clone(), new: new.clone() }];
        for inner in &container.inner {
            let Ok(now) = CpuSet::parse(&self.text(inner, file)) else { continue };
            let target = transition::inner_target(&now, old, new);
            if target != now {
                let text = facts::configured(inner, file).unwrap_or_default().to_owned();
                self.promise(&file_object(&inner.path, file), &text, &target.to_string());
            }
            moves.push(Move { item: inner, old: now, new: target });
        }
        let chain = self.chain(&moves, file);
        let chain = chain.into_iter().map(|step| self.by_its_writer(container, step, when)).collect();
        self.push(when, chain);
    }

    /// Gives the write to a container's own cgroup to the safest writer, and has it read back.
    fn by_its_writer(&mut self, container: &ContainerCgroup, step: PinStep, when: When) -> PinStep {
        let PinStep::Write(mut write) = step else { return step };
        let Some(tree) = self.observed.tree.as_ref().filter(|_| write.path == container.cpuset.path) else {
            return PinStep::Write(write);
        };
        write.via = self.observed.writers.for_container(tree, container);
        write.narrows = when == When::Shrink;
        if !write.narrows {
            write.grows_at = Some(self.decision.version);
        }
        if when == When::Pin && write.file == CPUS && self.record(&container.cpuset, CPUS).is_none() {
            write.first_pin = self.observed.newcomers.get(&container.id).copied();
        }
        let read_back = match when {
            When::Shrink | When::Move => Some(When::ReadShrunk),
            When::Pin => Some(When::ReadPinned),
            _ => None,
        };
        if let (Some(at), false, Ok(within)) = (read_back, write.via == Via::File, CpuSet::parse(&write.new)) {
            let file = effective_file(tree.version, write.file == CPUS);
            self.expected.entry(at).or_default().push(Expected {
                object: write.object.clone(),
                path: write.path.clone(),
                file,
                within,
            });
        }
        PinStep::Write(write)
    }

    /// True if the runtime, which has asked about this container, has made its cgroup and not filled it yet. Version 1 lets
    /// no process into an empty one (cgroup-v1/cpusets.rst), so there is nothing to pin; on version 2 only the runtime's own
    /// process is in it, which sets what it was told before the container's begins. Whoever writes now waits until the
    /// runtime has started the container, or has systemd put its own device filter anew just when runc replaces it, and
    /// then the start fails. That it starts is told.
    fn is_being_made(&self, container: &ContainerCgroup) -> bool {
        let is_empty = facts::configured(&container.cpuset, CPUS) == Some("");
        let desk = &self.observed.desk;
        let known = desk.roster.container(&container.id).filter(|_| desk.connected);
        let awaited = !self.inherits || desk.born_pinned.contains(&container.id);
        // In the very request to create it, some runtimes do not say yet that it is created.
        let is_made = |state| matches!(state, ContainerState::Created | ContainerState::Unknown);
        awaited && is_empty && known.is_some_and(|known| is_made(known.state))
    }

    /// True if version 2 would move pages of processes that run (cgroup-v2.rst, "cpuset.mems"), and nobody asked for
    /// that. A wider set moves none.
    fn would_move_pages(&self, effective: &CpuSet, set: &CpuSet) -> bool {
        self.inherits && !self.limits.migrate_memory && !effective.is_subset(set)
    }

    fn chain(&mut self, moves: &[Move<&Cpuset>], file: &'static str) -> Vec<PinStep> {
        // Without cgroups inside nothing can be in the way: the directories above are as wide as they get.
        let writes = match moves {
            [only] => vec![(only.item, only.new.clone())],
            _ => transition::writes(moves),
        };
        writes.into_iter().map(|(cpuset, set)| self.write(cpuset, file, &set.to_string())).collect()
    }

    /// Gives a container and the cgroups inside it back, as far as they are recorded.
    fn restore_container(
        &mut self,
        pod: &PodCgroup,
        container: &ContainerCgroup,
        file: &'static str,
        foreign: Foreign,
    ) {
        let inherited = facts::effective(&pod.cpuset, file).unwrap_or_else(|| self.usable(file));
        let mut moves = Vec::new();
        for cpuset in std::iter::once(&container.cpuset).chain(&container.inner) {
            let Some(text) = facts::configured(cpuset, file) else { continue };
            let Ok(old) = CpuSet::parse(text) else { continue };
            let mut new = old.clone();
            if let Some(record) = self.record(cpuset, file).cloned() {
                match (self.way(&record, Some(text), &inherited), foreign) {
                    (Way::Forget, _) => self.forget(&record.object),
                    (Way::Keep, Foreign::Keep) => self.refuse_restore(&record),
                    (Way::Keep, Foreign::Overwrite) | (Way::Write(_), _) => {
                        self.forget(&record.object);
                        new = original_set(&record);
                    }
                }
            }
            moves.push(Move { item: cpuset, old, new });
        }
        // An empty set is nothing to grow to: it is written last, from the inside out.
        let emptied = |step: &Move<&Cpuset>| step.new.is_empty() && !step.old.is_empty();
        let last: Vec<&Cpuset> = moves.iter().rev().filter(|step| emptied(step)).map(|step| step.item).collect();
        moves.retain(|step| !emptied(step));
        let mut chain = self.chain_back(&moves, file, &inherited);
        chain.extend(last.into_iter().map(|cpuset| self.write_back(cpuset, file, "", &inherited)));
        let chain = chain.into_iter().map(|step| self.by_its_writer(container, step, When::Grow)).collect();
        self.push(When::Grow, chain);
    }

    fn chain_back(&mut self, moves: &[Move<&Cpuset>], file: &'static str, inherited: &CpuSet) -> Vec<PinStep> {
        let writes = match moves {
            [only] if only.old != only.new => vec![(only.item, only.new.clone())],
            _ => transition::writes(moves),
        };
        writes.into_iter().map(|(cpuset, set)| self.write_back(cpuset, file, &set.to_string(), inherited)).collect()
    }

    fn refuse_absent(&mut self, pod: &PodCgroup, container: &ContainerCgroup, file: &str, set: &CpuSet) {
        self.plan.refusals.push(Refusal {
            object: file_object(&container.cpuset.path, file),
            wish: set.to_string(),
            cause: Cause::Absent,
            detail: format!(
                "{} has no {file}: the controller cpuset is not enabled in cgroup.subtree_control of its pod; enable it \
                 there, or let the runtime do so",
                self.observed.display_name(pod, container)
            ),
        });
    }

    fn report_pages(&mut self, pod: &PodCgroup, container: &ContainerCgroup, (set, effective): (&CpuSet, &CpuSet)) {
        self.plan.findings.push(Finding {
            severity: Severity::Info,
            code: "memory-not-moved",
            object: self.observed.display_name(pod, container),
            message: format!(
                "its memory belongs on NUMA nodes {set} and may be on {effective}: it runs, and the kernel would move its \
                 pages"
            ),
            remedy: "start it again, or set resourceManagers.extensions.migrateMemory".into(),
        });
    }
}

/// The set that a record remembers; empty if it remembers none.
fn original_set(record: &Record) -> CpuSet {
    match &record.original {
        Original::Value(text) => CpuSet::parse(text).unwrap_or_default(),
        Original::Absent | Original::Unknown => CpuSet::new(),
    }
}

/// The file that shows what is in force of a set (cgroup-v2.rst; `kernel/cgroup/cpuset-v1.c`).
const fn effective_file(version: Version, is_cpus: bool) -> &'static str {
    match (version, is_cpus) {
        (Version::V1, true) => "cpuset.effective_cpus",
        (Version::V1, false) => "cpuset.effective_mems",
        (Version::V2, true) => "cpuset.cpus.effective",
        (Version::V2, false) => "cpuset.mems.effective",
    }
}
