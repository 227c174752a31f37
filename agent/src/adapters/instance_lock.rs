//! One agent per node: an advisory lock that dies with its holder.

#![expect(clippy::disallowed_methods, reason = "this adapter is where the lock meets the disk")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Held for as long as the value lives.
#[derive(Debug)]
pub struct InstanceLock {
    _file: Flock<File>,
}

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent runs.
    #[error(
        "another trimtab (process {holder}) holds this node: {} is locked; stop it first, two agents would fight",
        path.display()
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder as it wrote it, or `unknown`.
        holder: String,
    },
    /// The lock file could not be used.
    #[error(
        "cannot lock {}: it must be writable and on a disk with free space; run as root, or see to --state-dir and --host-root",
        path.display()
    )]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock at once or fails; never waits.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let fail = |source| LockError::File { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fail)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "unknown" } else { holder };
                return Err(LockError::Held { path: path.to_owned(), holder: holder.to_owned() });
            }
            Err((_, errno)) => return Err(fail(errno.into())),
        };
        lock.set_len(0).map_err(fail)?;
        lock.rewind().map_err(fail)?;
        writeln!(lock, "{}", std::process::id()).map_err(fail)?;
        Ok(Self { _file: lock })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/lock");
        let first = InstanceLock::acquire(&path).unwrap();
        let error = InstanceLock::acquire(&path).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        InstanceLock::acquire(&path).unwrap();
    }
}
