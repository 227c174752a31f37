//! The profile on disk: read at start, followed by inotify, the last good one kept over a restart.
//!
//! A bad, missing or unreadable profile never takes effect: what was in force stays in force, and the report says why
//! the newest text is not. Nothing is polled.

#![expect(clippy::disallowed_methods, reason = "this adapter is where profiles are read")]

mod last_good;
mod points;
mod watcher;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::NodeSpec;

use self::last_good::LastGood;
use self::watcher::Watcher;
use crate::profile::diagnostic::{Diagnostic, Rejected};
use crate::profile::{self, MAX_BYTES, Profile};
use crate::reconcile::report::ProfileReport;

/// Pause between two looks at a text that is not valid, to tell a bad profile from one that is being written.
const SETTLE_PAUSE: Duration = Duration::from_millis(25);
/// After this a text that keeps changing is judged as it is.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

/// What is in force, and what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedProfile {
    /// What is asked of the node; `None` until a good profile is known.
    pub spec: Option<Arc<NodeSpec>>,
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
    if let Some(watcher) = watcher {
        tokio::spawn(keep_following(keeper, watcher, out, cancel));
    }
    receiver
}

async fn keep_following(
    mut keeper: Keeper,
    mut watcher: Watcher,
    out: watch::Sender<LoadedProfile>,
    cancel: CancellationToken,
) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
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

/// What is in force and what was said last.
struct Keeper {
    path: PathBuf,
    last_good: LastGood,
    /// What was judged last.
    seen: Option<Result<Vec<u8>, Rejected>>,
    spec: Option<Arc<NodeSpec>>,
    report: ProfileReport,
    warnings: Vec<Finding>,
    standing: Vec<Finding>,
}

impl Keeper {
    fn new(path: &Path, state_dir: &Path) -> Self {
        Self {
            path: path.to_owned(),
            last_good: LastGood::of(state_dir),
            seen: None,
            spec: None,
            report: ProfileReport::default(),
            warnings: Vec::new(),
            standing: Vec::new(),
        }
    }

    /// The first look: the file, and where that is no good the kept copy.
    fn start(&mut self) -> LoadedProfile {
        let text = read_text(&self.path);
        let kept = match self.last_good.load() {
            Ok(kept) => kept,
            Err(damage) => {
                error!(%damage, "the last good profile cannot be used");
                self.standing.push(damage.finding());
                None
            }
        };
        self.take(text);
        if self.spec.is_none()
            && let Some(kept) = kept
        {
            self.fall_back(&kept);
        }
        if self.spec.is_none() {
            error!(path = %self.path.display(), "no profile is in force: nothing is held until there is a valid one");
        }
        self.loaded()
    }

    fn fall_back(&mut self, kept: &[u8]) {
        let name = self.last_good.path().display().to_string();
        match profile::parse(&name, kept) {
            Ok(profile) => {
                warn!(path = %self.path.display(), kept = %name, "the last good profile is in force");
                self.report.name.clone_from(&profile.spec.name);
                self.report.generation = 1;
                self.report.source = name;
                self.spec = Some(Arc::new(profile.spec));
            }
            Err(rejected) => self.standing.push(Finding {
                severity: Severity::Error,
                code: "last-good-profile-refused",
                object: name,
                message: format!("this release refuses the profile that was in force before: {rejected}"),
                remedy: "give the agent a valid profile".to_owned(),
            }),
        }
    }

    /// Judges a text; true if something is to be told.
    fn take(&mut self, text: Result<Vec<u8>, Rejected>) -> bool {
        let before = (self.report.clone(), self.warnings.clone());
        let file = self.path.to_string_lossy().into_owned();
        match text.as_ref().map_err(Rejected::clone).and_then(|text| profile::parse(&file, text)) {
            Ok(profile) => self.accept(text.as_deref().unwrap_or_default(), profile, file),
            Err(rejected) => self.reject(&rejected),
        }
        self.seen = Some(text);
        before != (self.report.clone(), self.warnings.clone())
    }

    fn accept(&mut self, text: &[u8], profile: Profile, file: String) {
        // Kept before it is used: a restart must not fall back behind what the node was held at.
        self.keep(text);
        self.warnings = profile.warnings.iter().map(doubt).collect();
        if self.spec.as_deref() != Some(&profile.spec) {
            self.report.generation += 1;
            info!(name = %profile.spec.name, generation = self.report.generation, "a profile is in force");
            for warning in &profile.warnings {
                warn!("{warning}");
            }
            self.spec = Some(Arc::new(profile.spec));
        } else if !self.report.valid {
            info!(generation = self.report.generation, "the profile is valid again");
        }
        self.report.name = self.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
        self.report.source = file;
        self.report.valid = true;
        self.report.errors.clear();
    }

    fn reject(&mut self, rejected: &Rejected) {
        let errors: Vec<String> = rejected.diagnostics.iter().map(ToString::to_string).collect();
        if errors != self.report.errors {
            let stays = if self.spec.is_some() { "the last good profile stays in force" } else { "none is in force" };
            for problem in &errors {
                error!("{problem}");
            }
            error!(errors = errors.len(), "the profile is refused; {stays}");
        }
        self.report.valid = false;
        self.report.errors = errors;
    }

    /// Writes the copy that a restart falls back to. A profile is used even if it cannot be kept.
    fn keep(&mut self, text: &[u8]) {
        const CODE: &str = "last-good-profile-not-kept";
        self.standing.retain(|finding| finding.code != CODE);
        if let Err(error) = self.last_good.store(text) {
            error!(%error, "the profile cannot be kept for a restart");
            self.standing.push(Finding {
                severity: Severity::Warning,
                code: CODE,
                object: self.last_good.path().display().to_string(),
                message: format!("the profile in force cannot be kept for a restart: {error}"),
                remedy: "make the state directory writable".to_owned(),
            });
        }
    }

    fn cannot_follow(&mut self, error: &io::Error) {
        error!(%error, "changes of the profile are not seen until the agent is started again");
        self.standing.push(Finding {
            severity: Severity::Error,
            code: "profile-not-followed",
            object: self.path.display().to_string(),
            message: format!("changes of the profile are not seen: {error}"),
            remedy: "raise fs.inotify.max_user_instances and max_user_watches, then start the agent again".to_owned(),
        });
    }

    fn loaded(&self) -> LoadedProfile {
        let findings = self.standing.iter().chain(&self.warnings).cloned().collect();
        LoadedProfile { spec: self.spec.clone(), report: self.report.clone(), findings }
    }
}

/// A warning of the parser as a finding.
fn doubt(warning: &Diagnostic) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: "profile-doubtful",
        object: warning.path.clone(),
        message: warning.to_string(),
        remedy: String::new(),
    }
}
