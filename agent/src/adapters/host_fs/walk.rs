//! Paths resolved by hand, for kernels before 5.6 and sandboxes that do not know `openat2(2)`: one component at a time,
//! links read as texts that start at the host root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};

/// Most links on one path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Opens a relative path below `root`; no link and no `..` of a link leads out of it.
///
/// # Errors
/// `ELOOP` for too many links, for a link at the end with `O_NOFOLLOW`, and for any link with `refuse_links`; else the
/// kernel's.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlag, refuse_links: bool) -> io::Result<OwnedFd> {
    let mut ahead: VecDeque<OsString> = names(path).collect();
    let mut inside: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            inside.pop();
            continue;
        }
        let here = inside.last().map_or(root, AsFd::as_fd);
        let found =
            openat(here, name.as_os_str(), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let is_last = ahead.is_empty();
        if SFlag::from_bits_truncate(fstat(&found)?.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK {
            links += 1;
            if refuse_links || links > MAX_LINKS || (is_last && flags.contains(OFlag::O_NOFOLLOW)) {
                return Err(Errno::ELOOP.into());
            }
            let target = readlinkat(&found, "")?;
            if Path::new(&target).is_absolute() {
                inside.clear();
            }
            for name in names(Path::new(&target)).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(name);
            }
        } else if is_last {
            // Opened anew for use; if a link has taken the place meanwhile, that is an error.
            return Ok(openat(here, name.as_os_str(), flags | OFlag::O_NOFOLLOW, Mode::empty())?);
        } else {
            inside.push(found);
        }
    }
    Ok(openat(inside.last().map_or(root, AsFd::as_fd), ".", flags, Mode::empty())?)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
