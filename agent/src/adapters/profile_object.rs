//! The profile that the API server has for this node: judged like a file, the last good one kept over a restart.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::profile_file::keeper::Keeper;
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
    },
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
                out.send_replace(OfferedProfile { offer, loaded: keeper.loaded() });
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                news = keeper.kept(), if keeper.is_keeping() => {
                    if news {
                        out.send_modify(|now| now.loaded = keeper.loaded());
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
