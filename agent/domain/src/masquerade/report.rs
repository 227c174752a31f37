//! The chains as a report shows them.

use super::change::write_chain;
use super::decide::{Nat, Observed, desired_tables};
use super::view::{ChainView, TableView};
use super::{Backend, POSTROUTING, TableId, guard, native_plan};
use crate::spec::IpMasqSpec;

/// One chain as the report shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// Its name in reports.
    pub object: String,
    /// Summary of what is wished for.
    pub desired: Option<String>,
    /// Summary of what is there; `None`: absent.
    pub observed: Option<String>,
    /// Further facts.
    pub attributes: Vec<(&'static str, String)>,
}

/// The chains that are wished for, drifted or not.
#[must_use]
pub fn objects(desired: Option<&IpMasqSpec>, observed: &Observed) -> Vec<ChainReport> {
    let report = |(table, spec): (TableId, &IpMasqSpec)| {
        if table.backend == Backend::Native {
            return native_plan::report(observed, table, spec);
        }
        let view = match observed.tables.get(&table) {
            Some(Nat::Table(view)) => Some(view),
            _ => None,
        };
        let current = view.and_then(|view| view.chains.get(&spec.masq_chain));
        let value = observed.desired(spec, table).ok();
        let differs = view
            .zip(value.as_ref())
            .is_some_and(|(view, value)| write_chain(view, &spec.masq_chain, value, spec.compat).is_some());
        let shown =
            current.map(|found| format!("{}{}", found.value().summary(), if differs { " (differs)" } else { "" }));
        let mut attributes = vec![("backend", format!("{} ({})", table.backend, observed.backend_reason))];
        attributes.extend(current.zip(view).map(|(current, view)| ("jump", jump_place(current, view))));
        attributes.extend(spec.compat.map(|compat| ("compat", compat.as_str().to_owned())));
        ChainReport {
            object: table.object(&spec.masq_chain),
            desired: value.map(|value| value.summary()),
            observed: shown,
            attributes,
        }
    };
    let chains = desired_tables(desired, observed.backend).map(report);
    chains.chain(guard::reports(desired, observed)).collect()
}

fn jump_place(current: &ChainView, view: &TableView) -> String {
    match current.jumps.iter().map(|jump| jump.place.to_string()).collect::<Vec<_>>().join(", ") {
        places if places.is_empty() => "none".to_owned(),
        places => format!("rule {places} of {} in {POSTROUTING}", view.postrouting.len()),
    }
}
