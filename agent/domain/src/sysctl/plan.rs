//! The plan of one pass over the kernel parameters.
//!
//! First stage: the ledger remembers what it does not know yet. Second stage: one chain per group of keys that depend
//! on one another, each write in its place, what is to be forgotten last. Keys that reach others are decided first, and
//! what their writes will make of the others is taken into account, so that one pass suffices.

use std::collections::{BTreeMap, BTreeSet};

use super::give_back::{self, Records, Release};
use super::observation::{Access, Observation, Shown};
use super::order::{Group, group_of, place};
use super::ordered::Ordered;
use super::step::{Forgotten, Left, Occasion, SysctlStep, Write};
use super::wishes::{Wish, Wishes, finding};
use super::{SysctlKey, absent, side_effect, value};
use crate::plan::{Cause, Finding, Plan, Refusal, Severity, Stage};
use crate::record::{Original, Record};
use crate::spec::SysctlsSpec;

/// Plans one pass.
#[must_use]
pub fn plan(spec: &SysctlsSpec, seen: &Observation) -> Plan<SysctlStep> {
    let wishes = Wishes::resolve(spec, &seen.expansions);
    let (records, odd) = give_back::read_records(seen);
    let (releases, gone) = give_back::releases(seen, &wishes, &records);
    let mut planner = Planner {
        seen,
        wishes: &wishes.wishes,
        records,
        releases,
        expected: BTreeMap::new(),
        writes: Vec::new(),
        promises: BTreeMap::new(),
        forgotten: odd.into_iter().chain(gone).map(|forgotten| (None, forgotten)).collect(),
        refusals: wishes.refusals.clone(),
        findings: wishes.findings.clone(),
    };
    planner.decide_all();
    planner.find_files();
    planner.into_plan()
}

struct Planner<'a> {
    seen: &'a Observation,
    wishes: &'a BTreeMap<SysctlKey, Wish>,
    records: Records<'a>,
    releases: BTreeMap<SysctlKey, Release>,
    /// What keys will show after the writes decided so far, where that is not what they show now.
    expected: BTreeMap<SysctlKey, String>,
    writes: Vec<(SysctlKey, SysctlStep)>,
    promises: BTreeMap<SysctlKey, Record>,
    forgotten: Vec<(Option<Group>, Forgotten)>,
    refusals: Vec<Refusal>,
    findings: Vec<Finding>,
}

