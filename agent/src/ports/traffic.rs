//! What the masquerade rules have counted: told by the subsystem which rules there are, read when metrics are asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use trimtab_domain::masquerade::{
    Counted, CountedChain, Family, Hook, RuleCount, TableId, Totals, counts_come_with_rules,
};

/// Shortest time between two looks at the kernel's counters, however often metrics are asked for.
const PAUSE: Duration = Duration::from_secs(5);

/// The counters of rules, without a process.
pub trait RuleCounters: Send + Sync + 'static {
    /// Of each rule of a chain, in order; `None` where they cannot be read.
    fn read(&self, chain: &CountedChain) -> Option<Vec<RuleCount>>;
}

/// The sums since the agent started, and the chains that they come from.
pub struct Traffic {
    counters: Arc<dyn RuleCounters>,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chains: Vec<CountedChain>,
    saved: BTreeMap<(TableId, Hook, String), Vec<RuleCount>>,
    totals: Totals,
    looked: Option<Instant>,
}

impl Traffic {
    /// Reads `counters`.
    #[must_use]
    pub fn new(counters: Arc<dyn RuleCounters>) -> Self {
        Self { counters, pause: PAUSE, state: Mutex::default() }
    }

    /// The same, looking at the kernel's counters no more often than this.
    #[must_use]
    pub fn looking_every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// These chains are in place, as far as is known.
    pub fn hold(&self, chains: Vec<CountedChain>) {
        let mut state = self.state();
        // What goes has counted until now.
        self.look(&mut state, |held| chains.iter().all(|chain| (chain.table, chain.hook) != (held.table, held.hook)));
        // Rules that are about to be replaced have counted, too.
        let State { chains: held, saved, totals, .. } = &mut *state;
        for chain in held.iter().chain(&chains) {
            if let Some(counts) = saved.get(&(chain.table, chain.hook, chain.chain.clone())) {
                totals.add(chain, counts);
            }
        }
        state.saved.clear();
        state.chains = chains;
    }

    /// The rules of a chain were read with their counts; for the next [`Self::hold`].
    pub fn saved(&self, (table, hook): (TableId, Hook), chain: &str, counts: Vec<RuleCount>) {
        self.state().saved.insert((table, hook, chain.to_owned()), counts);
    }

    /// The rules at a hook are about to be written: takes in what they have counted until now.
    pub fn settle(&self, table: TableId, hook: Hook) {
        let mut state = self.state();
        self.look(&mut state, |chain| (chain.table, chain.hook) == (table, hook));
        state.chains.retain(|chain| (chain.table, chain.hook) != (table, hook));
    }

    /// They were, and count from zero.
    pub fn rewritten(&self, table: TableId, hook: Hook) {
        self.state().totals.begin_anew(table, hook);
    }

    /// The sums of these kinds of rules by family; the kernel is asked if that was not done in the last seconds.
    #[must_use]
    pub fn sums(&self, kinds: &[Counted]) -> Vec<(Family, Counted, u64)> {
        let mut state = self.state();
        let now = Instant::now();
        if state.looked.is_none_or(|looked| now.duration_since(looked) >= self.pause) {
            state.looked = Some(now);
            self.look(&mut state, |_| true);
        }
        let kinds = Family::ALL.into_iter().flat_map(|family| kinds.iter().map(move |kind| (family, *kind)));
        kinds.map(|(family, kind)| (family, kind, state.totals.of(family, kind))).collect()
    }

    fn look(&self, state: &mut State, wanted: impl Fn(&CountedChain) -> bool) {
        let State { chains, totals, .. } = state;
        for chain in chains.iter().filter(|chain| wanted(chain) && !counts_come_with_rules(chain.table.backend)) {
            if let Some(counts) = self.counters.read(chain) {
                totals.add(chain, &counts);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
