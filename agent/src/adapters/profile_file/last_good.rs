//! The kept copy of the last good profile: what a restart falls back to.
//!
//! The first line is `trimtab-profile VERSION LENGTH CHECKSUM`, so that a torn or edited copy is recognised. Such a
//! copy is set aside under another name, never deleted and never used.

use std::fs::{self, DirBuilder, File};
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fnv::FnvHasher;
use trimtab_domain::plan::{Finding, Severity};

const MAGIC: &str = "trimtab-profile";
const VERSION: u32 = 1;
const NAME: &str = "profile.last-good";

/// The copy in a state directory.
#[derive(Debug, Clone)]
pub(in crate::adapters) struct LastGood {
    path: PathBuf,
}

/// The copy is there and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the kept profile {} cannot be used: {why}{}", path.display(), note(aside.as_deref()))]
pub(in crate::adapters) struct Damage {
    path: PathBuf,
    why: String,
    aside: Option<PathBuf>,
}

fn note(aside: Option<&Path>) -> String {
    aside.map(|aside| format!("; it is set aside as {}", aside.display())).unwrap_or_default()
}

impl Damage {
    /// What the report says about it.
    pub(in crate::adapters) fn finding(&self) -> Finding {
        Finding {
            severity: Severity::Error,
            code: "last-good-profile-damaged",
            object: self.path.display().to_string(),
            message: self.to_string(),
            remedy: "no profile is needed from there as long as the agent has a valid one".to_owned(),
        }
    }
}

impl LastGood {
    /// The copy of the profile that belongs to a state directory, whether it exists or not.
    pub(in crate::adapters) fn of(state_dir: &Path) -> Self {
        Self::named(state_dir, NAME)
    }

    /// A copy of another text, in the same form.
    pub(in crate::adapters) fn named(state_dir: &Path, name: &str) -> Self {
        Self { path: state_dir.join(name) }
    }

    pub(in crate::adapters) fn path(&self) -> &Path {
        &self.path
    }

    /// The kept text; `None` if there is none.
    ///
    /// # Errors
    /// [`Damage`] if the copy cannot be read, or was torn or edited and is now set aside.
    pub(in crate::adapters) fn load(&self) -> Result<Option<Vec<u8>>, Damage> {
        let damage = |why: String, aside| Damage { path: self.path.clone(), why, aside };
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(damage(error.to_string(), None)),
        };
        match unpack(&bytes) {
            Ok(text) => Ok(Some(text.to_vec())),
            Err(why) => {
                let aside = self.set_aside().map_err(|error| damage(format!("{why}, nor set aside: {error}"), None))?;
                Err(damage(why, Some(aside)))
            }
        }
    }

    /// Replaces the copy durably; one that already holds this text is left alone.
    ///
    /// # Errors
    /// What the kernel said; the copy before is then still whole.
    pub(in crate::adapters) fn store(&self, text: &[u8]) -> io::Result<()> {
        let wanted = pack(text);
        if fs::read(&self.path).is_ok_and(|bytes| bytes == wanted) {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file = tempfile::Builder::new().prefix(".profile-").tempfile_in(directory)?;
        file.write_all(&wanted)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }

    /// Removes the copy; none there is fine.
    ///
    /// # Errors
    /// What the kernel said; the copy is then still there.
    pub(in crate::adapters) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let free =
            (0..1000).map(|n| self.path.with_file_name(format!("{name}.damaged-{n}"))).find(|path| !path.exists());
        let aside = free.unwrap_or_else(|| self.path.with_file_name(format!("{name}.damaged")));
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }
}

fn pack(text: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{MAGIC} {VERSION} {} {:016x}\n", text.len(), checksum(text)).into_bytes();
    bytes.extend_from_slice(text);
    bytes
}

fn unpack(bytes: &[u8]) -> Result<&[u8], String> {
    let header_end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (header, rest) = bytes.split_at_checked(header_end).ok_or("it has no first line")?;
    let text = rest.get(1..).unwrap_or_default();
    let header = String::from_utf8_lossy(header);
    let words: Vec<&str> = header.split(' ').collect();
    let [MAGIC, version, length, sum] = words.as_slice() else {
        return Err(format!("the first line is not `{MAGIC} VERSION LENGTH CHECKSUM`"));
    };
    if *version != VERSION.to_string() {
        return Err(format!("version {version}, this release knows {VERSION}"));
    }
    if *length != text.len().to_string() {
        return Err(format!("{} bytes follow the first line, which promises {length}", text.len()));
    }
    let found = format!("{:016x}", checksum(text));
    if *sum != found {
        return Err(format!("checksum {found}, the first line promises {sum}"));
    }
    Ok(text)
}

/// FNV-1a, 64 bits: it finds torn and edited files; it is no protection against forgery, the file's mode is.
fn checksum(text: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text);
    hasher.finish()
}
