//! Who is at the other end of a connection, whether they may ask, and whether they may change anything.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::Extensions;
use procfs::process::Process;
use tokio::net::UnixStream;

/// Users and groups that may use the socket. The file mode is checked by the kernel before this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedPeers {
    /// User ids, as the agent's user namespace numbers them.
    pub uids: Vec<u32>,
    /// Group ids; the primary group and, where the peer's process can be seen, its supplementary groups count.
    pub gids: Vec<u32>,
    /// Those of them who may not only ask.
    pub admins: Admins,
}

impl Default for AllowedPeers {
    /// Root, and the user that the agent runs as.
    fn default() -> Self {
        let admins = Admins::default();
        Self { uids: admins.uids.iter().copied().collect(), gids: Vec::new(), admins }
    }
}

/// Who may change what the agent does: resync now, pause, resume, roll back. Everybody else may only ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admins {
    /// User ids of processes on the unix socket.
    pub uids: BTreeSet<u32>,
    /// Names in client certificates: a URI (SPIFFE id), DNS name or common name that is equal, letter by letter.
    pub names: BTreeSet<String>,
}

impl Default for Admins {
    /// Root and the user that the agent runs as; no certificate.
    fn default() -> Self {
        Self { uids: BTreeSet::from([0, nix::unistd::geteuid().as_raw()]), names: BTreeSet::new() }
    }
}

/// Whether a peer may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Allowed,
    Refused,
}

/// What a peer that is let in may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Ask.
    Read,
    /// Ask, and change what the agent does.
    Admin,
}

/// What tells a peer from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The process that connected, as the kernel noted it then (`unix(7)`, SO_PEERCRED). The pid is 0 if it is outside
    /// the agent's PID namespace, as all of the node are without `hostPID`.
    Process { uid: u32, gid: u32, pid: i32 },
    /// A client certificate that was verified, by its names: URIs, DNS names, the common name. Never empty.
    Certificate { names: Arc<[String]>, address: SocketAddr },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { uid, gid, pid: 0 } => write!(f, "uid {uid}, gid {gid}"),
            Self::Process { uid, gid, pid } => write!(f, "uid {uid}, gid {gid}, pid {pid}"),
            Self::Certificate { names, address } => {
                write!(f, "certificate {} from {address}", names.first().map_or("without a name", String::as_str))
            }
        }
    }
}

/// Who connected and what they may do; in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    /// Tells connections apart whose process is not known.
    pub(crate) connection: u64,
    pub(crate) access: Access,
    pub(crate) rights: Rights,
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
        let rights = if allowed.admins.uids.contains(&uid) { Rights::Admin } else { Rights::Read };
        Ok(Self { identity: Identity::Process { uid, gid, pid }, connection, access, rights })
    }

    /// Who sent a request, if they may change what the agent does. Calls that change something begin with this.
    ///
    /// # Errors
    /// [`NotAdmin`] for everybody else, and for a request that came through no connection of ours.
    pub(crate) fn admin(extensions: &Extensions) -> Result<&Self, NotAdmin> {
        let peer = extensions.get::<Self>();
        match peer {
            Some(peer) if peer.access == Access::Allowed && peer.rights == Rights::Admin => Ok(peer),
            _ => Err(NotAdmin { peer: peer.map_or_else(|| "nobody".to_owned(), |peer| peer.identity.to_string()) }),
        }
    }
}

/// A peer may ask, but not change anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{peer} may ask, but not change what the agent does; --admin-uid and --admin-name list who may")]
pub(crate) struct NotAdmin {
    /// Who it is.
    peer: String,
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
        AllowedPeers { uids: uids.to_vec(), gids: gids.to_vec(), admins: Admins::default() }
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

    #[test]
    fn only_an_admin_that_is_let_in_may_change_anything() {
        let identity = Identity::Process { uid: OTHER, gid: 7, pid: 0 };
        let rows = [
            ("an admin", Access::Allowed, Rights::Admin, true),
            ("a reader", Access::Allowed, Rights::Read, false),
            ("an admin that may not use the socket", Access::Refused, Rights::Admin, false),
        ];
        for (name, access, rights, may) in rows {
            let mut extensions = Extensions::new();
            extensions.insert(Peer { identity: identity.clone(), connection: 1, access, rights });
            let found = Peer::admin(&extensions);
            assert_eq!(found.is_ok(), may, "{name}");
            if let Err(refused) = found {
                assert!(refused.to_string().starts_with("uid 4000000, gid 7 may ask, but not change"), "{refused}");
            }
        }
        assert!(Peer::admin(&Extensions::new()).is_err(), "a request of unknown origin");
    }

    #[test]
    fn peers_are_named_as_far_as_they_are_known() {
        let names = Arc::from(["spiffe://cluster/ops".to_owned(), "ops".to_owned()]);
        let rows = [
            (Identity::Process { uid: 1, gid: 2, pid: 0 }, "uid 1, gid 2"),
            (Identity::Process { uid: 1, gid: 2, pid: 3 }, "uid 1, gid 2, pid 3"),
            (
                Identity::Certificate { names, address: ([192, 0, 2, 1], 5).into() },
                "certificate spiffe://cluster/ops from 192.0.2.1:5",
            ),
        ];
        for (identity, text) in rows {
            assert_eq!(identity.to_string(), text);
        }
    }
}