impl Planner<'_> {
    fn decide_all(&mut self) {
        let keys: BTreeSet<(usize, SysctlKey)> = self
            .wishes
            .keys()
            .chain(self.releases.keys())
            .map(|key| (side_effect::rank(key).unwrap_or(usize::MAX), key.clone()))
            .collect();
        for (_, key) in keys {
            match (self.wishes.get(&key), self.releases.get(&key).cloned()) {
                (Some(wish), _) => self.hold(&key, &wish.value),
                (None, Some(release)) => self.give_back(&key, &release),
                (None, None) => {}
            }
        }
    }

    fn hold(&mut self, key: &SysctlKey, wish: &str) {
        let (shown, access) = match self.seen.shown.get(key) {
            Some(Shown::Value(text, access)) => (text, *access),
            Some(Shown::Unreadable(why)) => {
                let detail = format!("its value cannot be read, so it could not be given back: {why}");
                return self.refuse(key, wish, Cause::Unsupported, detail);
            }
            Some(Shown::Absent) | None => {
                let detail = format!("this kernel has no {}; {}", key.path().display(), absent::remedy(key));
                return self.refuse(key, wish, Cause::Absent, detail);
            }
        };
        let now = self.expected.get(key).unwrap_or(shown).clone();
        let order = self.records.get(key).map(|(_, ordered)| ordered.clone());
        let granted = order.as_ref().is_some_and(|ordered| ordered.grants(&value::collapsed(wish), &now));
        if granted {
            self.tell_adjusted(key, wish, &now);
        }
        if granted || value::same(wish, &now) {
            if order.is_some() {
                self.promise(key, wish);
            }
            return;
        }
        if self.partner_brings_zero(key, wish) || self.refused(key, wish, access) {
            return;
        }
        let occasion = if order.is_some_and(|ordered| ordered.wish == value::collapsed(wish)) {
            Occasion::Repair
        } else {
            self.occasion_of_first_write(key)
        };
        self.promise(key, wish);
        let text = value::for_kernel(wish, shown);
        let write = Write { key: key.clone(), from: now, wish: wish.to_owned(), text, occasion };
        self.writes.push((key.clone(), SysctlStep::Write(write)));
        self.reach_others(key, wish, Reach::OfWish);
    }

    /// A key that the profile names and that was not written so far has shown its wish until somebody changed it,
    /// unless the profile is new, which the engine knows. One that a glob found may be new itself.
    fn occasion_of_first_write(&self, key: &SysctlKey) -> Occasion {
        match self.wishes.get(key) {
            Some(Wish { pattern: None, .. }) => Occasion::Repair,
            _ => Occasion::New,
        }
    }

    fn give_back(&mut self, key: &SysctlKey, release: &Release) {
        let Some(Shown::Value(shown, access)) = self.seen.shown.get(key) else { return };
        let now = self.expected.get(key).unwrap_or(shown).clone();
        self.tell_left(key, release);
        let differs = value::collapsed(&now) != value::collapsed(&release.to);
        if differs && !self.partner_brings_zero(key, &release.to) {
            if self.refused(key, &release.to, *access) {
                return;
            }
            let step = SysctlStep::GiveBack { key: key.clone(), from: now, to: release.to.clone() };
            self.writes.push((key.clone(), step));
            self.reach_others(key, &release.to, Reach::OfRelease);
        }
        let forgotten = Forgotten { object: key.to_string(), left: release.left.clone() };
        self.forgotten.push((group_of(key), forgotten));
    }

    /// Refuses a write that this node is known not to grant.
    fn refused(&mut self, key: &SysctlKey, wish: &str, access: Access) -> bool {
        if let Some((cause, detail)) = access.obstacle(&key.path().to_string_lossy()) {
            self.refuse(key, wish, cause, detail);
            return true;
        }
        let rejection = self.seen.rejections.get(key).filter(|rejection| rejection.wish == wish);
        let Some(rejection) = rejection.cloned() else { return false };
        self.refuse(key, wish, rejection.cause, rejection.detail);
        true
    }

    /// The kernel takes no 0 for one key of an exclusive pair; writing the other one brings it.
    fn partner_brings_zero(&self, key: &SysctlKey, wish: &str) -> bool {
        let Some(partner) = side_effect::exclusive_with(key).filter(|_| value::same(wish, "0")) else { return false };
        let wish = self.wishes.get(&partner).map(|wish| wish.value.as_str());
        wish.or(self.releases.get(&partner).map(|release| release.to.as_str())).is_some_and(|to| !value::same(to, "0"))
    }

    /// Remembers the order, and with it the value that is there now unless the ledger has one.
    fn promise(&mut self, key: &SysctlKey, wish: &str) {
        let Some(shown) = self.seen.shown.get(key).and_then(Shown::text) else { return };
        let mut ordered = Ordered::new(wish);
        let original = match self.records.get(key) {
            Some((_, known)) if known.wish == ordered.wish => return,
            Some((record, known)) => {
                // Until the write is done the older order stands, and is ours as well.
                ordered.before = known.is_ours(shown).then(|| value::collapsed(shown));
                record.original.clone()
            }
            None => Original::Value(shown.to_owned()),
        };
        let record = Record { object: key.to_string(), original, ordered: ordered.to_text() };
        self.promises.insert(key.clone(), record);
    }

    /// Notes what a write will make of other keys, and remembers what a wish takes from them.
    fn reach_others(&mut self, cause: &SysctlKey, written: &str, reach: Reach) {
        let others: Vec<(SysctlKey, String)> = self
            .seen
            .shown
            .iter()
            .filter(|(_, shown)| shown.text().is_some())
            .filter_map(|(key, _)| side_effect::on(key, cause, written).map(|effect| (key.clone(), effect)))
            .collect();
        for (key, effect) in others {
            if reach == Reach::OfWish && !self.releases.contains_key(&key) {
                let order = self.wishes.get(&key).map_or(&effect, |wish| &wish.value);
                self.promise(&key, &order.clone());
            }
            self.expected.insert(key, effect);
        }
    }

    fn tell_adjusted(&mut self, key: &SysctlKey, wish: &str, now: &str) {
        let message = format!("{wish} was written and the kernel shows {} for it", value::collapsed(now));
        let remedy = "write into the profile what the kernel shows, or a value within its bounds";
        self.findings.push(finding(Severity::Warning, "kernel-adjusted", key.as_str(), message, remedy));
    }

    fn tell_left(&mut self, key: &SysctlKey, release: &Release) {
        match &release.left {
            Left::ChangedByOther { now, original } => {
                let detail = format!(
                    "another program changed it to {} since it was written, so {}, which was there before, is not \
                     restored over it; write it by hand if you want it",
                    value::collapsed(now),
                    value::collapsed(original)
                );
                self.refuse(key, original, Cause::ChangedByOther, detail);
            }
            Left::OriginalUnknown => {
                let message =
                    "the ledger was lost, so nobody knows what it showed before; it stays as it is".to_owned();
                let remedy = "write the value that you want by hand";
                self.findings.push(finding(
                    Severity::Warning,
                    "sysctl-original-unknown",
                    key.as_str(),
                    message,
                    remedy,
                ));
            }
            Left::Original | Left::Gone | Left::NoKey => {}
        }
    }

    fn find_files(&mut self) {
        for (key, setting) in &self.seen.files {
            let Some(wish) = self.wishes.get(key) else { continue };
            if !value::same(&wish.value, &setting.value) {
                let message = format!(
                    "{} sets it to {}, at boot and whenever `sysctl --system` or systemd-sysctl runs; the profile asks \
                     for {}",
                    setting.path, setting.value, wish.value
                );
                let severity = if setting.path.ends_with(AKS_FILE) { Severity::Warning } else { Severity::Info };
                let remedy = "expect it to come back then, or take the line out of the file";
                self.findings.push(finding(severity, "sysctl-set-by-file", key.as_str(), message, remedy));
            }
        }
        for name in &self.seen.unspellable {
            let message = format!("{name:?} matches a glob but cannot be spelled as a key, so it is left out");
            self.findings.push(finding(Severity::Info, "sysctl-name-unspellable", name, message, ""));
        }
    }

    fn refuse(&mut self, key: &SysctlKey, wish: &str, cause: Cause, detail: String) {
        self.refusals.push(Refusal { object: key.to_string(), wish: wish.to_owned(), cause, detail });
    }

    fn into_plan(self) -> Plan<SysctlStep> {
        let mut plan = Plan { stages: Vec::new(), refusals: self.refusals, findings: self.findings };
        plan.refusals.sort();
        plan.findings.sort();
        if !self.promises.is_empty() {
            plan.push_stage(Stage::from_iter([SysctlStep::Remember(self.promises.into_values().collect())]));
        }
        let mut stage = Stage::default();
        let mut groups: BTreeMap<Group, Vec<(SysctlKey, SysctlStep)>> = BTreeMap::new();
        let mut forgotten = self.forgotten;
        for (key, step) in self.writes {
            if let Some(group) = group_of(&key) {
                groups.entry(group).or_default().push((key, step));
            } else {
                let own = forgotten.extract_if(.., |(_, forgotten)| forgotten.object == key.as_str());
                let own: Vec<Forgotten> = own.map(|(_, forgotten)| forgotten).collect();
                stage.push_chain([step].into_iter().chain(forget(own)).collect());
            }
        }
        for (group, mut writes) in groups {
            writes.sort_by_key(|(key, step)| place_of(key, step));
            let own = forgotten.extract_if(.., |(of, _)| *of == Some(group)).map(|(_, forgotten)| forgotten).collect();
            stage.push_chain(writes.into_iter().map(|(_, step)| step).chain(forget(own)).collect());
        }
        let rest: Vec<Forgotten> = forgotten.into_iter().map(|(_, forgotten)| forgotten).collect();
        stage.push_chain(forget(rest).into_iter().collect());
        plan.push_stage(stage);
        plan
    }
}

/// The file that AKS puts on its nodes; it sorts after any other, so it wins.
const AKS_FILE: &str = "/999-sysctl-aks.conf";

/// Whether other keys are reached by a wish, which must remember them, or by giving back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    OfWish,
    OfRelease,
}

fn forget(forgotten: Vec<Forgotten>) -> Option<SysctlStep> {
    (!forgotten.is_empty()).then_some(SysctlStep::Forget(forgotten))
}

fn place_of(key: &SysctlKey, step: &SysctlStep) -> (u8, usize) {
    match step {
        SysctlStep::Write(write) => place(key, &write.from, &write.wish),
        SysctlStep::GiveBack { from, to, .. } => place(key, from, to),
        SysctlStep::Remember(_) | SysctlStep::Forget(_) => (u8::MAX, usize::MAX),
    }
}

#[cfg(test)]
mod tests;
