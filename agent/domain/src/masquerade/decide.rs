//! What one pass over the masquerade chains would do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::chain::{ChainValue, check_chain_name};
use super::change::{Change, attach_chain, write_chain};
use super::findings::findings;
use super::foreign::{self, ForeignChain};
use super::give_back::{give_back, left_alone};
use super::guard::{self, GuardTable, NativeGuard};
use super::native::{NATIVE_TABLE, Native, NativeView};
use super::policy::Policy;
use super::preflight::{Connected, preflight};
use super::view::{ChainView, TableView};
use super::{Backend, Family, Network, TableId, native_plan};
use crate::plan::{Cause, Finding, Plan, Refusal, Severity, Stage};
use crate::record::{LedgerChange, Original, Record};
use crate::spec::IpMasqSpec;

/// What the node and the ledger show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Where the rules of this node belong.
    pub backend: Backend,
    /// Why there.
    pub backend_reason: String,
    /// Every table of [`tables_of_interest`].
    pub tables: BTreeMap<TableId, Nat>,
    /// Every table of [`super::guards_of_interest`].
    pub guards: BTreeMap<TableId, GuardTable>,
    /// The chains that were written before.
    pub records: Vec<Record>,
    /// Command lines of other masquerade agents that run on this node.
    pub other_agents: Vec<String>,
    /// Chains of others in nftables that translate sources, by family.
    pub foreign: BTreeMap<Family, Vec<ForeignChain>>,
    /// Networks that this node is connected to.
    pub connected: Vec<Connected>,
    /// Whose network this is.
    pub network: Network,
    /// Tables whose tool is too old to choose ports at random (iptables before 1.6.2), with its version.
    pub without_random: BTreeMap<TableId, String>,
}

impl Observed {
    /// What one table should hold, in the words that its tool knows.
    pub(super) fn desired(&self, spec: &IpMasqSpec, table: TableId) -> Result<ChainValue, String> {
        check_chain_name(&spec.masq_chain).map_err(|error| error.to_string())?;
        let policy = Policy::of(spec, table.family);
        let old = self.without_random.contains_key(&table);
        ChainValue::render(&if old { policy.without_random() } else { policy }).map_err(|error| error.to_string())
    }
}

/// One table `nat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nat {
    /// Read.
    Table(Arc<TableView>),
    /// A table of our own, read.
    Native(NativeView),
    /// This node does not have it, or does not let it be read.
    Unavailable {
        /// Why.
        cause: Cause,
        /// The facts and the remedy.
        detail: String,
    },
    /// Reading failed in a way that may pass.
    Unreadable(String),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remember or forget in the ledger.
    Ledger(LedgerChange),
    /// One transaction on one table.
    Write {
        /// The table.
        table: TableId,
        /// The chain, as it is reported.
        object: String,
        /// The transaction.
        change: Change,
        /// True if the chain had been written like this before.
        repair: bool,
    },
    /// One transaction on a table of our own.
    Native {
        /// The table.
        table: TableId,
        /// The table, as it is reported.
        object: String,
        /// What it was, for a person.
        old: String,
        /// What it shall do; `None`: be gone.
        to: Option<Native>,
        /// True if it had been written like this before.
        repair: bool,
    },
    /// One transaction on a table of our own that guards the metadata service.
    Guard {
        /// The table.
        table: TableId,
        /// The table, as it is reported.
        object: String,
        /// What it was, for a person.
        old: String,
        /// What it shall do; `None`: be gone.
        to: Option<NativeGuard>,
        /// True if it had been written like this before.
        repair: bool,
    },
    /// Remember the files of an agent's configuration that are in force, for a restart that finds bad ones.
    KeepConfig {
        /// Where they lie.
        path: String,
    },
    /// Read a table again that could not be read; as a step, so that one family's trouble leaves the other alone.
    Read {
        /// The table.
        table: TableId,
        /// The chain for which it matters.
        object: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(LedgerChange::Promise(record)) => write!(f, "{}: remember the original", record.object),
            Self::Ledger(LedgerChange::Forget { object }) => write!(f, "{object}: forget the original"),
            Self::KeepConfig { path } => write!(f, "{path}: remember as the last good configuration"),
            Self::Write { object, change, .. } => write!(f, "{object}: {} -> {}", change.old, change.new),
            Self::Native { object, old, to, .. } => {
                let new = to.as_ref().map_or_else(|| "absent".to_owned(), Native::summary);
                write!(f, "{object}: {old} -> {new}")
            }
            Self::Guard { object, old, to, .. } => {
                let new = to.as_ref().map_or_else(|| "absent".to_owned(), NativeGuard::summary);
                write!(f, "{object}: {old} -> {new}")
            }
            Self::Read { object, .. } => write!(f, "{object}: unreadable -> read again"),
        }
    }
}

