//! Turns a migration back for whoever leaves the node for good: one that nobody holds any more must not stay cordoned, or
//! half moved.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use trimtab_domain::migration::{Outcome, Progress};
use trimtab_domain::spec::cgroup::CgroupDriver;

use super::{Migration, MigrationPorts};
use crate::adapters::api_server::ApiServer;
use crate::adapters::migration_file::{JournalError, MigrationFile};
use crate::cluster::follow::Seen;
use crate::cluster::standstill::LeftAlone;
use crate::reconcile::board::Board;

/// Why it is turned back, for people.
const REASON: &str = "the node is given back (trimtab rollback)";

/// The node is on its way still.
#[derive(Debug, thiserror::Error)]
pub enum Stranded {
    /// How far it is cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It could not be brought back in time. The journal, and the timers of systemd, are as the last step left them.
    #[error("this node is on its way back from cgroup driver {target}, and not there after {seconds} s: {doing}")]
    Unfinished {
        /// The driver that it was to use.
        target: CgroupDriver,
        /// How long was waited.
        seconds: u64,
        /// What is done, or is in the way.
        doing: String,
    },
}

/// The driver that the node is on its way to, or on its way back from; `None`: it is not.
///
/// # Errors
/// [`JournalError`] if the journal cannot be read.
pub fn under_way(journal: &MigrationFile) -> Result<Option<CgroupDriver>, JournalError> {
    let unended = journal.read()?.filter(|written| written.journal.outcome.is_none());
    Ok(unended.map(|written| written.journal.target))
}

/// Brings the node back, or to the end if it has arrived already: kubelet and runtime run with one driver, the node is open,
/// its place in the budget is free, no timer is left. `None`: it was not on its way. `tell` is told what is being done. No
/// agent may run on the node.
///
/// # Errors
/// [`Stranded`]; called again, it goes on.
pub async fn turn_back(
    (api, node): (ApiServer, String),
    ports: MigrationPorts,
    mut tell: impl FnMut(&Progress),
) -> Result<Option<Outcome>, Stranded> {
    let Some(mut written) = ports.journal.read()?.filter(|written| written.journal.outcome.is_none()) else {
        return Ok(None);
    };
    let target = written.journal.target;
    // To stop, to start, and for the API server to answer.
    let limit = Duration::from_secs(written.wish.ready_timeout_seconds.saturating_mul(3));
    let (progress, shown) = watch::channel(Progress::default());
    let mut migration = alone((api, node), ports, progress);
    written.journal.turn_back(REASON.to_owned(), migration.clock.now());
    let stranded = |waited: Duration| {
        let doing = shown.borrow().message.clone();
        Stranded::Unfinished { target, seconds: waited.as_secs(), doing }
    };
    if !migration.keep(written) {
        return Err(stranded(Duration::ZERO));
    }
    let begun = Instant::now();
    loop {
        let Some(now) = migration.written.clone() else { return Ok(None) };
        if let Some(outcome) = now.journal.outcome {
            return Ok(Some(outcome));
        }
        if begun.elapsed() >= limit {
            return Err(stranded(begun.elapsed()));
        }
        let pause = migration.go_on(now, true).await;
        tell(&shown.borrow());
        tokio::time::sleep(pause).await;
    }
}

/// An executor that follows no profile and is told of by nobody.
fn alone(who: (ApiServer, String), ports: MigrationPorts, progress: watch::Sender<Progress>) -> Migration {
    let (node, (_, spec), (events, _)) = (who.1.clone(), watch::channel(None), mpsc::channel(1));
    let (own, reports) = (watch::channel(Seen::Unknown).1, Board::new(node.clone(), &[]).subscribe());
    Migration::new(who, ports, (spec, LeftAlone { node, own, reports }), progress, events)
}
