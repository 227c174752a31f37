//! The history of changes, kept below the state directory for the next run of the agent.
//!
//! One JSON object per line, oldest first. The file is replaced whole and without waiting for the disk: it is for people
//! who look back, and what a crash of the machine takes from it is the last half minute, or at worst all of it.

#![expect(clippy::disallowed_methods, reason = "this is the adapter of these files")]

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::reconcile::history::{Change, ChangeKind, Entry};

const NAME: &str = "history.jsonl";

/// Longest file that is read; what is kept is at most half of it.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A change as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: u64,
    /// Milliseconds since 1970.
    time: u64,
    subsystem: String,
    kind: String,
    object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    new: Option<String>,
    actor: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Line {
    fn of(entry: &Entry) -> Self {
        let change = entry.change.clone();
        let time = entry.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            id: entry.id,
            time: u64::try_from(time).unwrap_or(u64::MAX),
            subsystem: change.subsystem,
            kind: change.kind.as_str().to_owned(),
            object: change.object,
            old: change.old,
            new: change.new,
            actor: change.actor,
            reason: change.reason,
            error: change.error,
        }
    }

    /// `None` for a kind of another version, and for a time that no clock shows.
    fn entry(self) -> Option<Entry> {
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(self.time))?;
        // Years of more than four digits have no RFC 3339.
        if time > UNIX_EPOCH + Duration::from_secs(253_402_300_799) {
            return None;
        }
        let change = Change {
            subsystem: self.subsystem,
            kind: ChangeKind::parse(&self.kind)?,
            object: self.object,
            old: self.old,
            new: self.new,
            actor: self.actor,
            reason: self.reason,
            error: self.error,
        };
        Some(Entry { id: self.id, time, change })
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct HistoryFile {
    path: PathBuf,
}

impl HistoryFile {
    /// The file of a state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { path: state_dir.join(NAME) }
    }

    /// What was kept, oldest first. Lines that cannot be understood are left out; a file that cannot be read is said so
    /// on the log.
    #[must_use]
    pub fn load(&self) -> Vec<Entry> {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
        match read {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                tracing::warn!(path = %self.path.display(), %error, "the history of before the restart is not known");
            }
            _ => {}
        }
        let lines = text.split(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()?.entry()).collect()
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// What the kernel said; the file before is then still whole.
    pub fn store(&self, entries: &[Arc<Entry>]) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, &Line::of(entry))?;
            text.push(b'\n');
        }
        let mut file = tempfile::Builder::new().prefix(".history-").tempfile_in(directory)?;
        file.write_all(&text)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(id: u64, kind: ChangeKind) -> Entry {
        let mut change = Change::new("sysctl", kind, "a\nb");
        change.old = Some("1".into());
        change.error = (id == 2).then(|| "cannot".into());
        Entry { id, time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123), change }
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let file = HistoryFile::of(dir.path());
        assert_eq!(file.load(), []);
        let entries: Vec<Entry> = (1..).zip(ChangeKind::ALL).map(|(id, kind)| entry(id, kind)).collect();
        let shared: Vec<_> = entries.iter().cloned().map(Arc::new).collect();
        file.store(&shared).unwrap();
        assert_eq!(file.load(), entries);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [NAME], "no temporary file is left");
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = HistoryFile::of(dir.path());
        file.store(&[Arc::new(entry(7, ChangeKind::Healed))]).unwrap();
        let good = fs::read_to_string(dir.path().join(NAME)).unwrap();
        let far = good.replace("1700000000123", "18446744073709551615");
        let other = good.replace("healed", "danced");
        let torn = good.get(..20).unwrap();
        fs::write(dir.path().join(NAME), format!("\u{0}\n{far}{other}{good}{torn}")).unwrap();
        assert_eq!(file.load(), [entry(7, ChangeKind::Healed)]);
    }
}
