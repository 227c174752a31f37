//! The kernel's table of tracked connections, read as far as a limit.

use std::io;

use trimtab_domain::masquerade::Sample;

/// The table of the agent's network namespace.
pub trait TrackedConnections: Send + Sync + 'static {
    /// Reads at most so many connections, in the order of the kernel's hash, and a few more to end a message; blocks for
    /// about a microsecond for each.
    ///
    /// # Errors
    /// [`ConnectionsError`].
    fn sample(&self, at_most: usize) -> Result<Sample, ConnectionsError>;
}

/// The table could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the table of connections over netlink (nf_conntrack_netlink)")]
pub struct ConnectionsError(#[source] pub io::Error);
