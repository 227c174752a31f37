//! Loading and unloading kernel modules of the host.

use std::future::Future;

use trimtab_domain::kernel::module::ModuleName;

/// The host's modules.
pub trait Modules: Send + Sync + 'static {
    /// Loads a module and what it needs; one that is loaded already is fine.
    ///
    /// # Errors
    /// [`ModuleError`] with the command and what it printed.
    fn load(&self, module: &ModuleName) -> impl Future<Output = Result<(), ModuleError>> + Send;

    /// Unloads this module, and of the modules that it needs those that nothing uses any more; one that is not loaded
    /// is fine.
    ///
    /// # Errors
    /// [`ModuleError`] with the command and what it printed.
    fn unload(&self, module: &ModuleName) -> impl Future<Output = Result<(), ModuleError>> + Send;
}

/// A module could not be loaded or unloaded.
#[derive(Debug, thiserror::Error)]
#[error("{command} failed ({status}): {output}")]
pub struct ModuleError {
    /// What kind of failure.
    pub obstacle: ModuleObstacle,
    /// The command line.
    pub command: String,
    /// Exit status, or the reason why it could not be started.
    pub status: String,
    /// What it printed on stderr, one line.
    pub output: String,
}

/// Why a module was not loaded or unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleObstacle {
    /// `modprobe` is not installed beside the agent.
    NoProgram,
    /// The host has no such module.
    Missing,
    /// The agent may not (`CAP_SYS_MODULE`, a signature that the kernel demands).
    NotPermitted,
    /// Something uses it.
    InUse,
    /// The module or the kernel rejects it, or another configuration blocks it.
    Rejected,
    /// Anything else: worth another try.
    Other,
}
