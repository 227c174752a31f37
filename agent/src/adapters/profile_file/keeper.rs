//! What is in force, what was said of the newest text, and the copy kept for a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::NodeSpec;

use super::last_good::LastGood;
use super::{LoadedProfile, read_text};
use crate::profile::diagnostic::{Diagnostic, Rejected};
use crate::profile::{self, Profile};
use crate::reconcile::report::ProfileReport;

/// Name of the kept copy of the API server's profile.
pub(in crate::adapters) const OBJECT: &str = "node-profile.last-good";

/// What is in force and what was said last.
pub(in crate::adapters) struct Keeper {
    pub(in crate::adapters) path: PathBuf,
    last_good: LastGood,
    /// The copy that is being written.
    keeping: Option<JoinHandle<io::Result<()>>>,
    /// The text in force, until its copy is durable.
    owed: Option<Vec<u8>>,
    /// What was judged last.
    pub(super) seen: Option<Result<Vec<u8>, Rejected>>,
    spec: Option<Arc<NodeSpec>>,
    /// The document that `spec` was read from.
    text: Option<Arc<str>>,
    report: ProfileReport,
    warnings: Vec<Finding>,
    standing: Vec<Finding>,
}

impl Keeper {
    pub(in crate::adapters) fn new(path: &Path, state_dir: &Path) -> Self {
        Self::keeping(path, LastGood::of(state_dir))
    }

    /// One for the profile that the API server has for this node.
    pub(in crate::adapters) fn of_object(state_dir: &Path) -> Self {
        Self::keeping(Path::new("nodeprofiles"), LastGood::named(state_dir, OBJECT))
    }

    fn keeping(path: &Path, last_good: LastGood) -> Self {
        Self {
            path: path.to_owned(),
            last_good,
            keeping: None,
            owed: None,
            seen: None,
            spec: None,
            text: None,
            report: ProfileReport::default(),
            warnings: Vec::new(),
            standing: Vec::new(),
        }
    }

    /// The first look: the file, and where that is no good the kept copy.
    pub(in crate::adapters) fn start(&mut self) -> LoadedProfile {
        let text = read_text(&self.path);
        let kept = self.load_kept();
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

    /// The first look where there is nothing to be read yet: the kept copy.
    pub(in crate::adapters) fn start_kept(&mut self) -> LoadedProfile {
        if let Some(kept) = self.load_kept() {
            self.fall_back(&kept);
        }
        self.loaded()
    }

    /// There is no profile any more, and none to fall back to.
    pub(in crate::adapters) fn forget(&mut self) {
        (self.spec, self.text, self.owed, self.seen) = (None, None, None, None);
        self.warnings.clear();
        self.report = ProfileReport { generation: self.report.generation, ..ProfileReport::default() };
        if let Err(error) = self.last_good.remove() {
            error!(%error, "the kept profile cannot be removed; a restart without the API server would bring it back");
        }
    }

    fn load_kept(&mut self) -> Option<Vec<u8>> {
        match self.last_good.load() {
            Ok(kept) => kept,
            Err(damage) => {
                error!(%damage, "the last good profile cannot be used");
                self.standing.push(damage.finding());
                None
            }
        }
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
                self.text = as_text(kept);
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
    pub(in crate::adapters) fn take(&mut self, text: Result<Vec<u8>, Rejected>) -> bool {
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
        self.keep(text);
        self.warnings = profile.warnings.iter().map(doubt).collect();
        if self.spec.as_deref() != Some(&profile.spec) {
            self.report.generation += 1;
            info!(name = %profile.spec.name, generation = self.report.generation, "a profile is in force");
            for warning in &profile.warnings {
                warn!("{warning}");
            }
            self.spec = Some(Arc::new(profile.spec));
            self.text = as_text(text);
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
            let stays = if self.spec.is_some() { "; the last good profile stays in force" } else { "" };
            for problem in &errors {
                error!("{problem}");
            }
            error!(errors = errors.len(), "the profile is refused{stays}");
        }
        self.report.valid = false;
        self.report.errors = errors;
    }

    /// Begins to write the copy that a restart falls back to, beside the work: a disk takes tens of milliseconds to
    /// make it durable. If the agent dies meanwhile, the file itself is still there to be read again.
    fn keep(&mut self, text: &[u8]) {
        self.owed = Some(text.to_vec());
        self.keep_owed();
    }

    /// Begins to write the copy that could not be written before.
    pub(in crate::adapters) fn keep_owed(&mut self) {
        let (last_good, owed) = (self.last_good.clone(), self.owed.clone());
        self.keeping = owed.map(|text| tokio::task::spawn_blocking(move || last_good.store(&text)));
    }

    /// True while a copy is being written.
    pub(in crate::adapters) fn is_keeping(&self) -> bool {
        self.keeping.is_some()
    }

    /// True if a copy could not be written and must be tried again.
    pub(in crate::adapters) fn owes(&self) -> bool {
        self.owed.is_some() && self.keeping.is_none()
    }

    /// Waits until the copy is written; true if there is something new to be told of it. A profile is used even if it
    /// cannot be kept.
    pub(in crate::adapters) async fn kept(&mut self) -> bool {
        const CODE: &str = "last-good-profile-not-kept";
        let Some(keeping) = &mut self.keeping else { return false };
        let done = keeping.await.map_err(io::Error::other).flatten();
        self.keeping = None;
        let told = self.standing.iter().any(|finding| finding.code == CODE);
        match done {
            Ok(()) => {
                self.owed = None;
                self.standing.retain(|finding| finding.code != CODE);
                told
            }
            Err(_) if told => false,
            Err(error) => {
                error!(%error, "the profile cannot be kept for a restart");
                self.standing.push(Finding {
                    severity: Severity::Warning,
                    code: CODE,
                    object: self.last_good.path().display().to_string(),
                    message: format!("the profile in force cannot be kept for a restart: {error}"),
                    remedy: "make the state directory writable, with free space; it is tried again every minute"
                        .to_owned(),
                });
                true
            }
        }
    }

    pub(in crate::adapters) fn cannot_follow(&mut self, error: &io::Error) {
        error!(%error, "changes of the profile are not seen until the agent is started again");
        self.standing.push(Finding {
            severity: Severity::Error,
            code: "profile-not-followed",
            object: self.path.display().to_string(),
            message: format!("changes of the profile are not seen: {error}"),
            remedy: "raise fs.inotify.max_user_instances and max_user_watches, then start the agent again".to_owned(),
        });
    }

    pub(in crate::adapters) fn loaded(&self) -> LoadedProfile {
        let findings = self.standing.iter().chain(&self.warnings).cloned().collect();
        LoadedProfile { spec: self.spec.clone(), text: self.text.clone(), report: self.report.clone(), findings }
    }
}

/// A document that was read is text.
fn as_text(document: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(document).ok().map(Arc::from)
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
