//! What the agent asks of the node: one trait per thing, implemented once in `adapters` and once as a test double.

pub mod admission;
pub mod admission_stats;
pub mod api_stats;
pub mod cgroups;
pub mod config_maps;
pub mod connections;
pub mod hierarchies;
pub mod kubelet;
pub mod kubelet_answers;
pub mod machine;
pub mod masq_config;
pub mod modules;
pub mod names;
pub mod nri_stats;
pub mod pod_failure;
pub mod reach;
pub mod runtime;
pub mod services;
pub mod shown;
pub mod threads;
pub mod traffic;
pub mod units;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;

use trimtab_domain::masquerade::{
    Backend, Connected, Family, ForeignChain, GUARD_TABLE, GuardView, NATIVE_TABLE, Native, NativeGuard, NativeView,
    Network, TableId,
};
use trimtab_domain::plan::Cause;
use trimtab_domain::record::{LedgerChange, Record};

/// Files of the host: `/proc`, `/sys`, `/etc`, `/var/lib`, `/run`. Paths are the host's own, absolute; the adapter
/// puts its host root in front and never follows `..`.
pub trait HostFiles: Send + Sync + 'static {
    /// Whole content as text; `None` if the file (or a directory above it) does not exist.
    ///
    /// # Errors
    /// [`FileError`] if it exists and cannot be read, is larger than 4 MiB, or is not UTF-8.
    fn read(&self, path: &Path) -> Result<Option<String>, FileError>;

    /// Writes an existing kernel file with a single `write(2)`; never creates one.
    ///
    /// # Errors
    /// [`FileError`] with the value.
    fn write(&self, path: &Path, value: &str) -> Result<(), FileError>;

    /// Replaces or creates an ordinary file: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn replace(&self, path: &Path, content: &str) -> Result<(), FileError>;

    /// Removes a file; one that is absent is fine.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn remove(&self, path: &Path) -> Result<(), FileError>;

    /// Removes what a [`Self::replace`] of this file that was cut short left beside it; nothing there is fine.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn discard_unfinished(&self, path: &Path) -> Result<(), FileError>;

    /// Entries of a directory in byte order of their names; `None` if there is no such directory.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn list(&self, directory: &Path) -> Result<Option<Vec<Entry>>, FileError>;

    /// Target of a symbolic link; `None` if absent or not a link.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn read_link(&self, path: &Path) -> Result<Option<PathBuf>, FileError>;

    /// What may be done with the file by its mode bits and by this process; `None` if absent.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn mode(&self, path: &Path) -> Result<Option<Mode>, FileError>;

    /// Inode number; `None` if absent, or if this host has none. Those of one cgroup hierarchy rise with each directory
    /// that is made, so they tell the order of creation.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn inode(&self, _path: &Path) -> Result<Option<u64>, FileError> {
        Ok(None)
    }

    /// Size in bytes of the file system that holds this file or directory; `None` if absent, or if this host cannot
    /// tell.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    fn storage_bytes(&self, _path: &Path) -> Result<Option<u64>, FileError> {
        Ok(None)
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// True for a directory (links are not followed).
    pub is_directory: bool,
}

/// What may be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Some read bit is set.
    pub readable: bool,
    /// Some write bit is set.
    pub writable: bool,
    /// This process may write it now (`faccessat(2)`, which writes nothing): false in a user namespace that does not
    /// own the file and on a read-only mount, whatever the bits say. The kernel may still refuse the write itself.
    pub may_write: bool,
}

/// A file of the host could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}{}", path.display(), value.as_ref().map(|v| format!(" (value {v:?})")).unwrap_or_default())]
pub struct FileError {
    /// `read`, `write`, `list` …
    pub op: &'static str,
    /// The path on the host.
    pub path: PathBuf,
    /// The value of a write.
    pub value: Option<String>,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The memory that outlives the agent: what was there before, and what was ordered.
pub trait Ledger: Send + Sync + 'static {
    /// The records of one subsystem, by object.
    fn records(&self, subsystem: &str) -> Vec<Record>;

    /// Makes all changes durable (fsync) before it returns, or none.
    ///
    /// # Errors
    /// [`LedgerError`]; the ledger on disk is then as before.
    fn commit(&self, subsystem: &str, changes: &[LedgerChange]) -> Result<(), LedgerError>;
}

/// The ledger could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} the ledger {}", path.display())]
pub struct LedgerError {
    /// `write`, `sync`, `rename` …
    pub op: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Table `nat` of the agent's network namespace, through iptables.
pub trait NatTable: Send + Sync + 'static {
    /// Where the rules of this node belong.
    fn backend(&self) -> impl Future<Output = BackendChoice> + Send;

    /// The same among iptables' own, for rules to the letter of another agent.
    fn iptables_backend(&self) -> impl Future<Output = BackendChoice> + Send {
        self.backend()
    }

    /// Who made the last change that was none of ours, or runs and is known to make such; `None`: nobody is known.
    fn likely_writer(&self) -> Option<String> {
        None
    }

    /// Command lines of other masquerade agents that run on this node.
    fn other_agents(&self) -> Vec<String> {
        Vec::new()
    }

    /// The networks that this network namespace is connected to; empty where they cannot be told.
    fn connected(&self) -> Vec<Connected> {
        Vec::new()
    }

    /// Chains of others in nftables that translate the sources of connections which leave; empty where they cannot be
    /// told.
    fn foreign_chains(&self, _family: Family) -> Vec<ForeignChain> {
        Vec::new()
    }

