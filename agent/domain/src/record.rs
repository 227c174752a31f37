//! What the ledger remembers of one object on the node, and how the original value comes back.

use serde::{Deserialize, Serialize};

/// What was there before the first write of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Original {
    /// The value that was read.
    Value(String),
    /// The object did not exist; giving it back means removing it.
    Absent,
    /// The ledger was lost; nobody knows any more.
    Unknown,
}

/// One object that a subsystem has promised to give back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Name of the object, unique within its subsystem, for instance `net.core.somaxconn`.
    pub object: String,
    /// What was there before the first write.
    pub original: Original,
    /// What was last ordered, as the subsystem compares it; recorded before it is written.
    pub ordered: String,
}

/// A change to the ledger; all changes of one commit reach the disk together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerChange {
    /// Remember this object. The original of an object that is already known is kept.
    Promise(Record),
    /// The object was given back or is gone.
    Forget {
        /// Name of the object.
        object: String,
    },
}

/// How an object whose wish went away is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restoration {
    /// Write this value.
    Write(String),
    /// Remove the object, which did not exist before.
    Remove,
    /// It already has its original value; only forget it.
    AlreadyOriginal,
    /// Somebody else changed it since, or the original is unknown; leave it as it is.
    Leave,
}

impl Record {
    /// Decides how to give the object back. `current` is what the node shows now, `None` if the object is absent;
    /// `same` compares two values as the subsystem does.
    #[must_use]
    pub fn restoration(&self, current: Option<&str>, same: impl Fn(&str, &str) -> bool) -> Restoration {
        match (&self.original, current) {
            (Original::Unknown, _) => Restoration::Leave,
            (Original::Absent, None) => Restoration::AlreadyOriginal,
            (Original::Absent, Some(now)) if same(now, &self.ordered) => Restoration::Remove,
            (Original::Value(was), Some(now)) if same(now, was) => Restoration::AlreadyOriginal,
            (Original::Value(was), Some(now)) if same(now, &self.ordered) => Restoration::Write(was.clone()),
            (Original::Value(_) | Original::Absent, _) => Restoration::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn an_object_is_given_back_only_if_nobody_else_changed_it() {
        let value = |was: &str| Original::Value(was.into());
        let rows = [
            ("still ours", value("128"), Some("1024"), Restoration::Write("128".into())),
            ("already original", value("128"), Some("128"), Restoration::AlreadyOriginal),
            ("changed by another", value("128"), Some("7"), Restoration::Leave),
            ("gone", value("128"), None, Restoration::Leave),
            ("made by us", Original::Absent, Some("1024"), Restoration::Remove),
            ("made by us, then edited", Original::Absent, Some("7"), Restoration::Leave),
            ("made by us, then removed", Original::Absent, None, Restoration::AlreadyOriginal),
            ("original lost", Original::Unknown, Some("1024"), Restoration::Leave),
        ];
        for (name, original, current, expected) in rows {
            let record = Record { object: "x".into(), original, ordered: "1024".into() };
            assert_eq!(record.restoration(current, |a, b| a == b), expected, "{name}");
        }
    }
}
