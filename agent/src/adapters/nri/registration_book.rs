//! Registrations that outlive the agent: one that is restarted again and again must not freeze its node each time.
//!
//! The file has one line for each registration, seconds since the epoch. It lies below `/run`, so a reboot, which starts
//! the runtime anew as well, forgets it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::ports::HostFiles;

/// The file, on the host.
pub struct RegistrationBook {
    files: Arc<dyn HostFiles>,
    path: PathBuf,
}

impl RegistrationBook {
    /// A book at this path of the host.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>, path: impl Into<PathBuf>) -> Self {
        Self { files, path: path.into() }
    }

    /// How long ago registrations were made, oldest first. Lines that are no time in the past count for nothing: the
    /// clock may have been set, and a book that cannot be read must not keep the node unpinned.
    pub(super) fn ages(&self, now: SystemTime) -> Vec<Duration> {
        let text = self.files.read(&self.path).unwrap_or_else(|error| {
            warn!(%error, "not known when the container runtime was last registered with");
            None
        });
        let age =
            |line: &str| now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(line.parse().ok()?)).ok();
        let mut ages: Vec<Duration> = text.iter().flat_map(|text| text.lines()).filter_map(age).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages
    }

    /// Keeps the registrations of these ages, one of age zero for each that is just being made.
    pub(super) fn keep(&self, now: SystemTime, ages: impl Iterator<Item = Duration>) {
        let mut text = String::new();
        for age in ages {
            let at = now.checked_sub(age).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            text.extend(at.map(|at| format!("{}\n", at.as_secs())));
        }
        if let Err(error) = self.files.replace(&self.path, &text) {
            warn!(%error, "a restarted agent will not know how often this one has registered with the runtime");
        }
    }
}
