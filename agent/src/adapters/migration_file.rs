//! The journal of a migration below the state directory: replaced whole and durably, with length and checksum in its first
//! line as in the ledger, so that a torn or edited one is recognised.

#![expect(clippy::disallowed_methods, reason = "this adapter is where the journal meets the disk")]

use std::fs::{self, DirBuilder, File};
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use trimtab_domain::migration::Journal;
use trimtab_domain::spec::cgroup::MigrationSpec;

use super::driver_files::Places;

const NAME: &str = "migration";
const UNFINISHED: &str = ".migration.new";
const MAGIC: &str = "trimtab-migration";
/// Version of the format; a later one is refused, not guessed at.
const VERSION: u32 = 1;
/// Longest file that is read; one has about 1 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// A migration as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// How far it is.
    pub journal: Journal,
    /// Which files and units it is about.
    pub places: Places,
    /// What the profile asked for when it began; one that has ended is not tried again while it asks the same.
    pub wish: MigrationSpec,
}

/// The journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no.
    #[error("cannot {op} {}: {source}", path.display())]
    File {
        /// `read`, `write` …
        op: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is torn, edited, or of a later release. Nothing is guessed: where the node stands is for a person to see.
    #[error(
        "{} cannot be used: {detail}; bring kubelet and runtime to one driver by hand, then remove it",
        path.display()
    )]
    Damaged {
        /// The path.
        path: PathBuf,
        /// What is odd.
        detail: String,
    },
}

/// The file.
#[derive(Debug, Clone)]
pub struct MigrationFile {
    directory: PathBuf,
}

impl MigrationFile {
    /// The file of a state directory; nothing is opened yet.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { directory: state_dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// The last migration; `None`: there was none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn read(&self) -> Result<Option<Written>, JournalError> {
        let path = self.path();
        let failed = |source| JournalError::File { op: "read", path: path.clone(), source };
        let damaged = |detail: String| JournalError::Damaged { path: path.clone(), detail };
        match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_BYTES => return Err(damaged(format!("it has {} bytes", found.len()))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let bytes = fs::read(&path).map_err(failed)?;
        parse(&String::from_utf8_lossy(&bytes)).map(Some).map_err(damaged)
    }

    /// Replaces it, and returns once it is on the disk.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub fn write(&self, written: &Written) -> Result<(), JournalError> {
        let failed = |source| JournalError::File { op: "write", path: self.path(), source };
        self.store(written).map_err(failed)
    }

    fn store(&self, written: &Written) -> io::Result<()> {
        let body = serde_json::to_string_pretty(written)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        // Always the same name, so that what a crash left is overwritten; the lock keeps other agents away.
        let unfinished = self.directory.join(UNFINISHED);
        let mut file = File::create(&unfinished)?;
        write!(file, "{MAGIC} {VERSION} {} {:016x}\n{body}", body.len(), checksum(&body))?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path())?;
        File::open(&self.directory)?.sync_all()
    }
}

fn parse(text: &str) -> Result<Written, String> {
    let (header, body) = text.split_once('\n').ok_or("it has no first line")?;
    let words: Vec<&str> = header.split(' ').collect();
    let [MAGIC, version, length, sum] = words.as_slice() else {
        return Err(format!("the first line is not `{MAGIC} VERSION LENGTH CHECKSUM`"));
    };
    if *version != VERSION.to_string() {
        return Err(format!("it has version {version:?}, this release knows {VERSION}"));
    }
    if *length != body.len().to_string() || *sum != format!("{:016x}", checksum(body)) {
        return Err("it is torn or edited".to_owned());
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

/// FNV-1a, 64 bits, as in the ledger.
fn checksum(body: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(body.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use trimtab_domain::migration::{Direction, Outcome};
    use trimtab_domain::spec::cgroup::CgroupDriver;

    use super::*;

    fn written() -> Written {
        let places = Places {
            kubelet_unit: "kubelet.service".into(),
            runtime_unit: "containerd.service".into(),
            kubelet_config: "/k".into(),
            runtime_config: "/r".into(),
            handlers: Some(vec!["runc".into()]),
        };
        Written { journal: Journal::begin(CgroupDriver::Systemd, 7), places, wish: MigrationSpec::default() }
    }

    #[test]
    fn what_was_written_is_read_again_whatever_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let file = MigrationFile::of(&directory.path().join("below"));
        assert_eq!(file.read().unwrap(), None);
        let mut one = written();
        file.write(&one).unwrap();
        assert_eq!(file.read().unwrap(), Some(one.clone()));
        one.journal.direction = Direction::Back { reason: "ä\n".into() };
        one.journal.outcome = Some(Outcome::TurnedBack { reason: "x".into() });
        one.places.handlers = None;
        file.write(&one).unwrap();
        assert_eq!(MigrationFile::of(&directory.path().join("below")).read().unwrap(), Some(one));
    }

    #[test]
    fn a_file_that_was_cut_anywhere_or_edited_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let file = MigrationFile::of(directory.path());
        file.write(&written()).unwrap();
        let whole = fs::read(file.path()).unwrap();
        let mut texts: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole.iter().take(end).copied().collect()).collect();
        texts.push(String::from_utf8(whole.clone()).unwrap().replacen(" 1 ", " 2 ", 1).into_bytes());
        texts.push(String::from_utf8(whole).unwrap().replacen("forward", "forwart", 1).into_bytes());
        texts.push(vec![b' '; 70_000]);
        for text in texts {
            fs::write(file.path(), &text).unwrap();
            let read = file.read();
            assert!(matches!(read, Err(JournalError::Damaged { .. })), "{read:?}");
        }
    }
}
