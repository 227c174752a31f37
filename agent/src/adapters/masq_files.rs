//! The masquerade agents' ConfigMap files on disk, and the copy of the last good ones in the state directory.

#![expect(
    clippy::disallowed_methods,
    reason = "this adapter is where these files are read: they are the agent's own mounts"
)]

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::error;
use trimtab_domain::spec::ip_masq::ConfigSource;

use crate::adapters::profile_file::last_good::LastGood;
use crate::ports::FileError;
use crate::ports::masq_config::MasqConfig;
use crate::profile::MAX_BYTES;
use crate::profile::ip_masq_agent::{Entry, NAME_PREFIX, Reading};

/// Name of the copy in the state directory.
const KEPT: &str = "ip-masq.last-good";

/// Why ConfigMaps that are read from the API server are not known.
const UNTOLD: &str = "the API server has not told of the ConfigMap yet";

/// The files, and the copy.
pub struct MasqFiles {
    kept: LastGood,
    state_dir: PathBuf,
}

impl MasqFiles {
    /// Keeps the copy in `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { kept: LastGood::named(state_dir, KEPT), state_dir: state_dir.to_owned() }
    }
}

impl MasqConfig for MasqFiles {
    fn read(&self, source: &ConfigSource) -> Reading {
        let place = self.place(source);
        // No ConfigMap would mean the defaults; one that nobody has told of yet means nothing.
        let directory = if matches!(source, ConfigSource::File(_)) { place.parent() } else { Some(place.as_path()) };
        let is_told = source.config_maps().is_none() || directory.is_some_and(Path::exists);
        let untold = || UNTOLD.to_owned();
        match source {
            ConfigSource::File(_) if !is_told => Reading::File { content: Err(untold()), beside: Vec::new() },
            ConfigSource::Directory(_) if !is_told => Reading::Directory(Err(untold())),
            ConfigSource::File(_) => read(&ConfigSource::File(place)),
            ConfigSource::Directory(_) => read(&ConfigSource::Directory(place)),
        }
    }

    fn place(&self, source: &ConfigSource) -> PathBuf {
        // An absolute path stays what it is.
        self.state_dir.join(source.path())
    }

    fn last_good(&self) -> Option<Reading> {
        match self.kept.load() {
            Ok(bytes) => serde_json::from_slice(&bytes?).ok(),
            Err(damage) => {
                error!(%damage, "the last good masquerade configuration cannot be used");
                None
            }
        }
    }

    fn keep(&self, reading: &Reading) -> Result<(), FileError> {
        let failed = |source| FileError { op: "keep", path: self.kept.path().to_owned(), value: None, source };
        let bytes = serde_json::to_vec(reading).map_err(|error| failed(io::Error::other(error)))?;
        self.kept.store(&bytes).map_err(failed)
    }
}

/// What lies there now.
#[must_use]
pub fn read(source: &ConfigSource) -> Reading {
    match source {
        ConfigSource::File(path) => Reading::File { content: read_one(path), beside: beside(path) },
        ConfigSource::Directory(path) => Reading::Directory(entries(path)),
    }
}

/// Go's words for what went wrong, as the originals log them.
fn words(op: &str, path: &Path, error: &io::Error) -> String {
    let what = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("{op} {}: {what}", path.display())
}

/// The bytes, one more than allowed at most, for the parser to refuse; `None`: there is nothing, or a link to nothing.
fn read_one(path: &Path) -> Result<Option<Vec<u8>>, String> {
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(words("open", path, &error)),
    };
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| words("read", path, &error))?;
    Ok(Some(bytes))
}

/// Names of ordinary files in the same directory; none where it cannot be listed.
fn beside(path: &Path) -> Vec<String> {
    let listed = path.parent().and_then(|directory| names(directory).ok()).unwrap_or_default();
    listed.into_iter().filter(|name| path.file_name().is_none_or(|own| own.to_string_lossy() != *name)).collect()
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn entries(directory: &Path) -> Result<Vec<Entry>, String> {
    let names = names(directory).map_err(|error| words("open", directory, &error))?;
    let read = |name: String| {
        let path = directory.join(&name);
        let content = if name.starts_with(NAME_PREFIX) {
            read_one(&path)
                .and_then(|bytes| bytes.ok_or_else(|| words("open", &path, &io::Error::from(ErrorKind::NotFound))))
        } else {
            Ok(Vec::new())
        };
        Entry { name, content }
    };
    Ok(names.into_iter().map(read).collect())
}
