//! A ledger in memory. It models what the subsystems rely on: the first original is kept, a commit is all or
//! nothing, and a commit can fail (a full disk).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use trimtab::ports::{Ledger, LedgerError};
use trimtab_domain::record::{LedgerChange, Record};

/// Records by subsystem and object.
pub(crate) type Records = BTreeMap<(String, String), Record>;

/// Records in memory. Clones share the same ledger, so a subsystem built anew on a clone is an agent that restarted.
#[derive(Clone, Default)]
pub(crate) struct FakeLedger {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<(String, String), Record>,
    failing: usize,
    commits: usize,
}

impl FakeLedger {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The next `times` commits fail.
    pub(crate) fn fail_commits(&self, times: usize) {
        self.state.lock().unwrap().failing = times;
    }

    /// Puts a record in, as an earlier run of the agent would have.
    pub(crate) fn insert(&self, subsystem: &str, record: Record) {
        let key = (subsystem.to_owned(), record.object.clone());
        self.state.lock().unwrap().records.insert(key, record);
    }

    /// The record of one object.
    pub(crate) fn record(&self, subsystem: &str, object: &str) -> Option<Record> {
        self.state.lock().unwrap().records.get(&(subsystem.to_owned(), object.to_owned())).cloned()
    }

    /// How many commits reached the ledger since the last call.
    pub(crate) fn take_commits(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().commits)
    }

    /// Everything is lost.
    pub(crate) fn lose(&self) {
        self.state.lock().unwrap().records.clear();
    }

    /// Every record, to compare before with after.
    pub(crate) fn snapshot(&self) -> Records {
        self.state.lock().unwrap().records.clone()
    }
}

impl Ledger for FakeLedger {
    fn records(&self, subsystem: &str) -> Vec<Record> {
        let state = self.state.lock().unwrap();
        state.records.iter().filter(|((name, _), _)| name == subsystem).map(|(_, record)| record.clone()).collect()
    }

    fn commit(&self, subsystem: &str, changes: &[LedgerChange]) -> Result<(), LedgerError> {
        let mut state = self.state.lock().unwrap();
        if state.failing > 0 {
            state.failing -= 1;
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(LedgerError { op: "write", path: PathBuf::from("/var/lib/trimtab/ledger"), source });
        }
        state.commits += 1;
        for change in changes {
            match change {
                LedgerChange::Promise(record) => {
                    let kept = state.records.entry((subsystem.to_owned(), record.object.clone()));
                    kept.and_modify(|known| known.ordered.clone_from(&record.ordered))
                        .or_insert_with(|| record.clone());
                }
                LedgerChange::Forget { object } => {
                    state.records.remove(&(subsystem.to_owned(), object.clone()));
                }
            }
        }
        Ok(())
    }
}
