//! Who is at the other end of a connection, and whether they may ask.

use procfs::process::Process;
use tokio::net::UnixStream;

/// Users and groups that may use the socket. The file mode is checked by the kernel before this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedPeers {
    /// User ids, as the agent's user namespace numbers them.
    pub uids: Vec<u32>,
    /// Group ids; the primary group and, where the peer's process can be seen, its supplementary groups count.
    pub gids: Vec<u32>,
}

impl Default for AllowedPeers {
    /// Root, and the user that the agent runs as.
    fn default() -> Self {
        Self { uids: vec![0, nix::unistd::geteuid().as_raw()], gids: Vec::new() }
    }
}

/// Whether a peer may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Allowed,
    Refused,
}

/// The process that connected, as the kernel noted it then (`unix(7)`, SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0 if the process is outside the agent's PID namespace, as all of the node are without `hostPID`.
    pub(crate) pid: i32,
    /// Tells connections apart whose process is not known.
    pub(crate) connection: u64,
    pub(crate) access: Access,
}

impl Peer {
    /// Asks the kernel who connected.
    ///
    /// # Errors
    /// What the kernel said; the connection should be closed then.
    pub(crate) fn of(stream: &UnixStream, connection: u64, allowed: &AllowedPeers) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid().unwrap_or(0));
        let access = if may_ask(uid, gid, pid, allowed) { Access::Allowed } else { Access::Refused };
        Ok(Self { uid, gid, pid, connection, access })
    }
}

fn may_ask(uid: u32, gid: u32, pid: i32, allowed: &AllowedPeers) -> bool {
    allowed.uids.contains(&uid)
        || allowed.gids.contains(&gid)
        || (!allowed.gids.is_empty() && supplementary_groups(pid).iter().any(|group| allowed.gids.contains(group)))
}

/// Groups of a running process; empty if it cannot be seen. The kernel keeps them with the socket too
/// (SO_PEERGROUPS), but no crate in use reads that option without unsafe code.
fn supplementary_groups(pid: i32) -> Vec<u32> {
    if pid <= 0 {
        return Vec::new();
    }
    Process::new(pid).and_then(|process| process.status()).map(|status| status.groups).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: u32 = 4_000_000;

    fn allowed(uids: &[u32], gids: &[u32]) -> AllowedPeers {
        AllowedPeers { uids: uids.to_vec(), gids: gids.to_vec() }
    }

    #[test]
    fn user_and_primary_group_open_the_door() {
        assert!(may_ask(7, OTHER, 0, &allowed(&[0, 7], &[])));
        assert!(may_ask(OTHER, 9, 0, &allowed(&[0], &[9])));
        assert!(!may_ask(OTHER, OTHER, 0, &allowed(&[0], &[9])));
        assert!(!may_ask(0, 0, 0, &allowed(&[], &[])), "root is on the list or is not");
    }

    #[test]
    fn supplementary_groups_of_a_visible_process_count() {
        let own = i32::try_from(std::process::id()).expect("a pid fits");
        let groups = nix::unistd::getgroups().expect("own groups");
        assert_eq!(supplementary_groups(own), groups.iter().map(|group| group.as_raw()).collect::<Vec<_>>());
        for group in groups {
            assert!(may_ask(OTHER, OTHER, own, &allowed(&[], &[group.as_raw()])));
        }
        assert!(!may_ask(OTHER, OTHER, own, &allowed(&[], &[OTHER + 1])));
        assert!(!may_ask(OTHER, OTHER, 0, &allowed(&[], &[0])), "a process that cannot be seen has no groups");
        assert!(supplementary_groups(-1).is_empty());
    }
}
