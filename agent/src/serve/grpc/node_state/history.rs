//! The history in pages, the newest change first.

use std::time::SystemTime;

use trimtab_proto::node::v1alpha1 as wire;

use super::Refused;
use super::page::{self, PageSize};
use crate::reconcile::history::{ChangeKind, Entry, History};

const PAGE: PageSize = PageSize { usual: 100, largest: 1_000 };

/// A page of it.
///
/// # Errors
/// [`Refused::Argument`] for an unknown token or a time that does not exist.
pub(super) fn list(
    history: &History,
    request: &wire::ListHistoryRequest,
) -> Result<wire::ListHistoryResponse, Refused> {
    let before = page::start(&request.page_token)?.unwrap_or(u64::MAX);
    let since = request
        .since
        .map(SystemTime::try_from)
        .transpose()
        .map_err(|error| Refused::Argument { field: "since", detail: error.to_string() })?;
    let matches = |entry: &Entry| {
        let change = &entry.change;
        entry.id > request.after_id
            && since.is_none_or(|since| entry.time >= since)
            && (request.subsystems.is_empty() || request.subsystems.contains(&change.subsystem))
            && change.object.contains(&request.contains)
            && (request.kinds.is_empty() || request.kinds.contains(&i32::from(to_kind(change.kind))))
    };
    let entries = history.entries();
    let size = PAGE.of(request.page_size);
    let mut matching = entries.iter().rev().filter(|entry| entry.id < before && matches(entry));
    let changes: Vec<wire::Change> = matching.by_ref().take(size).map(|entry| to_wire(entry)).collect();
    let next = matching.next().and(changes.last()).map(|last| last.id.to_string());
    Ok(wire::ListHistoryResponse {
        changes,
        oldest_id: entries.first().map_or(0, |entry| entry.id),
        newest_id: entries.last().map_or(0, |entry| entry.id),
        next_page_token: next.unwrap_or_default(),
    })
}

fn to_wire(entry: &Entry) -> wire::Change {
    let change = entry.change.clone();
    wire::Change {
        id: entry.id,
        time: Some(entry.time.into()),
        subsystem: change.subsystem,
        kind: to_kind(change.kind).into(),
        object: change.object,
        old_value: change.old,
        new_value: change.new,
        actor: change.actor,
        reason: change.reason,
        error: change.error,
    }
}

const fn to_kind(kind: ChangeKind) -> wire::ChangeKind {
    match kind {
        ChangeKind::Applied => wire::ChangeKind::Applied,
        ChangeKind::Healed => wire::ChangeKind::Healed,
        ChangeKind::Drifted => wire::ChangeKind::Drifted,
        ChangeKind::Failed => wire::ChangeKind::Failed,
        ChangeKind::Refused => wire::ChangeKind::Refused,
        ChangeKind::RefusalEnded => wire::ChangeKind::RefusalEnded,
        ChangeKind::Fight => wire::ChangeKind::Fight,
        ChangeKind::Profile => wire::ChangeKind::Profile,
        ChangeKind::ProfileRejected => wire::ChangeKind::ProfileRejected,
        ChangeKind::Placed => wire::ChangeKind::Placed,
        ChangeKind::GivenBack => wire::ChangeKind::GivenBack,
        ChangeKind::Call => wire::ChangeKind::Call,
        ChangeKind::Started => wire::ChangeKind::Started,
    }
}
