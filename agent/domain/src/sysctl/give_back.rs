//! What becomes of keys that the ledger remembers and the profile no longer names.

use std::collections::BTreeMap;

use super::observation::{Observation, Shown};
use super::ordered::Ordered;
use super::step::{Forgotten, Left};
use super::wishes::Wishes;
use super::{SysctlKey, side_effect, value};
use crate::record::{Original, Record};

/// The ledger's records by key, each with its order read.
pub(super) type Records<'a> = BTreeMap<SysctlKey, (&'a Record, Ordered)>;

/// A key that is given back: what it must show in the end, and how it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) to: String,
    pub(super) left: Left,
}

/// Reads the records; those whose object is no key are returned apart.
pub(super) fn read_records(seen: &Observation) -> (Records<'_>, Vec<Forgotten>) {
    let mut records = Records::new();
    let mut odd = Vec::new();
    for record in &seen.records {
        match SysctlKey::parse(&record.object) {
            Ok(key) => {
                records.insert(key, (record, Ordered::parse(&record.ordered)));
            }
            Err(_) => odd.push(Forgotten { object: record.object.clone(), left: Left::NoKey }),
        }
    }
    (records, odd)
}

/// The keys to be given back now, and those that are gone.
pub(super) fn releases(
    seen: &Observation,
    wishes: &Wishes,
    records: &Records<'_>,
) -> (BTreeMap<SysctlKey, Release>, Vec<Forgotten>) {
    let mut releases = BTreeMap::new();
    let mut gone = Vec::new();
    for (key, (record, ordered)) in records {
        if wishes.wishes.contains_key(key) {
            continue;
        }
        match seen.shown.get(key) {
            None | Some(Shown::Absent) => gone.push(Forgotten { object: record.object.clone(), left: Left::Gone }),
            // A wish still reaches it: the record waits for the end of that wish.
            Some(_) if is_reached(key, wishes) => {}
            Some(Shown::Unreadable(_)) => {}
            Some(Shown::Value(now, _)) => {
                releases.insert(key.clone(), release(key, record, ordered, now, records));
            }
        }
    }
    leave_pairs_that_others_use(&mut releases, seen);
    (releases, gone)
}

fn is_reached(key: &SysctlKey, wishes: &Wishes) -> bool {
    wishes.wishes.iter().any(|(cause, wish)| side_effect::on(key, cause, &wish.value).is_some())
}

fn release(key: &SysctlKey, record: &Record, ordered: &Ordered, now: &str, records: &Records<'_>) -> Release {
    let Original::Value(was) = &record.original else {
        return Release { to: now.to_owned(), left: Left::OriginalUnknown };
    };
    // If the agent was stopped between two writes, one of them may have changed this key, too.
    let reached = records.iter().any(|(cause, (record, ordered))| {
        values_of(record, ordered)
            .any(|value| side_effect::on(key, cause, value).is_some_and(|value| value::same(&value, now)))
    });
    if ordered.is_ours(now) || reached || value::collapsed(now) == value::collapsed(was) {
        Release { to: was.clone(), left: Left::Original }
    } else {
        changed_by_other(now, was)
    }
}

/// Every value that we may have written to a key.
fn values_of<'a>(record: &'a Record, ordered: &'a Ordered) -> impl Iterator<Item = &'a str> {
    let original = match &record.original {
        Original::Value(value) => Some(value.as_str()),
        Original::Absent | Original::Unknown => None,
    };
    [original, Some(ordered.wish.as_str()), ordered.read_back.as_deref(), ordered.before.as_deref()]
        .into_iter()
        .flatten()
}

fn changed_by_other(now: &str, was: &str) -> Release {
    Release { to: now.to_owned(), left: Left::ChangedByOther { now: now.to_owned(), original: was.to_owned() } }
}

/// Giving back one key of an exclusive pair would set to 0 what another program wrote to its partner.
fn leave_pairs_that_others_use(releases: &mut BTreeMap<SysctlKey, Release>, seen: &Observation) {
    let taken: Vec<SysctlKey> = releases
        .iter()
        .filter(|(_, release)| matches!(release.left, Left::ChangedByOther { .. }) && !value::same("0", &release.to))
        .filter_map(|(key, _)| side_effect::exclusive_with(key))
        .collect();
    for key in taken {
        let now = seen.shown.get(&key).and_then(Shown::text);
        if let (Some(release), Some(now)) = (releases.get_mut(&key), now)
            && release.left == Left::Original
        {
            *release = changed_by_other(now, &release.to);
        }
    }
}
