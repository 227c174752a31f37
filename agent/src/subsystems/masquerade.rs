//! Masquerade chains in table `nat`, written only when what is there differs.
//!
//! A table that did not change since it was last read is not read again: with iptables-nft the kernel counts its
//! changes, so an idle pass starts no process. iptables-legacy has no such number; there each resync runs
//! `iptables-legacy-save` once per family, and nothing announces drift in between.

mod configs;
mod connections;
mod guards;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trimtab_domain::masquerade::{
    Backend, Family, ForeignChain, Hook, Nat, Network, Observed, SavedTable, Step, TableId, TableView, counted_chains,
    counts_come_with_rules, decide, guard_object, guards_of_interest, objects, saved_counts, tables_of_interest,
};
use trimtab_domain::plan::{Cause, Plan};
use trimtab_domain::spec::ip_masq::{BackendWish, OnExit};
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use self::configs::{Configs, Wish};
use self::connections::{Connections, Look, WHILE_CLOSE};
use self::guards::Guards;
use crate::ports::connections::TrackedConnections;
use crate::ports::masq_config::MasqConfig;
use crate::ports::traffic::Traffic;
use crate::ports::{BackendChoice, HostFiles, Ledger, NatError, NatTable, NativeSaved, Saved, Watch};
use crate::reconcile::report::{Measures, ObjectReport};
use crate::reconcile::{self, Error, Subsystem};

/// The subsystem, over iptables and the ledger.
pub struct Masquerade<N, L> {
    nat: Arc<N>,
    ledger: Arc<L>,
    configs: Configs,
    connections: Option<Connections>,
    traffic: Option<Arc<Traffic>>,
    guards: Guards,
    seen: Mutex<BTreeMap<TableId, Seen>>,
    /// Other agents on this node; looked for again with every resync.
    other_agents: Mutex<Option<Vec<String>>>,
    /// What others have in nftables; looked at again with every resync.
    foreign: Mutex<BTreeMap<Family, Vec<ForeignChain>>>,
}

/// What the node shows, and the wish as the agent's files complete it.
#[derive(Debug)]
pub struct View {
    nat: Observed,
    wish: Wish,
    connections: Option<Look>,
}

/// A table as last read, for as long as its generation stays.
struct Seen {
    generation: u64,
    chains: BTreeSet<String>,
    nat: Nat,
}

impl<N: NatTable, L: Ledger> Masquerade<N, L> {
    /// Holds chains through `nat` and remembers originals in `ledger`.
    #[must_use]
    pub fn new(nat: Arc<N>, ledger: Arc<L>, files: Arc<dyn MasqConfig>) -> Self {
        let configs = Configs::new(files);
        Self {
            nat,
            ledger,
            configs,
            connections: None,
            traffic: None,
            guards: Guards::default(),
            seen: Mutex::default(),
            other_agents: Mutex::default(),
            foreign: Mutex::default(),
        }
    }

    /// The same, watching how full the kernel's table of connections is through the node's files, and in `table` how many
    /// source ports are in use where that can matter.
    #[must_use]
    pub fn watching(self, files: Arc<dyn HostFiles>, table: Option<Arc<dyn TrackedConnections>>) -> Self {
        Self { connections: Some(Connections::new(files, table)), ..self }
    }

    /// The same, telling which rules count what.
    #[must_use]
    pub fn counting(self, traffic: Arc<Traffic>) -> Self {
        Self { traffic: Some(traffic), ..self }
    }

