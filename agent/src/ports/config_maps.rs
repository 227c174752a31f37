//! Where ConfigMaps that are read from the API server are laid down as files.

use std::collections::BTreeMap;
use std::path::Path;

use super::FileError;

/// Directories of files that stand for ConfigMaps.
pub trait ConfigMapFiles: Send + Sync + 'static {
    /// Makes a directory hold these files by name and nothing else; each is replaced whole. The directory is relative to
    /// the place of all of them.
    ///
    /// # Errors
    /// [`FileError`] with the path; what was written before stays.
    fn write(&self, directory: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), FileError>;
}
