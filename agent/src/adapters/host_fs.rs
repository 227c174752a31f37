//! The host's files below a prefix, reached so that no name leads out of it.
//!
//! Every path is resolved by `openat2(2)` (Linux 5.6 and later) with the host root as `/`: symbolic links of the
//! host, absolute ones too, mean what they mean on the host and never reach into the container. Below `/proc/sys`,
//! where a link has no business, none is followed. Where that call is missing the same is done step by step.

mod walk;

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat, renameat};
use nix::sys::stat::{Mode as Bits, fstatat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use crate::ports::{Entry, FileError, HostFiles, Mode};

/// Longest file that is read; the largest texts of interest (`modules.dep`, `cpuinfo` of 1024 CPUs) are near 2 MiB.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Mode of an ordinary file that did not exist before.
const NEW_FILE: u32 = 0o644;
/// How often a path is resolved anew when a rename or mount got in between (openat2(2), EAGAIN).
const MAX_TRIES: usize = 16;
/// No kernel parameter is a link, so none may lead a write elsewhere.
const NO_LINKS_BELOW: &str = "/proc/sys";

/// Files of the host.
#[derive(Debug)]
pub struct HostFs {
    root: OwnedFd,
    resolver: Resolver,
}

/// Who resolves paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolver {
    /// The kernel, in one call.
    Kernel,
    /// [`walk`].
    Walk,
}

impl HostFs {
    /// Opens the directory that stands for the host's `/`.
    ///
    /// # Errors
    /// [`FileError`] if it is no directory or cannot be opened.
    pub fn new(root: &Path) -> Result<Self, FileError> {
        let root_fd = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Bits::empty())
            .map_err(|errno| error("open the host root", root, errno.into()))?;
        let probe = openat2(&root_fd, Path::new("."), OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC));
        let resolver = if probe.is_ok() { Resolver::Kernel } else { Resolver::Walk };
        Ok(Self { root: root_fd, resolver })
    }

    fn open(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let (refuse_links, flags) = (path.starts_with(NO_LINKS_BELOW), flags | OFlag::O_CLOEXEC);
        let path = relative(path)?;
        if self.resolver == Resolver::Walk {
            return walk::open(self.root.as_fd(), path, flags, refuse_links);
        }
        let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if refuse_links {
            resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
        }
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let mut tries = 1;
        loop {
            match openat2(&self.root, path, how) {
                // Somebody renamed or mounted something meanwhile, so the kernel could not vouch for the path.
                Err(Errno::EAGAIN) if tries < MAX_TRIES => tries += 1,
                opened => return Ok(opened?),
            }
        }
    }

    /// The directory that holds the file, and the file's name in it.
    fn open_parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a Path)> {
        relative(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
        };
        Ok((self.open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?, Path::new(name)))
    }

    fn read_text(&self, path: &Path) -> io::Result<String> {
        // O_NONBLOCK: a FIFO in the place of a file must not hold the agent up.
        let file = File::from(self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
        }
        String::from_utf8(bytes).map_err(|cause| io::Error::new(io::ErrorKind::InvalidData, cause))
    }

    fn write_once(&self, path: &Path, value: &str) -> io::Result<()> {
        let mut file = File::from(self.open(path, OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)?);
        let written = file.write(value.as_bytes())?;
        if written == value.len() {
            return Ok(());
        }
        // A second write would be a second value, so what the kernel left over is an error.
        let text = format!("the kernel took {written} of {} bytes", value.len());
        Err(io::Error::new(io::ErrorKind::WriteZero, text))
    }

    fn replace_whole(&self, path: &Path, content: &str) -> io::Result<()> {
        let (directory, name) = self.open_parent(path)?;
        let bits = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat.st_mode & 0o7777,
            Err(Errno::ENOENT) => NEW_FILE,
            Err(errno) => return Err(errno.into()),
        };
        let temporary = unfinished(name);
        let written = write_new(&directory, &temporary, content, bits).and_then(|()| {
            renameat(&directory, &temporary, &directory, name)?;
            self.sync_parent(path)
        });
        if written.is_err() {
            // It is ours by its name, and after the rename it is gone anyway.
            let _gone = unlinkat(&directory, &temporary, UnlinkatFlags::NoRemoveDir);
        }
        written
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.open_parent(path)?;
        unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir)?;
        self.sync_parent(path)
    }

    fn remove_unfinished(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.open_parent(path)?;
        Ok(unlinkat(&directory, &unfinished(name), UnlinkatFlags::NoRemoveDir)?)
    }

    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        File::from(self.open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?).sync_all()
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut directory = Dir::from_fd(self.open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
        let mut entries = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            // A name that is not UTF-8 belongs to no kernel object that a profile could name.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." {
                entries.push(Entry { name: name.to_owned(), is_directory: entry.file_type() == Some(Type::Directory) });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        let (directory, name) = self.open_parent(path)?;
        Ok(PathBuf::from(readlinkat(&directory, name)?))
    }

    fn inode_of(&self, path: &Path) -> io::Result<u64> {
        let (directory, name) = self.open_parent(path)?;
        Ok(fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_ino)
    }

    fn storage_of(&self, path: &Path) -> io::Result<u64> {
        let storage = fstatvfs(self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?)?;
        Ok(storage.blocks().saturating_mul(storage.fragment_size()))
    }

    fn mode_of(&self, path: &Path) -> io::Result<Mode> {
        let (directory, name) = self.open_parent(path)?;
        let bits = fstatat(&directory, name, AtFlags::empty())?.st_mode;
        let may_write = faccessat(&directory, name, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_ok();
        Ok(Mode { readable: bits & 0o444 != 0, writable: bits & 0o222 != 0, may_write })
    }
}