    fn other_agents(&self) -> Vec<String> {
        let mut known = self.other_agents.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| self.nat.other_agents()).clone()
    }

    /// Of the families that are wished for; a node with many services has many chains, so not with every pass.
    fn foreign(&self, spec: Option<&IpMasqSpec>, network: Network) -> BTreeMap<Family, Vec<ForeignChain>> {
        let mut known = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spec) = spec.filter(|_| network.refusal().is_none()) else { return BTreeMap::new() };
        for family in Family::ALL.into_iter().filter(|family| *family == Family::V4 || spec.enable_ipv6) {
            known.entry(family).or_insert_with(|| self.nat.foreign_chains(family));
        }
        known.clone()
    }

    async fn too_old_for_random(
        &self,
        spec: Option<&IpMasqSpec>,
        tables: &BTreeMap<TableId, Nat>,
    ) -> BTreeMap<TableId, String> {
        let mut old = BTreeMap::new();
        let readable = tables.iter().filter(|(_, nat)| matches!(nat, Nat::Table(_)));
        for (table, _) in readable.filter(|_| spec.is_some_and(|spec| spec.random_fully)) {
            if let Some(version) = self.nat.too_old_for_random(*table).await {
                old.insert(*table, version);
            }
        }
        old
    }

    async fn choose_backend(&self, desired: Option<&IpMasqSpec>) -> BackendChoice {
        let (backend, reason) = match desired.map(|spec| spec.backend) {
            None => (Backend::Nft, "nothing is wished for"),
            Some(BackendWish::Auto) if desired.is_some_and(|spec| spec.compat.is_some()) => {
                return self.nat.iptables_backend().await;
            }
            Some(BackendWish::Auto) => return self.nat.backend().await,
            Some(BackendWish::IptablesNft) => (Backend::Nft, "ipMasq.backend of the profile"),
            Some(BackendWish::IptablesLegacy) => (Backend::Legacy, "ipMasq.backend of the profile"),
            Some(BackendWish::Nftables) => (Backend::Native, "ipMasq.backend of the profile"),
        };
        BackendChoice { backend, reason: reason.to_owned() }
    }

    /// What another network shows says nothing about this node, not even that a chain of ours is gone.
    async fn read_tables(
        &self,
        network: Network,
        wanted: &BTreeMap<TableId, BTreeSet<String>>,
    ) -> BTreeMap<TableId, Nat> {
        if let Some((cause, detail)) = network.refusal() {
            let refused = |table: &TableId| (*table, Nat::Unavailable { cause, detail: detail.clone() });
            return wanted.keys().map(refused).collect();
        }
        let (v4, v6) = tokio::join!(self.read_family(Family::V4, wanted), self.read_family(Family::V6, wanted));
        v4.into_iter().chain(v6).collect()
    }

    async fn read_family(&self, family: Family, tables: &BTreeMap<TableId, BTreeSet<String>>) -> Vec<(TableId, Nat)> {
        let mut read = Vec::new();
        for (table, chains) in tables.iter().filter(|(table, _)| table.family == family) {
            read.push((*table, self.read(*table, chains).await));
        }
        read
    }

    async fn read(&self, table: TableId, chains: &BTreeSet<String>) -> Nat {
        let generation = self.nat.generation(table);
        if let Some(nat) = generation.and_then(|generation| self.recall(table, generation, chains)) {
            return nat;
        }
        let nat = match self.read_now(table, chains).await {
            Ok(nat) => nat,
            Err(error) => return Nat::Unreadable(error.to_string()),
        };
        // A change while it was being read may or may not be in the text: then nothing is remembered.
        if let Some(generation) = generation.filter(|generation| self.nat.generation(table) == Some(*generation)) {
            let seen = Seen { generation, chains: chains.clone(), nat: nat.clone() };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(table, seen);
        }
        nat
    }

    async fn read_now(&self, table: TableId, chains: &BTreeSet<String>) -> Result<Nat, NatError> {
        if table.backend == Backend::Native {
            return Ok(match self.nat.read_native(table.family)? {
                NativeSaved::View(view) => Nat::Native(view),
                NativeSaved::Unavailable { cause, detail } => Nat::Unavailable { cause, detail },
            });
        }
        Ok(match self.nat.save(table).await? {
            Saved::Text(text) => {
                let counting = self.traffic.iter().filter(|_| counts_come_with_rules(table.backend));
                for (traffic, chain) in counting.flat_map(|traffic| chains.iter().map(move |chain| (traffic, chain))) {
                    traffic.saved((table, Hook::Postrouting), chain, saved_counts(&text, chain));
                }
                look_at(&text, chains)
            }
            Saved::Unavailable { cause, detail } => Nat::Unavailable { cause, detail },
        })
    }

    fn recall(&self, table: TableId, generation: u64, chains: &BTreeSet<String>) -> Option<Nat> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get(&table).filter(|seen| seen.generation == generation && seen.chains == *chains)?;
        Some(seen.nat.clone())
    }

    /// What the rules have counted is taken in before they go.
    fn begin_write(&self, table: TableId, hook: Hook) {
        match hook {
            Hook::Postrouting => self.forget_table(table),
            Hook::Forward => self.guards.forget(table),
        }
        self.traffic.iter().for_each(|traffic| traffic.settle(table, hook));
    }

    fn end_write(&self, table: TableId, hook: Hook, remade: bool) {
        self.traffic.iter().filter(|_| remade).for_each(|traffic| traffic.rewritten(table, hook));
    }

    fn forget_table(&self, table: TableId) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&table);
    }
}

