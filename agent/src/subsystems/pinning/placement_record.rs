//! How the ledger remembers that a container owns CPUs or is bound to NUMA nodes.
//!
//! The records of the files alone do not tell: a refused container that runs on a shared pool of just as many CPUs as
//! it asks for looks like a pinned one.

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::hint::NumaMask;
use trimtab_domain::record::{Original, Record};

/// Ending of the object's name; no cgroup file has it.
const SUFFIX: &str = "#placement";

/// What a container holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Holding {
    /// Exclusive CPUs; `None`: it runs on the shared ones.
    pub(super) cpus: Option<CpuSet>,
    /// NUMA nodes of its memory; `None`: all.
    pub(super) nodes: Option<NumaMask>,
    /// True if it runs on the shared CPUs besides its own, as an annotation of its pod says; the ledger does not know.
    pub(super) and_shared: bool,
}

impl Holding {
    pub(super) const fn is_nothing(&self) -> bool {
        self.cpus.is_none() && self.nodes.is_none()
    }

    /// The record of a container's holding.
    pub(super) fn to_record(&self, path: &str) -> Record {
        let mut words = Vec::new();
        words.extend(self.cpus.as_ref().map(|cpus| format!("cpus={cpus}")));
        words.extend(self.nodes.map(|nodes| format!("mems={}", nodes.iter().collect::<CpuSet>())));
        Record { object: object(path), original: Original::Absent, ordered: words.join(" ") }
    }

    /// Reads a record; `None` if it is none of ours.
    pub(super) fn from_record(record: &Record) -> Option<(&str, Self)> {
        let path = record.object.strip_suffix(SUFFIX)?;
        let mut holding = Self::default();
        for word in record.ordered.split_whitespace() {
            let (key, list) = word.split_once('=')?;
            let set = CpuSet::parse(list).ok()?;
            match key {
                "cpus" => holding.cpus = Some(set),
                "mems" => holding.nodes = Some(set.iter().collect()),
                _ => return None,
            }
        }
        Some((path, holding))
    }
}

/// Object of the holding of the container with this cgroup.
pub(super) fn object(path: &str) -> String {
    format!("{path}{SUFFIX}")
}

/// The cgroup that an object is about, if it is a holding.
pub(super) fn path_of(object: &str) -> Option<&str> {
    object.strip_suffix(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holdings_survive_the_ledger() {
        let cpus = CpuSet::range(2, 3);
        for holding in [
            Holding { cpus: Some(cpus.clone()), nodes: None, and_shared: false },
            Holding { cpus: Some(cpus), nodes: Some(NumaMask(0b101)), and_shared: false },
            Holding { cpus: None, nodes: Some(NumaMask(2)), and_shared: false },
        ] {
            let record = holding.to_record("kubepods/podx/y");
            assert_eq!(Holding::from_record(&record), Some(("kubepods/podx/y", holding)), "{}", record.ordered);
        }
        let file = Record { object: "a/cpuset.cpus".into(), original: Original::Absent, ordered: "0-1".into() };
        assert_eq!(Holding::from_record(&file), None);
    }
}