/// The tables, and in each the chains, that a pass has to see: those that are wished for and those to give back.
#[must_use]
pub fn tables_of_interest(
    desired: Option<&IpMasqSpec>,
    backend: Backend,
    records: &[Record],
) -> BTreeMap<TableId, BTreeSet<String>> {
    let mut tables: BTreeMap<TableId, BTreeSet<String>> = BTreeMap::new();
    for (table, spec) in desired_tables(desired, backend) {
        tables.entry(table).or_default().insert(chain_in(table, spec).to_owned());
    }
    let records = records.iter().filter(|record| !guard::is_object(&record.object));
    for (table, chain) in records.filter_map(|record| TableId::parse_object(&record.object)) {
        tables.entry(table).or_default().insert(chain.to_owned());
    }
    tables
}

/// Decides; the families are independent of one another, the steps of one are in order: first the new chain, then those to
/// give back, so that neither a renamed chain nor another back end leaves a gap. While both are there, the older one
/// decides first and passes on what it exempts, so every connection is treated by the one or the other.
#[must_use]
pub fn decide(desired: Option<&IpMasqSpec>, observed: &Observed) -> Plan<Step> {
    let mut plan = Plan::default();
    let mut steps: BTreeMap<Family, Vec<Step>> = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    let mut not_had = BTreeSet::new();
    plan.findings.extend(desired.and_then(|_| observed.network.finding()));
    plan.findings.extend(desired.iter().flat_map(|spec| preflight(spec, &observed.connected)));
    plan.findings.extend(desired.iter().flat_map(|_| observed.other_agents.iter().map(|line| other_agent_runs(line))));
    for (table, spec) in desired_tables(desired, observed.backend) {
        let foreign = observed.foreign.get(&table.family).map(Vec::as_slice).unwrap_or_default();
        plan.findings.extend(foreign::findings(table, foreign, spec));
        wanted.insert(table.object(chain_in(table, spec)));
        match hold(&mut plan, observed, table, spec) {
            Some(held) => {
                if held.iter().any(|step| matches!(step, Step::Read { .. })) {
                    not_had.insert(table.family);
                }
                steps.entry(table.family).or_default().extend(held);
            }
            None => {
                not_had.insert(table.family);
            }
        }
    }
    let mine = observed.records.iter().filter(|record| !guard::is_object(&record.object));
    for record in mine.filter(|record| !wanted.contains(&record.object)) {
        match TableId::parse_object(&record.object) {
            // What another back end holds stays as long as the one that is asked for cannot be had.
            Some((table, _)) if not_had.contains(&table.family) && table.backend != observed.backend => {}
            Some((table, chain)) => {
                let back = match table.backend {
                    Backend::Native => native_plan::give_back(&mut plan, observed, table, record),
                    _ => give_back(&mut plan, observed, (table, chain), record),
                };
                steps.entry(table.family).or_default().extend(back);
            }
            None => plan.refusals.push(left_alone(record, "its name in the ledger is not one of a chain".to_owned())),
        }
    }
    let mut stage = Stage::default();
    // What masquerades and what guards do not depend on one another.
    let guards = guard::hold_all(&mut plan, desired, observed);
    for chain in steps.into_values().chain(guards.into_values()) {
        stage.push_chain(chain);
    }
    plan.push_stage(stage);
    plan
}

/// The tables in which the profile wishes for a chain.
pub(super) fn desired_tables(
    desired: Option<&IpMasqSpec>,
    backend: Backend,
) -> impl Iterator<Item = (TableId, &IpMasqSpec)> {
    let families = Family::ALL.into_iter();
    desired.into_iter().flat_map(move |spec| {
        let families = families.clone().filter(|family| *family == Family::V4 || spec.enable_ipv6);
        families.map(move |family| (TableId { family, backend }, spec))
    })
}

