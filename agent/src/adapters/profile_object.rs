//! The profile that the API server has for this node: judged like a file, the last good one kept over a restart.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trimtab_domain::plan::{Finding, Severity};

use super::profile_file::keeper::{Keeper, OBJECT};
use super::profile_file::{KEEP_AGAIN, LoadedProfile};

/// What the API server says of this node's profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Offer {
    /// Nothing yet.
    #[default]
    Unknown,
    /// That no profile is for this node.
    Nothing {
        /// Why, in one sentence.
        why: String,
    },
    /// This one.
    Object {
        /// How it is called in messages: `nodeprofiles/NAME`.
        origin: String,
        /// The document.
        text: Arc<str>,
        /// Why this one, in one sentence.
        why: String,
        /// A newer one that this node does not take yet; `None`: this is the newest.
        waiting: Option<Waiting>,
    },
}

/// A change that has not come to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// True if it will not come until somebody mends it.
    pub stopped: bool,
    /// What waits, and for what.
    pub why: String,
}

impl Waiting {
    /// Code of the finding that says so.
    #[must_use]
    pub const fn code(stopped: bool) -> &'static str {
        if stopped { "rollout-stopped" } else { "rollout-waiting" }
    }

    fn finding(&self, origin: &str) -> Finding {
        Finding {
            severity: if self.stopped { Severity::Warning } else { Severity::Info },
            code: Self::code(self.stopped),
            object: origin.to_owned(),
            message: self.why.clone(),
            remedy: if self.stopped { "mend the profile, or take the change back".to_owned() } else { String::new() },
        }
    }
}

/// The document of the last good object, if a state directory has one.
#[must_use]
pub fn kept(state_dir: &Path) -> Option<Arc<str>> {
    Keeper::of_object(state_dir).start_kept().text
}

/// Whether a profile that is from there was an object: `nodeprofiles/NAME`, or the kept copy.
#[must_use]
pub fn is_object(source: &str) -> bool {
    source.starts_with("nodeprofiles/") || source.ends_with(OBJECT)
}

/// What is in force, with what is to be said of a newer one.
fn told(offer: &Offer, mut loaded: LoadedProfile) -> LoadedProfile {
    if let Offer::Object { origin, waiting: Some(waiting), .. } = offer {
        loaded.findings.push(waiting.finding(origin));
    }
    loaded
}

/// What is in force by the API server's word.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferedProfile {
    /// What the API server said last.
    pub offer: Offer,
    /// The profile: the one offered, else the last good one.
    pub loaded: LoadedProfile,
}

/// Follows what is offered until cancelled. The first value is there on return: the last good profile of `state_dir`, if
/// there is one. A profile that is no more is forgotten, so that a restart does not bring it back. Needs a tokio runtime.
#[must_use]
pub fn follow(
    mut offers: watch::Receiver<Offer>,
    state_dir: &Path,
    cancel: CancellationToken,
) -> watch::Receiver<OfferedProfile> {
    let mut keeper = Keeper::of_object(state_dir);
    let loaded = keeper.start_kept();
    let (out, receiver) = watch::channel(OfferedProfile { offer: Offer::Unknown, loaded });
    tokio::spawn(async move {
        loop {
            let offer = offers.borrow_and_update().clone();
            if offer != out.borrow().offer {
                keeper.kept().await;
                match &offer {
                    Offer::Unknown => {}
                    Offer::Nothing { .. } => keeper.forget(),
                    Offer::Object { origin, text, .. } => {
                        keeper.path = origin.into();
                        keeper.take(Ok(text.as_bytes().to_vec()));
                    }
                }
                let loaded = told(&offer, keeper.loaded());
                out.send_replace(OfferedProfile { offer, loaded });
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                news = keeper.kept(), if keeper.is_keeping() => {
                    if news {
                        out.send_modify(|now| now.loaded = told(&now.offer, keeper.loaded()));
                    }
                }
                () = tokio::time::sleep(KEEP_AGAIN), if keeper.owes() => keeper.keep_owed(),
                changed = offers.changed() => if changed.is_err() {
                    // The room has ended, and with it the agent.
                    cancel.cancelled().await;
                    return;
                },
            }
        }
    });
    receiver
}
