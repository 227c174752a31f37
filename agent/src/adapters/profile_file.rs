//! The profile on disk: read at start, followed by inotify, the last good one kept over a restart.
//!
//! A bad, missing or unreadable profile never takes effect: what was in force stays in force, and the report says why
//! the newest text is not. Nothing is polled.

#![expect(clippy::disallowed_methods, reason = "this adapter is where profiles are read")]

pub(in crate::adapters) mod keeper;
pub(in crate::adapters) mod last_good;
mod points;
pub(in crate::adapters) mod watcher;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trimtab_domain::plan::Finding;
use trimtab_domain::spec::NodeSpec;

use self::keeper::Keeper;
use self::watcher::Watcher;
use crate::profile::diagnostic::{Diagnostic, Rejected};
use crate::profile::{self, MAX_BYTES, Profile};
use crate::reconcile::report::ProfileReport;

/// Pause between two looks at a text that is not valid, to tell a bad profile from one that is being written.
const SETTLE_PAUSE: Duration = Duration::from_millis(25);
/// After this a text that keeps changing is judged as it is.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// Pause before a copy that could not be kept (a full disk) is tried again.
pub(in crate::adapters) const KEEP_AGAIN: Duration = Duration::from_secs(60);

/// What is in force, and what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedProfile {
    /// What is asked of the node; `None` until a good profile is known.
    pub spec: Option<Arc<NodeSpec>>,
    /// The document that it was read from.
    pub text: Option<Arc<str>>,
    /// Where it came from, its number, and why the newest text is not in force.
    pub report: ProfileReport,
    /// What a person should know: a kept copy that was damaged, changes that cannot be followed, doubtful fields.
    pub findings: Vec<Finding>,
}

/// Reads and validates a profile once, keeping nothing.
///
/// # Errors
/// [`Rejected`] with every problem, or with the one reason why the file cannot be read.
pub fn read(path: &Path) -> Result<Profile, Rejected> {
    let text = read_text(path)?;
    profile::parse(&path.to_string_lossy(), &text)
}

/// Loads the profile and follows the file until cancelled. The first value is there on return: the file's, else the
/// last good one of `state_dir`, else none. Needs a tokio runtime.
#[must_use]
pub fn follow(path: &Path, state_dir: &Path, cancel: CancellationToken) -> watch::Receiver<LoadedProfile> {
    let mut keeper = Keeper::new(path, state_dir);
    // Watches first, so that no change falls between the first look and the first event.
    let watcher = Watcher::open(path).map_err(|error| keeper.cannot_follow(&error)).ok();
    let first = keeper.start();
    let (out, receiver) = watch::channel(first);
    tokio::spawn(keep_following(keeper, watcher, out, cancel));
    receiver
}

async fn keep_following(
    mut keeper: Keeper,
    watcher: Option<Watcher>,
    out: watch::Sender<LoadedProfile>,
    cancel: CancellationToken,
) {
    let Some(mut watcher) = watcher else {
        if keeper.kept().await {
            out.send_replace(keeper.loaded());
        }
        return;
    };
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            news = keeper.kept(), if keeper.is_keeping() => {
                if news {
                    out.send_replace(keeper.loaded());
                }
                continue;
            }
            () = tokio::time::sleep(KEEP_AGAIN), if keeper.owes() => {
                keeper.keep_owed();
                continue;
            }
            alive = watcher.changed() => if !alive {
                keeper.cannot_follow(&io::Error::other("the stream of events ended"));
                out.send_replace(keeper.loaded());
                return;
            },
        }
        // One change makes several events; the text tells whether there is anything new.
        let text = read_text(&keeper.path);
        if keeper.seen.as_ref() == Some(&text) {
            continue;
        }
        let text = settled_text(&keeper.path, text).await;
        // One copy after the other, so that the newest is what remains.
        keeper.kept().await;
        if keeper.take(text) {
            out.send_replace(keeper.loaded());
        }
    }
}

/// The text once it is valid, or once two looks in a row found the same bad one.
async fn settled_text(path: &Path, mut text: Result<Vec<u8>, Rejected>) -> Result<Vec<u8>, Rejected> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        let valid = text.as_ref().is_ok_and(|text| profile::parse("", text).is_ok());
        if valid || Instant::now() >= deadline {
            return text;
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
        let again = read_text(path);
        if again == text {
            return text;
        }
        text = again;
    }
}

/// The bytes of the file, bounded; anything but an ordinary file is refused.
fn read_text(path: &Path) -> Result<Vec<u8>, Rejected> {
    let refuse = |found: String, allowed: &str| {
        let file = path.to_string_lossy().into_owned();
        let problem = Diagnostic { file, line: 0, ..Diagnostic::default() };
        Rejected {
            diagnostics: vec![Diagnostic {
                message: "cannot be read".into(),
                found,
                allowed: allowed.into(),
                hint: "name the profile with --profile or TRIMTAB_PROFILE".into(),
                ..problem
            }],
        }
    };
    let read = || -> io::Result<Option<Vec<u8>>> {
        // Without O_NONBLOCK, opening a pipe would wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut text = Vec::new();
        // One byte more than allowed, for the parser to refuse.
        file.take(u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut text)?;
        Ok(Some(text))
    };
    match read() {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(refuse("something else".to_owned(), "an ordinary file")),
        Err(error) => Err(refuse(error.to_string(), "a readable file")),
    }
}
