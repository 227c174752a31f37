//! Table `nat` through `iptables-save` and `iptables-restore`, nft and legacy.
//!
//! The tools are run only when a table has to be read or written; whether it has to be read is asked of the kernel.

mod backend;
mod native;
mod network;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use trimtab_domain::masquerade::{
    Backend, Connected, Family, ForeignChain, GuardView, Native, NativeGuard, Network, TableId,
};
use trimtab_domain::plan::Cause;

use crate::adapters::nat_writers::NatWriters;
use crate::adapters::nftables;
use crate::ports::{BackendChoice, NatError, NatTable, NativeSaved, Saved};

use self::backend::Detection;
pub use self::tools::SEARCH_PATH;
use self::tools::{Tool, Tools, Version};

/// What `iptables-legacy-save` would print while the kernel has no legacy table `nat`. Asking the tool would create
/// the table, and every packet would pass it from then on.
const NO_LEGACY_TABLE: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                               :POSTROUTING ACCEPT [0:0]\nCOMMIT\n";

/// The same for table `filter`.
const NO_LEGACY_FILTER: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

/// The first release that knows `--random-fully` (netfilter.org, changes of iptables 1.6.2).
const RANDOM_FULLY_SINCE: Version = Version([1, 6, 2]);

/// iptables in the network namespace of the calling thread.
pub struct Iptables {
    tools: Tools,
    detection: Mutex<Detection>,
    writers: Option<Arc<NatWriters>>,
    host_root: Option<PathBuf>,
}

impl Iptables {
    /// Looks for the tools in the directories of `search_path`, separated by `:` as in `PATH`; [`SEARCH_PATH`] does for
    /// every known distribution and image.
    #[must_use]
    pub fn new(search_path: &str) -> Self {
        Self { tools: Tools::new(search_path), detection: Mutex::default(), writers: None, host_root: None }
    }

    /// The same, knowing who else writes.
    #[must_use]
    pub fn beside(self, writers: Arc<NatWriters>) -> Self {
        Self { writers: Some(writers), ..self }
    }

    /// The same, for the node whose `/` is here: rules in the network of a container are not its rules.
    #[must_use]
    pub fn of_host(self, root: &Path) -> Self {
        Self { host_root: Some(root.to_owned()), ..self }
    }

    /// `absent` is what the legacy tool would print while the kernel has no such table.
    async fn save_named(&self, table: TableId, name: &str, absent: &str) -> Result<Saved, NatError> {
        let Some(tool) = self.tools.find(table, Tool::Save) else { return Ok(self.tools.missing(table)) };
        let is_legacy = table.backend == Backend::Legacy;
        if is_legacy && !backend::legacy_tables(table.family).contains(name) {
            return Ok(Saved::Text(absent.to_owned()));
        }
        // What the rules have counted is to be had from the kernel, but for those of the legacy tools.
        let arguments: &[&str] = if is_legacy { &["-c", "-t", name] } else { &["-t", name] };
        match self.tools.run(tool, arguments, "").await {
            Ok(text) => Ok(Saved::Text(text)),
            Err(error) => unavailable(table, &error).ok_or(error),
        }
    }
}

impl NatTable for Iptables {
    async fn backend(&self) -> BackendChoice {
        self.detection.lock().await.choose(&self.tools, false).await
    }

    async fn iptables_backend(&self) -> BackendChoice {
        self.detection.lock().await.choose(&self.tools, true).await
    }

    fn likely_writer(&self) -> Option<String> {
        self.writers.as_ref().and_then(|writers| writers.likely())
    }

    fn other_agents(&self) -> Vec<String> {
        self.writers.iter().flat_map(|writers| writers.agents()).collect()
    }

    fn connected(&self) -> Vec<Connected> {
        backend::connected()
    }

    fn foreign_chains(&self, family: Family) -> Vec<ForeignChain> {
        nftables::foreign::chains(family).unwrap_or_default()
    }

    fn network(&self) -> Network {
        self.host_root.as_deref().map(network::network).unwrap_or_default()
    }

    async fn too_old_for_random(&self, table: TableId) -> Option<String> {
        if table.backend == Backend::Native {
            return None;
        }
        self.tools
            .version(table)
            .await
            .filter(|version| *version < RANDOM_FULLY_SINCE)
            .map(|version| version.to_string())
    }

    fn generation(&self, table: TableId) -> Option<u64> {
        match table.backend {
            Backend::Nft | Backend::Native => nftables::generation().ok().map(u64::from),
            // While there is no table, nothing can have changed; a table that is there announces and counts nothing.
            Backend::Legacy => (!backend::legacy_tables(table.family).contains("nat")).then_some(0),
        }
    }

    async fn save(&self, table: TableId) -> Result<Saved, NatError> {
        self.save_named(table, "nat", NO_LEGACY_TABLE).await
    }

    async fn save_filter(&self, table: TableId) -> Result<Saved, NatError> {
        self.save_named(table, "filter", NO_LEGACY_FILTER).await
    }

    fn read_guard(&self, family: Family) -> Result<NativeSaved<GuardView>, NatError> {
        native::read_guard(family)
    }

    fn write_guard(&self, family: Family, to: Option<&NativeGuard>) -> Result<(), NatError> {
        native::write_guard(family, to)
    }

    fn read_native(&self, family: Family) -> Result<NativeSaved, NatError> {
        native::read(family)
    }

    fn write_native(&self, family: Family, to: Option<&Native>) -> Result<(), NatError> {
        native::write(family, to)
    }

    async fn restore(&self, table: TableId, text: &str) -> Result<(), NatError> {
        let tool = self.tools.find(table, Tool::Restore).ok_or_else(|| self.tools.missing_error(table))?;
        self.tools.run(tool, &["--noflush", "-w", tools::LOCK_WAIT_SECONDS], text).await.map(drop)
    }
}

/// Failures that say something lasting about the node.
fn unavailable(table: TableId, error: &NatError) -> Option<Saved> {
    let TableId { family, backend } = table;
    let says = |parts: &[&str]| parts.iter().any(|part| error.output.contains(part));
    if says(&["Permission denied", "Operation not permitted", "you must be root"]) {
        let capabilities = match backend {
            Backend::Nft | Backend::Native => "CAP_NET_ADMIN",
            Backend::Legacy => "CAP_NET_ADMIN and CAP_NET_RAW",
        };
        let detail = format!("{error}; the agent needs {capabilities} in the host's network namespace");
        return Some(Saved::Unavailable { cause: Cause::NotPermitted, detail });
    }
    if says(&["Table does not exist", "not supported", "Failed to initialize", "nf_tables is not available"]) {
        let module = match (backend, family) {
            (Backend::Nft | Backend::Native, _) => "nf_tables",
            (Backend::Legacy, Family::V4) => "iptable_nat",
            (Backend::Legacy, Family::V6) => "ip6table_nat",
        };
        let detail = format!("{error}; load the kernel module {module}, or leave {family} out of the profile");
        return Some(Saved::Unavailable { cause: Cause::Unsupported, detail });
    }
    None
}
