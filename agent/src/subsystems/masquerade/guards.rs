//! What the node shows of the guards of the metadata service, read again only where it may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use trimtab_domain::masquerade::{
    Backend, FilterView, GUARD_CHAIN, GuardTable, Hook, Network, TableId, counts_come_with_rules, saved_counts,
};
use trimtab_domain::plan::Cause;

use crate::ports::traffic::Traffic;
use crate::ports::{NatError, NatTable, NativeSaved, Saved};

/// Each table as last read, for as long as its generation stays.
#[derive(Default)]
pub(super) struct Guards {
    seen: Mutex<BTreeMap<TableId, (u64, GuardTable)>>,
}

impl Guards {
    /// What another network shows says nothing about this node.
    pub(super) async fn read<N: NatTable>(
        &self,
        nat: &N,
        network: Network,
        tables: BTreeSet<TableId>,
        traffic: Option<&Traffic>,
    ) -> BTreeMap<TableId, GuardTable> {
        let mut read = BTreeMap::new();
        for table in tables {
            let guard = match network.refusal() {
                Some((cause, detail)) => GuardTable::Unavailable { cause, detail },
                None => self.read_one(nat, table, traffic).await,
            };
            read.insert(table, guard);
        }
        read
    }

    async fn read_one<N: NatTable>(&self, nat: &N, table: TableId, traffic: Option<&Traffic>) -> GuardTable {
        // The legacy tables have no number that tells of a change.
        let generation = || nat.generation(table).filter(|_| table.backend != Backend::Legacy);
        let before = generation();
        let known = self.seen().get(&table).filter(|(seen, _)| Some(*seen) == before).map(|(_, guard)| guard.clone());
        if let Some(guard) = known {
            return guard;
        }
        let guard = match read_now(nat, table, traffic).await {
            Ok(guard) => guard,
            Err(error) => return GuardTable::Unreadable(error.to_string()),
        };
        // A change while it was being read may or may not be in it: then nothing is remembered.
        if let Some(generation) = before.filter(|before| generation() == Some(*before)) {
            self.seen().insert(table, (generation, guard.clone()));
        }
        guard
    }

    pub(super) fn forget(&self, table: TableId) {
        self.seen().remove(&table);
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<TableId, (u64, GuardTable)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one table, whatever is remembered.
pub(super) async fn read_now<N: NatTable>(
    nat: &N,
    table: TableId,
    traffic: Option<&Traffic>,
) -> Result<GuardTable, NatError> {
    if table.backend == Backend::Native {
        return Ok(match nat.read_guard(table.family)? {
            NativeSaved::View(view) => GuardTable::Native(view),
            NativeSaved::Unavailable { cause, detail } => GuardTable::Unavailable { cause, detail },
        });
    }
    let text = match nat.save_filter(table).await? {
        Saved::Text(text) => text,
        Saved::Unavailable { cause, detail } => return Ok(GuardTable::Unavailable { cause, detail }),
    };
    if let Some(traffic) = traffic.filter(|_| counts_come_with_rules(table.backend)) {
        traffic.saved((table, Hook::Forward), GUARD_CHAIN, saved_counts(&text, GUARD_CHAIN));
    }
    Ok(FilterView::parse(&text).map_or_else(
        |error| GuardTable::Unavailable {
            cause: Cause::Unsupported,
            detail: format!("the rules of table filter cannot be understood: {error}"),
        },
        GuardTable::Filter,
    ))
}