/// Where the chain of an object is called.
fn hook_of(table: TableId, object: &str) -> Hook {
    if guard_object(table) == object { Hook::Forward } else { Hook::Postrouting }
}

/// A table that cannot be understood is not touched.
fn look_at(text: &str, chains: &BTreeSet<String>) -> Nat {
    match SavedTable::parse(text).and_then(|table| TableView::new(&table, chains)) {
        Ok(view) => Nat::Table(Arc::new(view)),
        Err(error) => Nat::Unavailable {
            cause: Cause::Unsupported,
            detail: format!("the rules of table nat cannot be understood: {error}"),
        },
    }
}

impl<N: NatTable, L: Ledger> Subsystem for Masquerade<N, L> {
    const NAME: &'static str = "masquerade";
    type Desired = Option<IpMasqSpec>;
    type Observed = View;
    type Step = Step;

    fn desired(spec: &NodeSpec) -> &Self::Desired {
        &spec.ip_masq
    }

    async fn observe(&self, desired: &Self::Desired) -> Result<View, Error> {
        let wish = self.configs.complete(desired.as_ref());
        let records = self.ledger.records(Self::NAME);
        let spec = wish.spec.as_ref();
        let choice = self.choose_backend(spec).await;
        let wanted = tables_of_interest(spec, choice.backend, &records);
        let network = self.nat.network();
        let tables = self.read_tables(network, &wanted).await;
        let guarded = guards_of_interest(spec, choice.backend, &records);
        let guards = self.guards.read(&*self.nat, network, guarded, self.traffic.as_deref()).await;
        let without_random = self.too_old_for_random(spec, &tables).await;
        let (backend, backend_reason) = (choice.backend, choice.reason);
        let (connected, other_agents) =
            if spec.is_some() { (self.nat.connected(), self.other_agents()) } else { Default::default() };
        let nat = Observed {
            backend,
            backend_reason,
            tables,
            guards,
            records,
            other_agents,
            foreign: self.foreign(spec, network),
            connected,
            network,
            without_random,
        };
        if let Some(traffic) = &self.traffic {
            traffic.hold(counted_chains(spec, &nat));
        }
        let watched = self.connections.as_ref().filter(|_| network.refusal().is_none());
        let connections = watched.zip(spec).and_then(|(connections, spec)| connections.look(spec));
        Ok(View { nat, wish, connections })
    }

    fn plan(_desired: &Self::Desired, view: &View) -> Plan<Step> {
        // Without a wish that is known, giving back would be as wrong as writing.
        let mut plan = if view.wish.is_known() { decide(view.wish.spec.as_ref(), &view.nat) } else { Plan::default() };
        view.wish.add_to(&mut plan);
        plan.findings.extend(view.connections.iter().flat_map(Look::findings));
        plan
    }