    /// Whether the rules that are written here are the node's.
    fn network(&self) -> Network {
        Network::OfNode
    }

    /// The version of the table's tool if it cannot choose ports at random (before 1.6.2); `None`: it can, or it cannot
    /// be told.
    fn too_old_for_random(&self, _table: TableId) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }

    /// A number that is another one whenever the table may have changed; starts no process. `None`: it cannot be
    /// told, so the table has to be read.
    fn generation(&self, table: TableId) -> Option<u64>;

    /// The table as `iptables-save` prints it.
    ///
    /// # Errors
    /// [`NatError`] with the command and what it printed.
    fn save(&self, table: TableId) -> impl Future<Output = Result<Saved, NatError>> + Send;

    /// Applies a text for `iptables-restore --noflush` in one transaction.
    ///
    /// # Errors
    /// [`NatError`] with the command and what it printed; nothing was changed then.
    fn restore(&self, table: TableId, text: &str) -> impl Future<Output = Result<(), NatError>> + Send;

    /// The table of our own in nftables; no process is started.
    ///
    /// # Errors
    /// [`NatError`] with what was asked of the kernel.
    fn read_native(&self, _family: Family) -> Result<NativeSaved, NatError> {
        let detail = "this agent was built without the nftables back end".to_owned();
        Ok(NativeSaved::Unavailable { cause: Cause::Unsupported, detail })
    }

    /// Makes the table of our own do this in one transaction, or with `None` removes it.
    ///
    /// # Errors
    /// [`NatError`] with what the kernel refused.
    fn write_native(&self, family: Family, _to: Option<&Native>) -> Result<(), NatError> {
        let command = format!("write table {NATIVE_TABLE} for {family}");
        Err(NatError { command, status: "not built in".into(), output: String::new(), transient: false })
    }

    /// Table `filter` beside table `nat`, as `iptables-save` prints it; [`Self::restore`] writes it as well.
    ///
    /// # Errors
    /// [`NatError`] with the command and what it printed.
    fn save_filter(&self, _table: TableId) -> impl Future<Output = Result<Saved, NatError>> + Send {
        let detail = "this agent was built without the guard of the metadata service".to_owned();
        std::future::ready(Ok(Saved::Unavailable { cause: Cause::Unsupported, detail }))
    }

    /// The table of our own that guards the metadata service; no process is started.
    ///
    /// # Errors
    /// [`NatError`] with what was asked of the kernel.
    fn read_guard(&self, _family: Family) -> Result<NativeSaved<GuardView>, NatError> {
        let detail = "this agent was built without the guard of the metadata service".to_owned();
        Ok(NativeSaved::Unavailable { cause: Cause::Unsupported, detail })
    }

    /// Makes that table do this in one transaction, or with `None` removes it.
    ///
    /// # Errors
    /// [`NatError`] with what the kernel refused.
    fn write_guard(&self, family: Family, _to: Option<&NativeGuard>) -> Result<(), NatError> {
        let command = format!("write table {GUARD_TABLE} for {family}");
        Err(NatError { command, status: "not built in".into(), output: String::new(), transient: false })
    }
}

/// A backend of iptables and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChoice {
    /// The backend.
    pub backend: Backend,
    /// The evidence, for a person.
    pub reason: String,
}

/// What reading a table gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// Its text.
    Text(String),
    /// This node does not have the table, the tool, or the privilege.
    Unavailable {
        /// Which of these.
        cause: Cause,
        /// The facts and the remedy.
        detail: String,
    },
}

/// What reading a table of our own gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NativeSaved<V = NativeView> {
    /// What it is.
    View(V),
    /// This node does not have nftables, or does not let it be read.
    Unavailable {
        /// Which of these.
        cause: Cause,
        /// The facts and the remedy.
        detail: String,
    },
}

/// An iptables command or a transaction failed.
#[derive(Debug, thiserror::Error)]
#[error("{command} failed ({status}): {output}")]
pub struct NatError {
    /// The command line.
    pub command: String,
    /// Exit status or the reason why it could not be started.
    pub status: String,
    /// What it printed on stderr, one line.
    pub output: String,
    /// True if another program held the xtables lock, or the like: worth another try.
    pub transient: bool,
}

/// A place where the kernel announces changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// Content of a file changes (inotify `IN_MODIFY`), or the file goes away.
    File(PathBuf),
    /// Entries of a directory appear, vanish or are renamed.
    Directory(PathBuf),
    /// What a path leads to changes, wherever on the way: a file or the entries of a directory, present or not. The path
    /// is this process's own (a mounted ConfigMap), not one of the host.
    Mounted(PathBuf),
    /// CPUs, NUMA nodes or memory go or come (`NETLINK_KOBJECT_UEVENT`).
    Hardware,
    /// Network interfaces appear, vanish or are renamed in this network namespace (netlink group `RTNLGRP_LINK`).
    Interfaces,
    /// Any nf_tables transaction in this network namespace (netlink group `NFNLGRP_NFTABLES`).
    Netfilter,
}

/// Where the kernel announces that something changed.
pub trait DriftEvents: Send + Sync + 'static {
    /// What wakes this subsystem.
    fn subscribe(&self, subsystem: &'static str) -> Arc<Notify>;

    /// Replaces the places that are watched for this subsystem. A place that cannot be watched (absent, or the
    /// system's limit is reached) is left to the resync; the adapter logs that once.
    fn watch(&self, subsystem: &'static str, watches: &[Watch]);
}
