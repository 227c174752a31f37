//! What one pass over the guards would do.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::{self, GuardChain};
use super::{GUARD_CHAIN, GUARD_TABLE, Guard, GuardTable, GuardView, NativeGuard, guard_object};
use crate::masquerade::decide::{Observed, Step, desired_tables};
use crate::masquerade::give_back::left_alone;
use crate::masquerade::report::ChainReport;
use crate::masquerade::traffic::{Counted, CountedChain, Hook};
use crate::masquerade::{Backend, Family, TableId};
use crate::plan::{Cause, Finding, Plan, Refusal, Severity};
use crate::record::{LedgerChange, Original, Record};
use crate::spec::IpMasqSpec;

/// Whether a name in the ledger is that of a guard.
pub(in crate::masquerade) fn is_object(object: &str) -> bool {
    TableId::parse_object(object).is_some_and(|(table, _)| guard_object(table) == object)
}

/// The guards that a pass has to see: those that are wished for and those to give back.
#[must_use]
pub fn guards_of_interest(desired: Option<&IpMasqSpec>, backend: Backend, records: &[Record]) -> BTreeSet<TableId> {
    let wanted = wanted(desired, backend).map(|(table, _)| table);
    let recorded = records.iter().filter(|record| is_object(&record.object));
    wanted.chain(recorded.filter_map(|record| TableId::parse_object(&record.object).map(|(table, _)| table))).collect()
}

fn wanted(desired: Option<&IpMasqSpec>, backend: Backend) -> impl Iterator<Item = (TableId, Guard)> {
    desired_tables(desired, backend).filter_map(|(table, spec)| Some((table, Guard::of(spec, table.family)?)))
}

/// The steps of each family, in order: first the new guard, then those to give back.
pub(in crate::masquerade) fn hold_all(
    plan: &mut Plan<Step>,
    desired: Option<&IpMasqSpec>,
    observed: &Observed,
) -> BTreeMap<Family, Vec<Step>> {
    let mut steps: BTreeMap<Family, Vec<Step>> = BTreeMap::new();
    let (mut held, mut not_had) = (BTreeSet::new(), BTreeSet::new());
    for (table, guard) in wanted(desired, observed.backend) {
        held.insert(guard_object(table));
        let made = hold(plan, observed, table, &guard);
        if made.as_ref().is_none_or(|steps| steps.iter().any(|step| matches!(step, Step::Read { .. }))) {
            not_had.insert(table.family);
        }
        steps.entry(table.family).or_default().extend(made.unwrap_or_default());
    }
    let records = observed.records.iter().filter(|record| is_object(&record.object) && !held.contains(&record.object));
    for record in records {
        let Some((table, _)) = TableId::parse_object(&record.object) else { continue };
        // What another back end guards stays guarded as long as the one that is asked for cannot be had.
        if !not_had.contains(&table.family) {
            steps.entry(table.family).or_default().extend(give_back(plan, observed, table, record));
        }
    }
    steps
}