    async fn apply(&self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Ledger(change) => self
                .ledger
                .commit(Self::NAME, std::slice::from_ref(change))
                .map_err(|error| Error::transient("cannot remember the original rules", error)),
            Step::Write { table, object, change, .. } => {
                let hook = hook_of(*table, object);
                self.begin_write(*table, hook);
                let written = self.nat.restore(*table, &change.text).await;
                self.end_write(*table, hook, written.is_ok() && change.remakes_rules());
                written.map_err(|error| failed(format!("cannot write {object}"), error))
            }
            Step::Native { table, object, to, .. } => {
                self.begin_write(*table, Hook::Postrouting);
                let written = self.nat.write_native(table.family, to.as_ref());
                self.end_write(*table, Hook::Postrouting, written.is_ok());
                written.map_err(|error| failed(format!("cannot write {object}"), error))
            }
            Step::Guard { table, object, to, .. } => {
                self.begin_write(*table, Hook::Forward);
                let written = self.nat.write_guard(table.family, to.as_ref());
                self.end_write(*table, Hook::Forward, written.is_ok());
                written.map_err(|error| failed(format!("cannot write {object}"), error))
            }
            Step::KeepConfig { .. } => self
                .configs
                .keep()
                .map_err(|error| Error::transient("cannot remember the masquerade configuration", error)),
            Step::Read { table, object } if hook_of(*table, object) == Hook::Forward => {
                self.guards.forget(*table);
                let read = guards::read_now(&*self.nat, *table, None).await;
                read.map(drop).map_err(|error| failed(format!("cannot read table filter for {object}"), error))
            }
            Step::Read { table, object } => {
                self.forget_table(*table);
                let read = self.read_now(*table, &BTreeSet::new()).await;
                read.map(drop).map_err(|error| failed(format!("cannot read table nat for {object}"), error))
            }
        }
    }

    fn objects(_desired: &Self::Desired, view: &View) -> Vec<ObjectReport> {
        let reports = objects(view.wish.spec.as_ref(), &view.nat).into_iter();
        reports
            .map(|chain| ObjectReport {
                object: chain.object,
                desired: chain.desired,
                observed: chain.observed,
                attributes: chain.attributes,
            })
            .collect()
    }

    fn measures(view: &View) -> Measures {
        Measures { conntrack: view.connections.as_ref().map(|look| look.conntrack) }
    }

    fn watches(desired: &Self::Desired, view: &View) -> Vec<Watch> {
        // With the legacy backend too: a kubelet that turns to nft shows it by a chain there.
        let files = view.wish.place.iter().map(|place| Watch::Mounted(place.clone()));
        desired.iter().map(|_| Watch::Netfilter).chain(files).collect()
    }

    fn resync(_desired: &Self::Desired, view: &View) -> Option<Duration> {
        let wished = view.wish.spec.as_ref().and_then(|spec| spec.resync_interval);
        let close = view.connections.as_ref().is_some_and(|look| look.is_close).then_some(WHILE_CLOSE);
        wished.into_iter().chain(close).min()
    }

    fn unready(_desired: &Self::Desired, view: &View) -> Option<String> {
        view.wish.unready()
    }

    fn forget_rejections(&self) {
        *self.other_agents.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn seen_writer(&self, _object: &str) -> Option<String> {
        self.nat.likely_writer()
    }

    fn gives_back_on_exit(desired: &Self::Desired) -> bool {
        desired.as_ref().is_some_and(|spec| spec.on_exit == OnExit::Remove)
    }

    fn likely_writer(_object: &str) -> Option<&'static str> {
        Some("another ip-masq-agent (kubectl get daemonsets -A), or a firewall manager that reloads its rules")
    }
}

impl reconcile::Step for Step {
    fn object(&self) -> Option<&str> {
        match self {
            Self::Write { object, .. }
            | Self::Native { object, .. }
            | Self::Guard { object, .. }
            | Self::Read { object, .. } => Some(object),
            Self::Ledger(_) | Self::KeepConfig { .. } => None,
        }
    }

    fn is_repair(&self) -> bool {
        matches!(
            self,
            Self::Write { repair: true, .. } | Self::Native { repair: true, .. } | Self::Guard { repair: true, .. }
        )
    }
}

fn failed(what: String, error: NatError) -> Error {
    if error.transient { Error::transient(what, error) } else { Error::terminal(what, error) }
}
