//! What one pass over a table of our own would do.

use super::decide::{Nat, Observed, Step};
use super::give_back::left_alone;
use super::native::{NATIVE_TABLE, Native, NativeView};
use super::policy::Policy;
use super::report::ChainReport;
use super::{Backend, TableId};
use crate::plan::{Cause, Plan, Refusal};
use crate::record::{LedgerChange, Original, Record};
use crate::spec::IpMasqSpec;

/// The steps that bring the table to what the profile says; `None`: it cannot be had here, and that was said.
pub(super) fn hold(plan: &mut Plan<Step>, observed: &Observed, table: TableId, spec: &IpMasqSpec) -> Option<Vec<Step>> {
    let object = table.object(NATIVE_TABLE);
    let policy = Policy::of(spec, table.family);
    let mut refuse = |cause: Cause, detail: String| {
        let wish = format!("masquerading for {} in nftables", table.family);
        plan.refusals.push(Refusal { object: object.clone(), wish, cause, detail });
        None
    };
    if let Err(error) = policy.check() {
        return refuse(Cause::InvalidValue, error.to_string());
    }
    let wanted = Native::of(&policy);
    let old = match observed.tables.get(&table) {
        Some(Nat::Native(NativeView::Holds(held))) if *held == wanted => None,
        Some(Nat::Native(view)) => Some(describe(view, &wanted)),
        Some(Nat::Unavailable { cause, detail }) => return refuse(*cause, detail.clone()),
        _ => return Some(vec![Step::Read { table, object }]),
    };
    let record = observed.records.iter().find(|record| record.object == object);
    let ordered = wanted.to_text(table.family);
    let promised = record.is_some_and(|record| record.ordered == ordered);
    let mut steps = Vec::new();
    if !promised {
        let original = Original::Absent;
        steps.push(Step::Ledger(LedgerChange::Promise(Record { object: object.clone(), original, ordered })));
    }
    steps.extend(old.map(|old| Step::Native { table, object, old, to: Some(wanted), repair: promised }));
    Some(steps)
}

/// The steps that remove the table: its name makes it ours, whatever it holds by now.
pub(super) fn give_back(plan: &mut Plan<Step>, observed: &Observed, table: TableId, record: &Record) -> Vec<Step> {
    let object = record.object.clone();
    let forget = Step::Ledger(LedgerChange::Forget { object: object.clone() });
    match observed.tables.get(&table) {
        Some(Nat::Native(NativeView::Absent)) => vec![forget],
        Some(Nat::Native(view)) => {
            let old = describe(view, &Native::default());
            vec![Step::Native { table, object, old, to: None, repair: false }, forget]
        }
        Some(Nat::Unavailable { cause, detail }) => {
            plan.refusals.push(Refusal { cause: *cause, detail: detail.clone(), ..left_alone(record, String::new()) });
            Vec::new()
        }
        _ => vec![Step::Read { table, object }],
    }
}

/// The table as the report shows it.
pub(super) fn report(observed: &Observed, table: TableId, spec: &IpMasqSpec) -> ChainReport {
    let wanted = Native::of(&Policy::of(spec, table.family));
    let shown = match observed.tables.get(&table) {
        Some(Nat::Native(NativeView::Holds(held))) if *held == wanted => Some(held.summary()),
        Some(Nat::Native(NativeView::Holds(held))) => Some(format!("{} (differs)", held.summary())),
        Some(Nat::Native(NativeView::Odd(why))) => Some(format!("{why} (differs)")),
        _ => None,
    };
    ChainReport {
        object: table.object(NATIVE_TABLE),
        desired: Some(wanted.summary()),
        observed: shown,
        attributes: vec![
            ("backend", format!("{} ({})", Backend::Native, observed.backend_reason)),
            ("priority", "srcnat + 10".to_owned()),
        ],
    }
}

fn describe(view: &NativeView, wanted: &Native) -> String {
    match view {
        NativeView::Absent => "absent".to_owned(),
        NativeView::Odd(why) => why.clone(),
        NativeView::Holds(held) if held.summary() == wanted.summary() => format!("{} (other contents)", held.summary()),
        NativeView::Holds(held) => held.summary(),
    }
}
