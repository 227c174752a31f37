//! Pauses every part of the node while an annotation of the own Node says so, until the time that it names.
//!
//! The same holds as for a person's order over the socket: written down, with a deadline, ended by it whether the API server
//! answers or not. Neither ends the other. Nothing is decided while nothing is known of the Node.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::NodeSpec;

use super::OwnNode;
use super::follow::Seen;
use crate::reconcile::board::Board;
use crate::reconcile::hold::{End, Hold, LONGEST_HOLD, Source, Stand};
use crate::reconcile::orders::{Order, Switchboard, Undelivered};
use crate::reconcile::report::NodeReport;

/// The annotation; its value is a time of RFC 3339.
pub const PAUSED_UNTIL: &str = "trimtab.dev/paused-until";
/// Who orders these pauses, for people.
pub const BY: &str = "annotation trimtab.dev/paused-until of the Node";

/// Pause before an order is given again that a queue had no room for.
const AGAIN: Duration = Duration::from_secs(1);

/// Pauses and ends pauses.
pub(super) struct Standstill {
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) board: Arc<Board>,
}

impl Standstill {
    /// Follows the annotation for ever.
    pub(super) async fn keep(mut self) {
        let mut obeyed: Option<Option<SystemTime>> = None;
        loop {
            let text =
                self.own.borrow_and_update().of(&self.node).map(|own| own.annotations.get(PAUSED_UNTIL).cloned());
            let mut busy = false;
            if let Some(text) = text {
                let wanted = judge(text.as_deref(), SystemTime::now());
                let findings = wanted.as_ref().err().map(|why| finding(&self.node, text.as_deref(), why));
                self.board.publish_findings("pause", findings.into_iter().collect());
                let until = wanted.unwrap_or(None);
                if obeyed != Some(until) {
                    busy = self.order(until).await.is_err();
                    if !busy {
                        obeyed = Some(until);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN), if busy => {}
                changed = self.own.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Tells every part; what a part does already it is told again, which changes nothing.
    async fn order(&self, until: Option<SystemTime>) -> Result<(), Undelivered> {
        let mut ended = 0;
        for subsystem in self.switchboard.choose(&[])? {
            match until {
                Some(until) => {
                    let (source, by, reason) = (Source::Annotation, BY.to_owned(), String::new());
                    let hold = Hold { source, stand: Stand::Pause, until, by, reason };
                    let (answer, _told) = oneshot::channel();
                    self.switchboard.send(subsystem, Order::Hold { hold, answer })?;
                }
                None => {
                    let (answer, told) = oneshot::channel();
                    self.switchboard.send(subsystem, Order::Resume { of: Source::Annotation, answer })?;
                    ended += u32::from(told.await.is_ok_and(|told| told.was_paused));
                }
            }
        }
        match until {
            Some(until) => warn!(until = %humantime::format_rfc3339_seconds(until), "paused by {BY}"),
            None if ended > 0 => info!("the pause by {BY} is over"),
            None => {}
        }
        Ok(())
    }
}

/// Whether the node is to be left alone, for what the engine does not do.
pub(super) struct LeftAlone {
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) reports: watch::Receiver<Arc<NodeReport>>,
}

impl LeftAlone {
    /// Why nothing must be begun now under this profile; `None`: it may. A pause of this part of the engine counts, whoever
    /// ordered it; what pauses all of them counts before the engine has heard of it.
    pub(super) fn why(&self, part: &str, spec: &NodeSpec) -> Option<String> {
        let now = SystemTime::now();
        let report = self.reports.borrow();
        let part = report.subsystems.iter().find(|report| report.name == part);
        if let Some(hold) = part.and_then(|part| part.hold.as_ref()) {
            return Some(format!("paused by {}", hold.by));
        }
        let until = spec.pause.as_ref().and_then(|pause| UNIX_EPOCH.checked_add(Duration::from_secs(pause.until)));
        if until.is_some_and(|until| End::of(until, now) == End::Ahead) {
            return Some(format!("paused by profile {}", spec.name));
        }
        let own = self.own.borrow();
        let Some(own) = own.of(&self.node) else { return Some("the own Node is not known yet".to_owned()) };
        let annotated = judge(own.annotations.get(PAUSED_UNTIL).map(String::as_str), now);
        annotated.ok().flatten().map(|_| format!("paused by {BY}"))
    }
}

/// Until when the node is to be paused; `None`: it is not. Malformed and too long ones are none, and said to be.
fn judge(text: Option<&str>, now: SystemTime) -> Result<Option<SystemTime>, String> {
    let Some(text) = text else { return Ok(None) };
    let Ok(until) = humantime::parse_rfc3339(text.trim()) else {
        return Err("it is no time of RFC 3339 in UTC such as 2030-01-31T12:00:00Z".to_owned());
    };
    match End::of(until, now) {
        End::TooFar => Err(format!("it is more than {} h away, the longest pause", LONGEST_HOLD.as_secs() / 3600)),
        End::Ahead => Ok(Some(until)),
        End::Past => Ok(None),
    }
}

fn finding(node: &str, text: Option<&str>, why: &str) -> Finding {
    let text: String = text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(80).collect();
    Finding {
        severity: Severity::Warning,
        code: "pause-not-understood",
        object: format!("nodes/{node}"),
        message: format!("annotation {PAUSED_UNTIL}: {text:?} pauses nothing: {why}"),
        remedy: format!("kubectl annotate --overwrite node {node} {PAUSED_UNTIL}=$(date -u -d '+1 hour' +%FT%TZ)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_time_that_is_near_and_nothing_else() {
        let now = humantime::parse_rfc3339("2030-01-31T12:00:00Z").unwrap();
        let rows = [
            (None, Ok(None)),
            (Some("2030-01-31T13:00:00Z"), Ok(Some(3600))),
            (Some(" 2030-02-01T12:00:00Z "), Ok(Some(24 * 3600))),
            (Some("2030-01-31T12:00:00Z"), Ok(None)),
            (Some("2029-01-31T12:00:00Z"), Ok(None)),
            (Some("2030-02-01T12:10:00Z"), Err("more than 24 h away")),
            (Some("9999-12-31T23:59:59Z"), Err("more than 24 h away")),
            (Some("tomorrow"), Err("no time of RFC 3339")),
            (Some(""), Err("no time of RFC 3339")),
            (Some("2030-01-31"), Err("no time of RFC 3339")),
            (Some("1h"), Err("no time of RFC 3339")),
        ];
        for (text, expected) in rows {
            match (judge(text, now), expected) {
                (Ok(until), Ok(seconds)) => {
                    let expected = seconds.map(|seconds| now + Duration::from_secs(seconds));
                    assert_eq!(until, expected, "{text:?}");
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{text:?}: {why}"),
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }
}
