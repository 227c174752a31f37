//! The unix socket: bound under a temporary name and renamed, so that the path never leads to nobody.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, lstat};
use nix::unistd::{Gid, chown, unlink};
use nix::{fcntl::AT_FDCWD, fcntl::renameat};
use tokio::net::{UnixListener, UnixStream};

/// Longest path of a unix socket, its final zero left out (`unix(7)`, `sun_path`).
const MAX_PATH_BYTES: usize = 107;

/// How long a process that may be serving the path is given to accept.
const PROBE: Duration = Duration::from_millis(500);

/// Where the socket is and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Its path; the directory is created if it is absent.
    pub path: PathBuf,
    /// Permission bits; a client needs write permission to connect.
    pub mode: u32,
    /// Group that owns the socket; `None`: the group of the agent.
    pub group: Option<u32>,
}

impl SocketConfig {
    /// Mode 0660, owned by the agent's user and group.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), mode: 0o660, group: None }
    }
}

/// The socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit into a socket address.
    #[error("the socket path {} is {} bytes long, at most {MAX_PATH_BYTES} are possible; choose a shorter one", path.display(), path.as_os_str().len())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The path has no file name.
    #[error("the socket path {} names no file", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Something else has the path.
    #[error("{} exists and is {found}, not a socket; it is left alone: remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Another process serves the path.
    #[error("another process serves {}; stop it or choose another path", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {op} {}; see to its directory, or choose another path with --socket", path.display())]
    Io {
        /// The deed.
        op: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Device and inode: tells our socket from one that another process put in its place.
type Identity = (u64, u64);

/// A socket that listens at its final path.
pub(crate) struct BoundSocket {
    /// Accepts connections.
    pub(crate) listener: UnixListener,
    /// Removes the path later.
    pub(crate) path: OwnedPath,
}

impl fmt::Debug for BoundSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundSocket").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The path of a socket that this process bound.
#[derive(Debug)]
pub(crate) struct OwnedPath {
    path: PathBuf,
    identity: Identity,
}

impl fmt::Display for OwnedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl OwnedPath {
    /// Removes the socket if the path still leads to it.
    ///
    /// # Errors
    /// [`SocketError::Io`] if it is still ours and cannot be removed.
    pub(crate) fn remove(&self) -> Result<(), SocketError> {
        match lstat(&self.path) {
            Ok(stat) if identity(&stat) == self.identity => {
                unlink(&self.path).map_err(|errno| io_error("remove", &self.path, errno))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Binds, sets mode and owner, then renames over the final path.
///
/// # Errors
/// [`SocketError`]; a temporary name that was made is removed again.
pub(crate) async fn bind(config: &SocketConfig) -> Result<BoundSocket, SocketError> {
    let path = &config.path;
    let temporary = temporary_path(path)?;
    create_directory(path)?;
    refuse_if_taken(path).await?;
    let _ = unlink(&temporary);
    let listener = UnixListener::bind(&temporary).map_err(|source| SocketError::Io {
        op: "bind",
        path: temporary.clone(),
        source,
    })?;
    match publish(config, &temporary) {
        Ok(identity) => Ok(BoundSocket { listener, path: OwnedPath { path: path.clone(), identity } }),
        Err(error) => {
            let _ = unlink(&temporary);
            Err(error)
        }
    }
}

/// Gives the bound socket its mode and owner, and at last its name.
fn publish(config: &SocketConfig, temporary: &Path) -> Result<Identity, SocketError> {
    let failed = |op| move |errno| io_error(op, temporary, errno);
    if let Some(group) = config.group {
        chown(temporary, None, Some(Gid::from_raw(group)))
            .map_err(failed("give to its group (the agent must be a member of it or have CAP_CHOWN)"))?;
    }
    let mode = Mode::from_bits_truncate(config.mode & 0o777);
    fchmodat(AT_FDCWD, temporary, mode, FchmodatFlags::FollowSymlink).map_err(failed("change the mode of"))?;
    let identity = identity(&lstat(temporary).map_err(failed("stat"))?);
    renameat(AT_FDCWD, temporary, AT_FDCWD, &config.path).map_err(failed("rename"))?;
    Ok(identity)
}

/// A name in the same directory, which fits wherever the final one fits.
fn temporary_path(path: &Path) -> Result<PathBuf, SocketError> {
    let name = path.file_name().ok_or_else(|| SocketError::NoName { path: path.to_owned() })?;
    let temporary = path.with_file_name(format!(".{}.new", std::process::id()));
    let longest = path.as_os_str().len().max(temporary.as_os_str().len());
    if longest > MAX_PATH_BYTES || name.is_empty() {
        return Err(SocketError::TooLong { path: path.to_owned() });
    }
    Ok(temporary)
}

fn create_directory(path: &Path) -> Result<(), SocketError> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(|source| SocketError::Io {
        op: "create the directory",
        path: directory.to_owned(),
        source,
    })
}

/// # Errors
/// [`SocketError::NotASocket`] or [`SocketError::InUse`]; a socket that nobody serves may be replaced.
async fn refuse_if_taken(path: &Path) -> Result<(), SocketError> {
    let stat = match lstat(path) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(io_error("stat", path, errno)),
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFSOCK {
        return Err(SocketError::NotASocket { path: path.to_owned(), found: name_of(kind) });
    }
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Connected, or its queue is full, or it may not be asked: somebody listens.
        _ => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

const fn name_of(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "a file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFIFO => "a pipe",
        _ => "a device",
    }
}

fn identity(stat: &FileStat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

fn io_error(op: &'static str, path: &Path, errno: Errno) -> SocketError {
    SocketError::Io { op, path: path.to_owned(), source: errno.into() }
}
