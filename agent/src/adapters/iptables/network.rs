//! Whether this thread's network namespace is that of the host's first process.
//!
//! The links below `/proc/1/ns` show themselves only to those who may trace that process. The files below `/proc/1/net`
//! are open to all, and each namespace has its own, whose inode numbers the kernel gives out once
//! (`proc_alloc_inum` in `fs/proc/generic.c`), whatever mount of procfs they are seen through.

#![expect(clippy::disallowed_methods, reason = "reads the calling thread's own /proc beside the host's")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use trimtab_domain::masquerade::Network;

/// Compares; what cannot be read tells nothing.
pub(super) fn network(host_root: &Path) -> Network {
    let namespace = |path: &Path| fs::metadata(path).ok().map(|file| file.ino());
    let host = namespace(&host_root.join("proc/1/net/dev"));
    let own = namespace(Path::new("/proc/thread-self/net/dev"));
    match (host, own) {
        (Some(host), Some(own)) if host != own => {
            if is_in_container(host_root) {
                Network::OfContainer
            } else {
                Network::Apart
            }
        }
        _ => Network::OfNode,
    }
}

/// A process with a number for itself besides the host's is in a PID namespace of its own (proc_pid_status(5), `NSpid`).
fn is_in_container(host_root: &Path) -> bool {
    let status = fs::read_to_string(host_root.join("proc/self/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() > 1)
}
