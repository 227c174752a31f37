//! Pauses every part of the node while an annotation of the own Node says so, until the time that it names.
//!
//! The same holds as a person's order over the socket: written down, with a deadline, ended by it whether the API server
//! answers or not. Nothing is decided while nothing is known of the Node.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use trimtab_domain::plan::{Finding, Severity};

use super::OwnNode;
use super::follow::Seen;
use crate::reconcile::board::Board;
use crate::reconcile::hold::{Hold, LONGEST_HOLD, Stand};
use crate::reconcile::orders::{Order, Switchboard, Undelivered};
use crate::reconcile::report::NodeReport;

/// The annotation; its value is a time of RFC 3339.
pub const PAUSED_UNTIL: &str = "trimtab.dev/paused-until";
/// Who orders these pauses; others are left alone.
pub const BY: &str = "annotation trimtab.dev/paused-until of the Node";

/// Clocks of people and nodes differ.
const SKEW: Duration = Duration::from_secs(300);
/// Pause before an order is given again that a queue had no room for.
const AGAIN: Duration = Duration::from_secs(1);

/// Pauses and ends pauses.
pub(super) struct Standstill {
    pub(super) node: String,
    pub(super) own: watch::Receiver<Seen<OwnNode>>,
    pub(super) reports: watch::Receiver<Arc<NodeReport>>,
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
                Some(until) if self.stands_longer(subsystem, until) => {}
                Some(until) => {
                    let hold = Hold { stand: Stand::Pause, until, by: BY.to_owned(), reason: String::new() };
                    let (answer, _told) = oneshot::channel();
                    self.switchboard.send(subsystem, Order::Hold { hold, answer })?;
                }
                None => {
                    let (answer, told) = oneshot::channel();
                    self.switchboard.send(subsystem, Order::Resume { of: Some(BY), answer })?;
                    ended += u32::from(told.await.unwrap_or(false));
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

    /// True for a part that somebody else has paused, or given back, for longer.
    fn stands_longer(&self, subsystem: &str, until: SystemTime) -> bool {
        let report = self.reports.borrow();
        let part = report.subsystems.iter().find(|part| part.name == subsystem);
        part.and_then(|part| part.hold.as_ref()).is_some_and(|hold| hold.by != BY && hold.until >= until)
    }
}

/// Until when the node is to be paused; `None`: it is not. Malformed and too long ones are none, and said to be.
fn judge(text: Option<&str>, now: SystemTime) -> Result<Option<SystemTime>, String> {
    let Some(text) = text else { return Ok(None) };
    let Ok(until) = humantime::parse_rfc3339(text.trim()) else {
        return Err("it is no time of RFC 3339 in UTC such as 2030-01-31T12:00:00Z".to_owned());
    };
    match until.duration_since(now) {
        Ok(left) if left > LONGEST_HOLD + SKEW => {
            Err(format!("it is more than {} h away, the longest pause", LONGEST_HOLD.as_secs() / 3600))
        }
        Ok(left) if !left.is_zero() => Ok(Some(until)),
        _ => Ok(None),
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
