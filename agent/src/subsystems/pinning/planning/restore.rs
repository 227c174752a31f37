//! Originals come back where nothing is wished any more.

use trimtab_domain::cgroup::tree::Cpuset;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::plan::{Cause, Refusal};
use trimtab_domain::record::{LedgerChange, Original, Record};

use super::{Planner, When};
use crate::subsystems::pinning::facts::{self, CPUS, MEMS, file_object};
use crate::subsystems::pinning::step::{FileWrite, PinStep};
use crate::subsystems::pinning::writers::QUOTA;

/// How a recorded file goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It has its original, or nobody knows it: only forget.
    Forget,
    /// Write this text, then forget.
    Write(String),
    /// Somebody else changed it since.
    Keep,
}

/// Decides how a file goes back. `inherited` is what an empty text stands for.
fn way(record: &Record, now: Option<&str>, inherited: Option<&CpuSet>) -> Way {
    let (was, now) = match (&record.original, now) {
        (Original::Value(was), Some(now)) => (was.as_str(), now),
        // It was made with the order: what it inherits is what it would have had.
        (Original::Absent, Some(now)) => ("", now),
        (Original::Unknown, _) | (_, None) => return Way::Forget,
    };
    let set = |text: &str| match (text, inherited) {
        ("", Some(inherited)) => Some(inherited.clone()),
        _ => CpuSet::parse(text).ok(),
    };
    if now == was || (set(now).is_some() && set(now) == set(was)) {
        return Way::Forget;
    }
    // Within the order: version 1 takes CPUs out of the file that go offline, and a pass that was cut off has only shrunk.
    let ours = match (set(now), set(&record.ordered)) {
        (Some(now), Some(ordered)) => now.is_subset(&ordered),
        _ => false,
    };
    if ours { Way::Write(was.to_owned()) } else { Way::Keep }
}

/// The same for a bound of CPU time: one that is not lifted any more is somebody else's.
fn bound_way(record: &Record, now: &str) -> Way {
    match &record.original {
        Original::Value(was) if now == record.ordered => Way::Write(was.clone()),
        _ => Way::Forget,
    }
}

impl Planner<'_> {
    pub(super) fn way(&self, record: &Record, now: Option<&str>, inherited: &CpuSet) -> Way {
        let born = record.original == Original::Absent;
        way(record, now, (self.inherits || born).then_some(inherited))
    }

    pub(super) fn record(&self, cpuset: &Cpuset, file: &str) -> Option<&Record> {
        self.observed.records.get(&file_object(&cpuset.path, file))
    }

    /// True if the file was empty before the agent wrote it.
    pub(super) fn was_empty(&self, cpuset: &Cpuset, file: &str) -> bool {
        self.record(cpuset, file).is_some_and(|record| record.original == Original::Value(String::new()))
    }

    pub(super) fn forget(&mut self, object: &str) {
        self.after.push(LedgerChange::Forget { object: object.to_owned() });
    }

    /// Gives a directory back; for one that was empty that is possible only without processes, so it stays as wide as
    /// everything.
    pub(super) fn restore_directory(&mut self, directory: &Cpuset, file: &'static str, when: When) {
        let Some(record) = self.record(directory, file).cloned() else { return };
        let all = self.usable(file);
        match self.way(&record, facts::configured(directory, file), &all) {
            Way::Forget => self.forget(&record.object),
            Way::Keep => self.refuse_restore(&record),
            Way::Write(text) => {
                let step = self.write_back(directory, file, &text, &all);
                self.push(when, vec![step]);
                self.forget(&record.object);
            }
        }
    }

    /// A write of an original text.
    pub(super) fn write_back(
        &mut self,
        cpuset: &Cpuset,
        file: &'static str,
        text: &str,
        inherited: &CpuSet,
    ) -> PinStep {
        let step = self.write(cpuset, file, text);
        match step {
            PinStep::Write(write) => PinStep::Write(FileWrite {
                when_populated: text.is_empty().then(|| inherited.to_string()),
                repair: false,
                ..write
            }),
            PinStep::Ledger(_) | PinStep::Verify(_) => step,
        }
    }

    pub(super) fn refuse_restore(&mut self, record: &Record) {
        let was = match &record.original {
            Original::Value(was) => was.clone(),
            Original::Absent | Original::Unknown => String::new(),
        };
        self.plan.refusals.push(Refusal {
            object: record.object.clone(),
            wish: if was.is_empty() { "(empty)".into() } else { was },
            cause: Cause::ChangedByOther,
            detail: format!(
                "somebody changed it since {} was ordered, so the original is not restored over it; write it by hand if \
                 that is wanted",
                record.ordered
            ),
        });
    }

    /// A recorded file outside the tree of pods, for instance of the driver that was in use before.
    pub(super) fn restore_stray(&mut self, record: &Record, now: &str) {
        let named = [CPUS, MEMS].into_iter().chain(QUOTA).find_map(|file| {
            let path = record.object.strip_suffix(file)?.strip_suffix('/')?;
            Some((path.to_owned(), file))
        });
        let Some((path, file)) = named else { return self.forget(&record.object) };
        let all = self.usable(file);
        let way = if QUOTA.contains(&file) { bound_way(record, now) } else { self.way(record, Some(now), &all) };
        match way {
            Way::Forget => self.forget(&record.object),
            Way::Keep => self.refuse_restore(record),
            Way::Write(text) => {
                let text_now = Some(now.to_owned());
                let cpuset = match file {
                    CPUS => Cpuset { path, cpus: text_now, ..Cpuset::default() },
                    _ => Cpuset { path, mems: text_now, ..Cpuset::default() },
                };
                let step = self.write_back(&cpuset, file, &text, &all);
                self.push(When::Grow, vec![step]);
                self.forget(&record.object);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_goes_back_unless_somebody_else_changed_it() {
        let write = |text: &str| Way::Write(text.into());
        let rows = [
            ("ours", "0-3", "0-1", Some("0-1"), write("0-3")),
            ("inherited before", "", "0-1", Some("0-1"), write("")),
            ("original already", "0-3", "0-1", Some("0-3"), Way::Forget),
            ("as wide as inherited", "", "0-1", Some("0-3"), Way::Forget),
            ("a CPU went offline", "0-3", "1-2", Some("1"), write("0-3")),
            ("changed", "0-3", "0-1", Some("2"), Way::Keep),
            ("no list", "0-3", "0-1", Some("x"), Way::Keep),
            ("gone", "0-3", "0-1", None, Way::Forget),
        ];
        for (name, was, ordered, now, expected) in rows {
            let record = Record { object: "o".into(), original: Original::Value(was.into()), ordered: ordered.into() };
            assert_eq!(way(&record, now, Some(&CpuSet::range(0, 3))), expected, "{name}");
        }
        let lost = Record { object: "o".into(), original: Original::Unknown, ordered: "0".into() };
        assert_eq!(way(&lost, Some("0"), None), Way::Forget);
    }
}