/// `None`: it cannot be had here, and that was said.
fn hold(plan: &mut Plan<Step>, observed: &Observed, table: TableId, guard: &Guard) -> Option<Vec<Step>> {
    let object = guard_object(table);
    let record = observed.records.iter().find(|record| record.object == object);
    let (ordered, change) = match observed.guards.get(&table) {
        Some(GuardTable::Filter(view)) => {
            let wanted = GuardChain::render(guard, table.family);
            plan.findings.extend(view.passes_ahead.iter().map(|rule| passed_by(table, rule)));
            let change = chain::write(view, &wanted);
            let step = |change, repair| Step::Write { table, object: object.clone(), change, repair };
            (wanted.to_text(), change.map(|change| Box::new(move |repair| step(change, repair)) as MakeStep<'_>))
        }
        Some(GuardTable::Native(view)) => {
            let wanted = NativeGuard::of(guard);
            let ordered = wanted.to_text(table.family);
            let differs = !matches!(view, GuardView::Holds(held) if *held == wanted);
            let old = view.summary().unwrap_or_else(|| "absent".to_owned());
            let old = if old == wanted.summary() { format!("{old} (other contents)") } else { old };
            let object = object.clone();
            let step = move |repair| Step::Guard { table, object, old, to: Some(wanted), repair };
            (ordered, differs.then(|| Box::new(step) as MakeStep<'_>))
        }
        Some(GuardTable::Unavailable { cause, detail }) => {
            let wish = format!("no way for pods to the metadata service over {}", table.family);
            plan.refusals.push(Refusal { object, wish, cause: *cause, detail: detail.clone() });
            return None;
        }
        Some(GuardTable::Unreadable(_)) | None => return Some(vec![Step::Read { table, object }]),
    };
    let promised = record.is_some_and(|record| record.ordered == ordered);
    let mut steps = Vec::new();
    if !promised {
        let original = Original::Absent;
        steps.push(Step::Ledger(LedgerChange::Promise(Record { object: object.clone(), original, ordered })));
    }
    steps.extend(change.map(|make| make(promised)));
    Some(steps)
}

type MakeStep<'a> = Box<dyn FnOnce(bool) -> Step + 'a>;

/// The names make chain and table ours, whatever they hold by now.
fn give_back(plan: &mut Plan<Step>, observed: &Observed, table: TableId, record: &Record) -> Vec<Step> {
    let object = record.object.clone();
    let forget = Step::Ledger(LedgerChange::Forget { object: object.clone() });
    match observed.guards.get(&table) {
        Some(GuardTable::Native(view)) => match view.summary() {
            None => vec![forget],
            Some(old) => vec![Step::Guard { table, object, old, to: None, repair: false }, forget],
        },
        Some(GuardTable::Filter(view)) if !view.references.is_empty() => {
            let rules = view.references.join("; ");
            let detail =
                format!("chain {GUARD_CHAIN} is still used by: {rules}; remove that rule, and the chain goes too");
            plan.refusals.push(Refusal { cause: Cause::OwnedByOther, ..left_alone(record, detail) });
            Vec::new()
        }
        Some(GuardTable::Filter(view)) => match chain::remove(view) {
            None => vec![forget],
            Some(change) => vec![Step::Write { table, object, change, repair: false }, forget],
        },
        Some(GuardTable::Unavailable { cause, detail }) => {
            plan.refusals.push(Refusal { cause: *cause, detail: detail.clone(), ..left_alone(record, String::new()) });
            Vec::new()
        }
        Some(GuardTable::Unreadable(_)) | None => vec![Step::Read { table, object }],
    }
}

fn passed_by(table: TableId, rule: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: "metadata-block-passed-by",
        object: guard_object(table),
        message: format!("{rule} stands ahead of the jump to {GUARD_CHAIN}, and what it accepts is not blocked"),
        remedy: format!(
            "if packets of pods match it: delete the jumps ({} -D FORWARD …), and they come back as the first rules; or \
             choose ipMasq.backend: nftables, where no order matters",
            table.tool()
        ),
    }
}

/// The guards as the report shows them.
pub(in crate::masquerade) fn reports(desired: Option<&IpMasqSpec>, observed: &Observed) -> Vec<ChainReport> {
    let report = |(table, guard): (TableId, Guard)| {
        let (shown, right) = match observed.guards.get(&table) {
            Some(GuardTable::Filter(view)) => (view.summary(), view.holds(&GuardChain::render(&guard, table.family))),
            Some(GuardTable::Native(view)) => {
                let right = matches!(view, GuardView::Holds(held) if *held == NativeGuard::of(&guard));
                (view.summary(), right)
            }
            _ => (None, true),
        };
        let addresses: Vec<String> = guard.addresses.iter().map(ToString::to_string).collect();
        ChainReport {
            object: guard_object(table),
            desired: Some(guard.summary()),
            observed: shown.map(|shown| if right { shown } else { format!("{shown} (differs)") }),
            attributes: vec![("blocked", addresses.join(", ")), ("hook", "forward: pods, not the node".to_owned())],
        }
    };
    wanted(desired, observed.backend).map(report).collect()
}

/// The guards that are in place, with what their rules count.
pub(in crate::masquerade) fn chains_in_place(desired: Option<&IpMasqSpec>, observed: &Observed) -> Vec<CountedChain> {
    let in_place = |(table, guard): (TableId, Guard)| {
        let exceptions = guard.ports.len() + guard.interfaces.len();
        let (chain, exceptions) = match observed.guards.get(&table)? {
            GuardTable::Filter(view) if view.holds(&GuardChain::render(&guard, table.family)) => {
                (GUARD_CHAIN, exceptions + guard.sources.len())
            }
            GuardTable::Native(GuardView::Holds(held)) if *held == NativeGuard::of(&guard) => {
                (GUARD_TABLE, exceptions + usize::from(!guard.sources.is_empty()))
            }
            _ => return None,
        };
        let rules = std::iter::repeat_n(Counted::MetadataExcepted, exceptions);
        let rules = rules.chain(std::iter::once(Counted::MetadataBlocked)).collect();
        Some(CountedChain { table, hook: Hook::Forward, chain: chain.to_owned(), rules })
    };
    wanted(desired, observed.backend).filter_map(in_place).collect()
}
