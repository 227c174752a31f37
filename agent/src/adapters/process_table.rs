//! Command lines of the host's processes, found by name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::known_processes::{KnownProcesses, process_ids};
use crate::ports::HostFiles;
use crate::ports::names::Processes;

/// Processes as `/proc` of the host shows them.
pub struct ProcessTable {
    files: Arc<dyn HostFiles>,
    names: Mutex<KnownProcesses<Box<str>>>,
}

impl ProcessTable {
    /// Processes below the host root's `/proc`.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>) -> Self {
        Self { files, names: Mutex::default() }
    }

    /// A process that ends meanwhile, or is hidden, is as good as absent: nothing here fails.
    fn text(&self, pid: u32, file: &str) -> Option<String> {
        let path: PathBuf = Path::new("/proc").join(pid.to_string()).join(file);
        self.files.read(&path).ok().flatten()
    }

    fn name(&self, pid: u32) -> Option<Box<str>> {
        self.text(pid, "comm").map(|text| text.trim_end_matches('\n').into())
    }

    /// The processes with this name, ascending.
    fn named(&self, name: &str) -> Vec<u32> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.refresh(process_ids(&*self.files), |pid| self.name(pid));
        names.iter().filter(|(_, known)| ***known == *name).map(|(pid, _)| pid).collect()
    }
}

impl Processes for ProcessTable {
    fn command_lines(&self, name: &str) -> Vec<Vec<String>> {
        let named = self.named(name).into_iter();
        // Its number may have been given to another process since its name was read.
        named
            .filter(|pid| self.name(*pid).as_deref() == Some(name))
            .filter_map(|pid| self.text(pid, "cmdline"))
            .map(|line| line.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>())
            .filter(|arguments| !arguments.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use std::fs;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::adapters::host_fs::HostFs;

    /// A host with processes.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> (Self, ProcessTable) {
            let root = tempfile::tempdir().unwrap();
            let table = ProcessTable::new(Arc::new(HostFs::new(root.path()).unwrap()));
            (Self(root), table)
        }

        /// Process `pid` runs this program.
        fn runs(&self, pid: u32, name: &str, arguments: &str) {
            let process = self.0.path().join("proc").join(pid.to_string());
            fs::create_dir_all(&process).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            fs::write(process.join("cmdline"), arguments.replace(' ', "\0") + "\0").unwrap();
        }

        fn ends(&self, pid: u32) {
            fs::remove_dir_all(self.0.path().join("proc").join(pid.to_string())).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn processes_are_found_by_name_in_the_order_of_their_numbers() {
        let (host, table) = Host::new();
        fs::create_dir_all(host.0.path().join("proc/sys")).unwrap();
        host.runs(300, "kubelet", "kubelet --b");
        host.runs(20, "kubelet", "kubelet --a");
        host.runs(100, "sleep", "sleep 1");
        host.runs(2, "kubelet", "");
        fs::write(host.0.path().join("proc/2/cmdline"), "").unwrap();
        assert_eq!(table.command_lines("kubelet"), [["kubelet", "--a"], ["kubelet", "--b"]]);
        host.ends(20);
        host.runs(7, "kubelet", "kubelet --c");
        assert_eq!(table.command_lines("kubelet"), [["kubelet", "--c"], ["kubelet", "--b"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_was_given_to_another_process_misleads_nobody() {
        let (host, table) = Host::new();
        host.runs(7, "kubelet", "kubelet");
        table.command_lines("kubelet");
        advance(Duration::from_secs(60)).await;
        table.command_lines("kubelet");
        host.runs(7, "sleep", "sleep 1");
        assert!(table.command_lines("kubelet").is_empty());
    }
}
