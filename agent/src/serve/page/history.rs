//! What was changed, by whom and why, newest first.

use std::fmt::Write as _;
use std::sync::Arc;

use super::Time;
use super::subsystems::{CLOSE, open};
use crate::picture::Xml;
use crate::reconcile::history::{AGENT, Change, ChangeKind, Entry};

/// Changes that are shown; the history itself goes back further.
const SHOWN: usize = 50;

pub(super) fn section(out: &mut String, entries: &[Arc<Entry>]) {
    open(out, "changes", "Last changes", &["When", "What", "Subsystem", "Object", "Change", "Why"]);
    for entry in entries.iter().rev().take(SHOWN) {
        let change = &entry.change;
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td><span class=\"chip {}\">{}</span></td><td class=\"word\">{}</td>\
             <th scope=\"row\"><bdi class=\"name\">{}</bdi></th><td>{}</td><td>{}</td></tr>",
            Time(entry.time),
            class(change.kind),
            change.kind.as_str(),
            Xml(&change.subsystem),
            Xml(&change.object),
            values(change),
            reason(change),
        );
    }
    if let Some(more) = entries.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(out, "<tr><td colspan=\"6\">and {more} earlier ones</td></tr>");
    }
    out.push_str(CLOSE);
}

const fn class(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Healed | ChangeKind::Drifted | ChangeKind::Refused => "doubt",
        ChangeKind::Failed | ChangeKind::Fight | ChangeKind::ProfileRejected => "bad",
        ChangeKind::Applied
        | ChangeKind::RefusalEnded
        | ChangeKind::Profile
        | ChangeKind::Placed
        | ChangeKind::GivenBack
        | ChangeKind::Call
        | ChangeKind::Started => "plain",
    }
}

/// Old and new value, as far as they are known.
fn values(change: &Change) -> String {
    let value = |text: &Option<String>| text.as_ref().map(|text| format!("<bdi>{}</bdi>", Xml(text)));
    match (value(&change.old), value(&change.new)) {
        (None, None) => String::new(),
        (old, new) => format!("{} → {}", old.unwrap_or_else(|| "–".into()), new.unwrap_or_else(|| "–".into())),
    }
}

/// Who made it if not the agent by itself, why, and what went wrong.
fn reason(change: &Change) -> String {
    let mut words = Vec::new();
    if change.actor != AGENT && !change.actor.is_empty() {
        words.push(format!("by <bdi>{}</bdi>", Xml(&change.actor)));
    }
    if !change.reason.is_empty() {
        words.push(format!("<bdi>{}</bdi>", Xml(&change.reason)));
    }
    words.extend(change.error.as_ref().map(|error| format!("<bdi>{}</bdi>", Xml(error))));
    words.join(": ")
}
