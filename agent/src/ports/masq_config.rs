//! The configuration files of the masquerade agents that are stood in for.

use std::path::PathBuf;

use trimtab_domain::spec::ip_masq::ConfigSource;

use super::FileError;
use crate::profile::ip_masq_agent::Reading;

/// Where the files are read and the last good ones kept. Paths are those that this process sees, like the profile's: a
/// mounted ConfigMap, no file of the host.
pub trait MasqConfig: Send + Sync + 'static {
    /// What lies there now; what cannot be read is part of the answer.
    fn read(&self, source: &ConfigSource) -> Reading;

    /// The path of the file or directory.
    fn place(&self, source: &ConfigSource) -> PathBuf {
        source.path().clone()
    }

    /// What was kept last; `None` if nothing, or nothing usable.
    fn last_good(&self) -> Option<Reading>;

    /// Keeps a reading for a restart that finds a bad one.
    ///
    /// # Errors
    /// [`FileError`] with the path; what was kept before is then still whole.
    fn keep(&self, reading: &Reading) -> Result<(), FileError>;
}