impl HostFiles for HostFs {
    fn read(&self, path: &Path) -> Result<Option<String>, FileError> {
        present(self.read_text(path)).map_err(|cause| error("read", path, cause))
    }

    fn write(&self, path: &Path, value: &str) -> Result<(), FileError> {
        self.write_once(path, value).map_err(|source| FileError {
            op: "write",
            path: path.to_owned(),
            value: Some(value.to_owned()),
            source,
        })
    }

    fn replace(&self, path: &Path, content: &str) -> Result<(), FileError> {
        self.replace_whole(path, content).map_err(|cause| error("replace", path, cause))
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        present(self.remove_file(path)).map(|_| ()).map_err(|cause| error("remove", path, cause))
    }

    fn discard_unfinished(&self, path: &Path) -> Result<(), FileError> {
        present(self.remove_unfinished(path)).map(|_| ()).map_err(|cause| error("clean up beside", path, cause))
    }

    fn list(&self, directory: &Path) -> Result<Option<Vec<Entry>>, FileError> {
        present(self.entries(directory)).map_err(|cause| error("list", directory, cause))
    }

    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError> {
        match self.link_target(path) {
            // EINVAL: it is there and is no link.
            Err(cause) if cause.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(None),
            target => present(target).map_err(|cause| error("read the link", path, cause)),
        }
    }

    fn mode(&self, path: &Path) -> Result<Option<Mode>, FileError> {
        present(self.mode_of(path)).map_err(|cause| error("inspect", path, cause))
    }

    fn inode(&self, path: &Path) -> Result<Option<u64>, FileError> {
        present(self.inode_of(path)).map_err(|cause| error("inspect", path, cause))
    }

    fn storage_bytes(&self, path: &Path) -> Result<Option<u64>, FileError> {
        present(self.storage_of(path)).map_err(|cause| error("inspect", path, cause))
    }
}

/// Writes a file that must not exist yet; one left over by a crash is removed first.
fn write_new(directory: &OwnedFd, name: &Path, content: &str, bits: u32) -> io::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(nix::fcntl::openat(directory, name, flags, Bits::from_bits_truncate(0o600))?);
    file.write_all(content.as_bytes())?;
    file.set_permissions(Permissions::from_mode(bits))?;
    file.sync_all()
}

/// Name under which the file is written before it is renamed. It is always the same, so that what a crash left is
/// overwritten or found; only one agent runs on a node.
fn unfinished(name: &Path) -> PathBuf {
    PathBuf::from(format!(".{}.trimtab-new", name.display()))
}

/// The path without its leading slash.
///
/// # Errors
/// `InvalidInput` for a relative path, `..`, or a NUL byte.
fn relative(path: &Path) -> io::Result<&Path> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let below = path.strip_prefix("/").map_err(|_| refuse("the path is not absolute"))?;
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse("the path contains `..`"));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(refuse("the path contains a NUL byte"));
    }
    Ok(if below.as_os_str().is_empty() { Path::new(".") } else { below })
}

/// Absence is a value. Beside ENOENT: ENOTDIR (the folder is a file), ESRCH (the process of `/proc/<pid>` is gone) and
/// ENODEV (the cgroup or device behind an open file is gone).
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    const ABSENT: [Errno; 4] = [Errno::ENOENT, Errno::ENOTDIR, Errno::ESRCH, Errno::ENODEV];
    match result {
        Ok(value) => Ok(Some(value)),
        Err(cause) if cause.raw_os_error().is_some_and(|raw| ABSENT.iter().any(|errno| *errno as i32 == raw)) => {
            Ok(None)
        }
        Err(cause) => Err(cause),
    }
}

fn error(op: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError { op, path: path.to_owned(), value: None, source }
}

#[cfg(test)]
mod tests;
