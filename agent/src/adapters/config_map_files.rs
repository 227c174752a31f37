//! ConfigMaps of the API server as files below the state directory, as the kubelet would have mounted them into a pod.
//!
//! What reads mounted ConfigMaps then reads these in the same way; and they are still there after a restart in an outage.

#![expect(
    clippy::disallowed_methods,
    reason = "this adapter is where these files are written: they are the agent's own"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::ports::FileError;
use crate::ports::config_maps::ConfigMapFiles;

/// Files of ConfigMaps below a state directory.
pub struct StateFiles {
    state_dir: PathBuf,
}

impl StateFiles {
    /// Below this directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }
}

impl ConfigMapFiles for StateFiles {
    fn write(&self, directory: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), FileError> {
        let directory = self.state_dir.join(directory);
        let failed = |op, path: &Path, source| FileError { op, path: path.to_owned(), value: None, source };
        if !directory.exists() {
            return make(&directory, files).map_err(|error| failed("make", &directory, error));
        }
        for (name, content) in files.iter().filter(|(name, _)| is_plain(name)) {
            let path = directory.join(name);
            if fs::read(&path).is_ok_and(|known| known == *content) {
                continue;
            }
            replace(&directory, &path, content).map_err(|error| failed("write", &path, error))?;
        }
        let listed = fs::read_dir(&directory).map_err(|error| failed("list", &directory, error))?;
        for entry in listed {
            let path = entry.map_err(|error| failed("list", &directory, error))?.path();
            let is_wanted =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| files.contains_key(name));
            if !is_wanted {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &path, error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// With all of its files in it at once: whoever looks in between must not take it for one without any.
fn make(directory: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let parent = directory.parent().ok_or(ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let staged = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
    for (name, content) in files.iter().filter(|(name, _)| is_plain(name)) {
        replace(staged.path(), &staged.path().join(name), content)?;
    }
    fs::rename(staged.keep(), directory)
}

/// A key of a ConfigMap is no path; the API server sees to that, and so does this.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && !name.contains('/') && !name.is_empty()
}

/// Whole or not at all.
fn replace(directory: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
    }

    fn found(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }

    #[test]
    fn the_directory_holds_what_the_maps_hold_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let (maps, place) = (StateFiles::new(state.path()), state.path().join("config-maps/azure"));
        for wanted in [files(&[("ip-masq-a", "1"), ("ip-masq-b", "2")]), files(&[("ip-masq-b", "3")]), files(&[])] {
            maps.write(Path::new("config-maps/azure"), &wanted).unwrap();
            assert_eq!(found(&place), wanted);
        }
        maps.write(Path::new("config-maps/azure"), &files(&[("../x", "1"), ("a/b", "1"), (".hidden", "1")])).unwrap();
        assert_eq!((found(&place), state.path().join("config-maps/x").exists()), (files(&[]), false));
    }

    #[test]
    fn what_is_as_it_was_is_not_written() {
        let state = tempfile::tempdir().unwrap();
        let maps = StateFiles::new(state.path());
        let wanted = files(&[("ip-masq-agent", "1")]);
        maps.write(Path::new("m"), &wanted).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&state.path().join("m/ip-masq-agent"));
        maps.write(Path::new("m"), &wanted).unwrap();
        assert_eq!(inode(&state.path().join("m/ip-masq-agent")), before);
    }
}
