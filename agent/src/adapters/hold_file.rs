//! Which subsystems stand still by a person's order, written down below the state directory.
//!
//! One small JSON object by subsystem and source. It is replaced whole and durably, as an order that is forgotten over a restart
//! would write to the node against a person's will.

#![expect(clippy::disallowed_methods, reason = "this is the adapter of these files")]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::reconcile::hold::{Hold, HoldBook, HoldError, Source, Stand};

const NAME: &str = "pauses.json";

/// Longest file that is read; six subsystems need some 4 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// A hold as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Written {
    /// `pause` or `give-back`.
    stand: String,
    /// RFC 3339.
    until: String,
    by: String,
    reason: String,
}

/// The file.
#[derive(Debug)]
pub struct HoldFile {
    path: PathBuf,
    holds: Mutex<BTreeMap<String, Written>>,
}

impl HoldFile {
    /// The file of a state directory. One that cannot be read or understood is said so on the log, and counts as empty:
    /// the node is held then, as the profile asks.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(NAME);
        let holds = read(&path).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), error, "pauses of before the restart are not known; none is in force");
            BTreeMap::new()
        });
        Self { path, holds: Mutex::new(holds) }
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<String, Written>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Written>, String> {
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
    };
    if length > MAX_BYTES {
        return Err(format!("it has {length} bytes, at most {MAX_BYTES} are read"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Replaces the file durably; without holds there is none.
fn store(path: &Path, holds: &BTreeMap<String, Written>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if holds.is_empty() {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::Builder::new().prefix(".pauses-").tempfile_in(directory)?;
    file.write_all(&serde_json::to_vec_pretty(holds)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// The name of an entry.
fn entry(subsystem: &str, source: Source) -> String {
    match source {
        Source::Call => subsystem.to_owned(),
        Source::Annotation => format!("{subsystem}/annotation"),
        Source::Profile => format!("{subsystem}/profile"),
    }
}

impl Written {
    fn hold(self, source: Source) -> Option<Hold> {
        let until = humantime::parse_rfc3339(&self.until).ok().filter(|until| *until > SystemTime::now())?;
        Some(Hold { source, stand: Stand::parse(&self.stand)?, until, by: self.by, reason: self.reason })
    }
}

impl HoldBook for HoldFile {
    fn read(&self, subsystem: &str) -> Vec<Hold> {
        let holds = self.holds();
        let of = |source| holds.get(&entry(subsystem, source)).cloned()?.hold(source);
        Source::ALL.into_iter().filter_map(of).collect()
    }

    fn write(&self, subsystem: &'static str, source: Source, hold: Option<&Hold>) -> Result<(), HoldError> {
        let mut holds = self.holds();
        let changed = match hold {
            Some(hold) => {
                let until = humantime::format_rfc3339_millis(hold.until).to_string();
                let (by, reason) = (hold.by.clone(), hold.reason.clone());
                let written = Written { stand: hold.stand.as_str().to_owned(), until, by, reason };
                holds.insert(entry(subsystem, source), written);
                true
            }
            None => holds.remove(&entry(subsystem, source)).is_some(),
        };
        if changed { store(&self.path, &holds).map_err(|error| HoldError(error.into())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hold(until: SystemTime) -> Hold {
        let (by, reason) = ("uid 0".into(), "tests: \"quoted\"".into());
        Hold { source: Source::Call, stand: Stand::GiveBack, until, by, reason }
    }

    #[test]
    fn a_pause_outlives_a_restart_until_its_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let soon = humantime::parse_rfc3339("2099-01-01T00:00:00Z").unwrap();
        let book = HoldFile::open(dir.path());
        assert_eq!(book.read("sysctl"), []);
        book.write("sysctl", Source::Call, Some(&hold(soon))).unwrap();
        book.write("cgroup", Source::Call, Some(&hold(SystemTime::now() - Duration::from_secs(1)))).unwrap();
        let again = HoldFile::open(dir.path());
        assert_eq!(again.read("sysctl"), [hold(soon)]);
        assert_eq!(again.read("cgroup"), [], "its deadline has passed");
        again.write("sysctl", Source::Call, None).unwrap();
        again.write("cgroup", Source::Call, None).unwrap();
        assert!(!dir.path().join(NAME).exists(), "nothing is left behind");
    }

    #[test]
    fn whoever_pauses_ends_no_pause_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let soon = humantime::parse_rfc3339("2099-01-01T00:00:00Z").unwrap();
        let annotated = Hold { source: Source::Annotation, stand: Stand::Pause, ..hold(soon) };
        let book = HoldFile::open(dir.path());
        book.write("sysctl", Source::Call, Some(&hold(soon))).unwrap();
        book.write("sysctl", Source::Annotation, Some(&annotated)).unwrap();
        assert_eq!(HoldFile::open(dir.path()).read("sysctl"), [hold(soon), annotated.clone()]);
        book.write("sysctl", Source::Call, None).unwrap();
        assert_eq!(HoldFile::open(dir.path()).read("sysctl"), [annotated]);
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        for text in ["{", "[]", "{\"sysctl\": {\"stand\": \"pause\"}}", &" ".repeat(70_000)] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(NAME), text).unwrap();
            assert_eq!(HoldFile::open(dir.path()).read("sysctl"), []);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_said() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let book = HoldFile::open(&dir.path().join("file"));
        let until = SystemTime::now() + Duration::from_secs(60);
        assert!(book.write("sysctl", Source::Call, Some(&hold(until))).is_err());
        assert_eq!(book.read("sysctl").len(), 1, "it is in force all the same");
    }
}
