//! Command lines of the host's processes, found by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ports::HostFiles;
use crate::ports::names::Processes;

/// Processes as `/proc` of the host shows them.
pub struct ProcessTable {
    files: Arc<dyn HostFiles>,
}

impl ProcessTable {
    /// Processes below the host root's `/proc`.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>) -> Self {
        Self { files }
    }
}

impl Processes for ProcessTable {
    fn command_lines(&self, name: &str) -> Vec<Vec<String>> {
        // A process that ends meanwhile, or is hidden, is as good as absent: nothing here fails.
        let entries = self.files.list(Path::new("/proc")).ok().flatten().unwrap_or_default();
        let mut pids: Vec<u32> = entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
        pids.sort_unstable();
        let of = |pid: &u32, file: &str| {
            let path: PathBuf = Path::new("/proc").join(pid.to_string()).join(file);
            self.files.read(&path).ok().flatten()
        };
        let named = pids.iter().filter(|pid| of(pid, "comm").is_some_and(|comm| comm.trim_end_matches('\n') == name));
        named
            .filter_map(|pid| of(pid, "cmdline"))
            .map(|line| line.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>())
            .filter(|arguments| !arguments.is_empty())
            .collect()
    }
}
