//! How a chain that is wished for no longer is given back.

use super::chain::ChainValue;
use super::change::{remove_chain, restore_original};
use super::decide::{Nat, Observed, Step};
use super::view::ChainView;
use super::{POSTROUTING, TableId};
use crate::plan::{Cause, Plan, Refusal};
use crate::record::{LedgerChange, Original, Record, Restoration};

/// The steps that undo what was done to one chain.
pub(super) fn give_back(
    plan: &mut Plan<Step>,
    observed: &Observed,
    (table, chain): (TableId, &str),
    record: &Record,
) -> Vec<Step> {
    let forget = || Step::Ledger(LedgerChange::Forget { object: record.object.clone() });
    let view = match observed.tables.get(&table) {
        Some(Nat::Table(view)) => view,
        Some(Nat::Unavailable { cause, detail }) => {
            plan.refusals.push(Refusal { cause: *cause, detail: detail.clone(), ..left_alone(record, String::new()) });
            return Vec::new();
        }
        Some(Nat::Native(_) | Nat::Unreadable(_)) | None => {
            return vec![Step::Read { table, object: record.object.clone() }];
        }
    };
    let Some(current) = view.chains.get(chain) else { return vec![forget()] };
    let change = match restoration(record, chain, current) {
        Restoration::AlreadyOriginal => return vec![forget()],
        Restoration::Remove if current.references.is_empty() => remove_chain(view, chain),
        Restoration::Remove => {
            let rules = current.references.join("; ");
            let detail = format!("chain {chain} is still used by: {rules}; remove that rule, and the chain goes too");
            plan.refusals.push(Refusal { cause: Cause::OwnedByOther, ..left_alone(record, detail) });
            return Vec::new();
        }
        Restoration::Write(text) => {
            ChainValue::parse(&text, chain).map(|original| restore_original(view, chain, &original))
        }
        Restoration::Leave => None,
    };
    if let Some(change) = change {
        return vec![Step::Write { table, object: record.object.clone(), change, repair: false }, forget()];
    }
    let why = if record.original == Original::Unknown {
        "the ledger that knew the original was lost"
    } else {
        "somebody else changed it since"
    };
    let tool = table.tool();
    let detail = format!(
        "{why}; to remove it by hand: {tool} -t nat -S {POSTROUTING}, delete the jump, then {tool} -t nat -F {chain} and \
         {tool} -t nat -X {chain}"
    );
    plan.refusals.push(left_alone(record, detail));
    Vec::new()
}

/// A chain with only our words in it counts as ours even if it is not what was ordered last: a flush, or a stop between
/// promise and write, must not keep it from being given back.
fn restoration(record: &Record, chain: &str, current: &ChainView) -> Restoration {
    let value = current.value();
    let original = match &record.original {
        Original::Value(text) => ChainValue::parse(text, chain),
        Original::Absent | Original::Unknown => None,
    };
    let untouched = original.is_some_and(|original| original.same(&value));
    let ordered = ChainValue::parse(&record.ordered, chain).unwrap_or_default();
    let shown =
        if current.bears_our_mark(&ordered) && !untouched { record.ordered.clone() } else { value.to_text(chain) };
    record.restoration(Some(&shown), |left, right| {
        match (ChainValue::parse(left, chain), ChainValue::parse(right, chain)) {
            (Some(left), Some(right)) => left.same(&right),
            _ => false,
        }
    })
}

pub(super) fn left_alone(record: &Record, detail: String) -> Refusal {
    let wish = "give back what was there before".to_owned();
    Refusal { object: record.object.clone(), wish, cause: Cause::ChangedByOther, detail }
}
