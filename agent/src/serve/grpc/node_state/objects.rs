//! The objects of one subsystem in pages.

use trimtab_proto::node::v1alpha1 as wire;

use super::page::{self, PageSize};
use super::{Refused, report};
use crate::metrics::Metrics;
use crate::reconcile::report::{NodeReport, ObjectReport, SubsystemReport};

/// The subsystem whose rules count.
const MASQUERADE: &str = "masquerade";

const PAGE: PageSize = PageSize { usual: 500, largest: 5_000 };

/// The subsystem with this name.
///
/// # Errors
/// [`Refused::Argument`] with the names that there are.
pub(super) fn subsystem<'a>(report: &'a NodeReport, name: &str) -> Result<&'a SubsystemReport, Refused> {
    let found = report.subsystems.iter().find(|subsystem| subsystem.name == name);
    found.map(|subsystem| &**subsystem).ok_or_else(|| {
        let known: Vec<&str> = report.subsystems.iter().map(|subsystem| subsystem.name).collect();
        let detail = format!("there is no subsystem {name:?}; there are {}", known.join(", "));
        Refused::Argument { field: "subsystem", detail }
    })
}

/// A page of them.
///
/// # Errors
/// [`Refused::Argument`] for an unknown subsystem or token.
pub(super) fn list(
    node: &NodeReport,
    metrics: &Metrics,
    request: &wire::ListObjectsRequest,
) -> Result<wire::ListObjectsResponse, Refused> {
    let subsystem = subsystem(node, &request.subsystem)?;
    let first = page::start(&request.page_token)?.and_then(|first| usize::try_from(first).ok()).unwrap_or(0);
    let drifted = |object: &ObjectReport| object.desired.is_some() && object.desired != object.observed;
    let matches = |object: &&ObjectReport| {
        object.object.contains(&request.contains) && (!request.only_drifted || drifted(object))
    };
    let matching: Vec<&ObjectReport> = subsystem.objects.iter().filter(matches).collect();
    let size = PAGE.of(request.page_size);
    let objects = matching.iter().skip(first).take(size).map(|object| report::to_object(object)).collect();
    let next = first.saturating_add(size);
    Ok(wire::ListObjectsResponse {
        objects,
        observed: subsystem.last_pass.map(Into::into),
        total: u32::try_from(matching.len()).unwrap_or(u32::MAX),
        counters: counters(subsystem, metrics),
        next_page_token: if next < matching.len() { next.to_string() } else { String::new() },
    })
}

/// What a subsystem counts.
fn counters(subsystem: &SubsystemReport, metrics: &Metrics) -> Vec<wire::Counter> {
    let totals = &subsystem.totals;
    let own = [
        ("passes", totals.passes),
        ("steps-done", totals.steps_done),
        ("steps-failed", totals.steps_failed),
        ("drift-found", totals.drift_found),
        ("drift-healed", totals.drift_healed),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value)).into_iter();
    let rules = if subsystem.name == MASQUERADE { metrics.rule_counts() } else { Vec::new() };
    own.chain(rules).map(|(name, value)| wire::Counter { name, value }).collect()
}
