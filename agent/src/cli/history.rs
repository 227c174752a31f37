//! What `history` prints.

use serde::Serialize;
use trimtab_proto::node::v1alpha1 as wire;

use super::output::{Detail, printable, table};
use super::status::{ago, word};

/// What was changed, as JSON and YAML show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Id of the oldest change that the agent keeps; 0: none.
    pub oldest_id: u64,
    /// Id of the newest change; 0: none yet.
    pub newest_id: u64,
    /// The changes, the newest first.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Grows by one with each change.
    pub id: u64,
    /// When it was noted, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The subsystem; empty: the agent as a whole.
    pub subsystem: String,
    /// One of a closed set: `applied`, `healed`, `drifted`, `failed`, `refused` …
    pub kind: String,
    /// The object; empty: none in particular.
    pub object: String,
    /// Value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_value: Option<String>,
    /// Value after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_value: Option<String>,
    /// Who or what made it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<wire::ListHistoryResponse> for History {
    fn from(answer: wire::ListHistoryResponse) -> Self {
        Self {
            oldest_id: answer.oldest_id,
            newest_id: answer.newest_id,
            changes: answer.changes.into_iter().map(Change::from).collect(),
        }
    }
}

impl From<wire::Change> for Change {
    fn from(change: wire::Change) -> Self {
        Self {
            id: change.id,
            kind: word(change.kind().as_str_name(), "CHANGE_KIND_"),
            time: change.time.map(|time| time.to_string()),
            subsystem: change.subsystem,
            object: change.object,
            old_value: change.old_value,
            new_value: change.new_value,
            actor: change.actor,
            reason: change.reason,
            error: change.error,
        }
    }
}

impl Change {
    /// `128 -> 1024`, or the one of both that is known.
    #[must_use]
    pub fn values(&self) -> String {
        match (&self.old_value, &self.new_value) {
            (Some(old), Some(new)) => format!("{} -> {}", printable(old), printable(new)),
            (Some(old), None) => format!("{} -> none", printable(old)),
            (None, Some(new)) => printable(new),
            (None, None) => "-".to_owned(),
        }
    }

    /// One line for people: `healed sysctl net.core.somaxconn: 7 -> 1024 by trimtab (changed by the kubelet)`.
    #[must_use]
    pub fn line(&self) -> String {
        let subject = [self.subsystem.as_str(), self.object.as_str()];
        let subject: Vec<String> = subject.iter().filter(|part| !part.is_empty()).map(|part| printable(part)).collect();
        let subject = if subject.is_empty() { "agent".to_owned() } else { subject.join(" ") };
        let why = self.error.as_ref().or(Some(&self.reason)).filter(|why| !why.is_empty());
        let why = why.map(|why| format!(" ({})", printable(why))).unwrap_or_default();
        format!("{} {subject}: {} by {}{why}", self.kind, self.values(), printable(&self.actor))
    }
}

/// Renders for people: a line per change, the newest first; if wide, with number and exact time.
#[must_use]
pub fn render(history: &History, detail: Detail) -> String {
    if history.changes.is_empty() {
        return "Nothing that matches was changed.\n".to_owned();
    }
    let wide = detail == Detail::Wide;
    let mut header = vec!["WHEN", "SUBSYSTEM", "WHAT", "OBJECT", "CHANGE", "BY", "WHY"];
    header.extend(if wide { &["TIME", "ID"][..] } else { &[] });
    let mut rows = table(&header);
    for change in &history.changes {
        let mut row = vec![
            change.time.as_deref().map(ago).unwrap_or_default(),
            printable(if change.subsystem.is_empty() { "agent" } else { &change.subsystem }),
            printable(&change.kind),
            printable(&change.object),
            change.values(),
            printable(&change.actor),
            printable(change.error.as_ref().unwrap_or(&change.reason)),
        ];
        if wide {
            row.extend([change.time.clone().unwrap_or_default(), change.id.to_string()]);
        }
        rows.add_row(row);
    }
    format!("{}\n", rows.trim_fmt())
}