/// The chain that a profile wishes for in a table of iptables, or the table of our own.
pub(super) fn chain_in(table: TableId, spec: &IpMasqSpec) -> &str {
    if table.backend == Backend::Native { NATIVE_TABLE } else { &spec.masq_chain }
}

/// The steps that bring one chain to what the profile says; `None`: it cannot be had here, and that was said.
fn hold(plan: &mut Plan<Step>, observed: &Observed, table: TableId, spec: &IpMasqSpec) -> Option<Vec<Step>> {
    if table.backend == Backend::Native {
        return native_plan::hold(plan, observed, table, spec);
    }
    let chain = &spec.masq_chain;
    let object = table.object(chain);
    let refuse = |cause: Cause, detail: String| {
        let wish = format!("masquerade chain {chain} for {}", table.family);
        Refusal { object: object.clone(), wish, cause, detail }
    };
    let value = match observed.desired(spec, table) {
        Ok(value) => value,
        Err(detail) => {
            plan.refusals.push(refuse(Cause::InvalidValue, detail));
            return None;
        }
    };
    let view = match observed.tables.get(&table) {
        Some(Nat::Table(view)) => view,
        Some(Nat::Unavailable { cause, detail }) => {
            plan.refusals.push(refuse(*cause, detail.clone()));
            return None;
        }
        Some(Nat::Unreadable(_)) | None => return Some(vec![Step::Read { table, object }]),
        Some(Nat::Native(_)) => return None,
    };
    plan.findings.extend(findings(table, view, spec));
    plan.findings.extend(observed.without_random.get(&table).map(|version| no_random_ports(table, chain, version)));
    let current = view.chains.get(chain);
    let hooks = current.map(|found| found.wrong_hooks.join(", ")).filter(|hooks| !hooks.is_empty());
    let hooks = hooks.map(|hooks| (Cause::OwnedByOther, wrong_hook(table, chain, &hooks, current)));
    let ports = Policy::of(spec, table.family).check().err().map(|error| (Cause::InvalidValue, error.to_string()));
    let refused = hooks.or(ports);
    let contents_refused = refused.is_some();
    plan.refusals.extend(refused.map(|(cause, detail)| refuse(cause, detail)));
    if contents_refused && spec.compat.is_none() {
        return None;
    }
    let record = observed.records.iter().find(|record| record.object == object);
    let promised = record.is_some_and(|record| is_ordered(record, chain, &value));
    let write = if contents_refused { attach_chain } else { write_chain };
    let change = write(view, chain, &value, spec.compat);
    let mut steps = Vec::new();
    // A chain that is already right and was never written is not ours to give back.
    if !promised && (change.is_some() || record.is_some()) {
        let original = current.map_or(Original::Absent, |found| Original::Value(found.value().to_text(chain)));
        let ordered = value.to_text(chain);
        steps.push(Step::Ledger(LedgerChange::Promise(Record { object: object.clone(), original, ordered })));
    }
    steps.extend(change.map(|change| Step::Write { table, object, change, repair: promised }));
    Some(steps)
}

fn other_agent_runs(command_line: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: "masquerade-other-agent-running",
        object: command_line.to_owned(),
        message: "another masquerade agent runs on this node; it rewrites its chain every minute".to_owned(),
        remedy: "delete its DaemonSet and keep its ConfigMap (kubectl get daemonsets -A)".to_owned(),
    }
}

fn no_random_ports(table: TableId, chain: &str, version: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: "masquerade-no-random-ports",
        object: table.object(chain),
        message: format!("{} {version} cannot choose ports at random; the rules leave that out", table.tool()),
        remedy: "install iptables 1.6.2 or newer, or set ipMasq.randomFully to false".to_owned(),
    }
}

fn wrong_hook(table: TableId, chain: &str, hooks: &str, current: Option<&ChainView>) -> String {
    let rules = current.map(|found| found.references.join("; ")).unwrap_or_default();
    format!(
        "packets get into chain {chain} from {hooks} too, where the kernel allows no MASQUERADE, by: {rules}; remove that \
         rule ({} -t nat -D …) or choose another ipMasq.masqChain",
        table.tool()
    )
}

fn is_ordered(record: &Record, chain: &str, value: &ChainValue) -> bool {
    ChainValue::parse(&record.ordered, chain).is_some_and(|ordered| ordered.same(value))
}
