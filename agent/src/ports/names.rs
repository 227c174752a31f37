//! Names of pods and containers, from what the node itself keeps.

pub use trimtab_domain::roster::names::{ContainerName, Names, PodName};

use super::FileError;

/// Where names come from without an API server.
pub trait PodNames: Send + Sync + 'static {
    /// Reads all names that are known now.
    ///
    /// # Errors
    /// [`FileError`] if a directory exists and cannot be read.
    fn read(&self) -> Result<Names, FileError>;
}

/// The processes of the host.
pub trait Processes: Send + Sync + 'static {
    /// Command lines of the processes with this name (`comm`), by ascending process id; empty where none runs, or where
    /// the host's processes cannot be seen.
    fn command_lines(&self, name: &str) -> Vec<Vec<String>>;
}
