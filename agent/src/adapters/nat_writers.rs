//! Who else writes the NAT table: the process that the kernel named with the last change, or one that runs and is known to.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::adapters::nftables::Writer;
use crate::ports::HostFiles;
use crate::ports::names::Processes;

/// Masquerade agents by the name of their process, which the kernel cuts after 15 bytes (`TASK_COMM_LEN`).
const AGENTS: [&str; 2] = ["ip-masq-agent", "ip-masq-agent-v"];
/// Programs that rewrite the NAT table as they please.
const WRITERS: [(&str, &str); 4] = [
    ("firewalld", "firewalld rewrites all rules when it is reloaded"),
    ("cilium-agent", "Cilium has a masquerade agent of its own (enable-ip-masq-agent)"),
    ("calico-node", "Calico masquerades by itself (natOutgoing of an IPPool)"),
    ("kube-proxy", "kube-proxy restores table nat"),
];
/// What our own transactions are run by.
const OURS: [&str; 4] = ["iptables-nft-re", "ip6tables-nft-r", "xtables-nft-mul", "trimtab"];

/// The processes of the host, and the last change that was none of ours.
pub struct NatWriters {
    files: Arc<dyn HostFiles>,
    processes: Arc<dyn Processes>,
    last: Mutex<Option<String>>,
}

impl NatWriters {
    /// Looks processes up in the host's `/proc`.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>, processes: Arc<dyn Processes>) -> Self {
        Self { files, processes, last: Mutex::default() }
    }

    /// Takes in who made a change, as long as that process can be looked at.
    pub fn changed_by(&self, writer: Option<&Writer>) {
        let Some(writer) = writer.filter(|writer| !OURS.contains(&writer.name.as_str())) else { return };
        let parent = self.parent(writer.process).map(|name| format!(", started by {name}")).unwrap_or_default();
        let text = format!("{} (process {}{parent})", writer.name, writer.process);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    /// The program that made the last change of others, or one that runs and is known to make such changes.
    #[must_use]
    pub fn likely(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.or_else(|| self.agents().into_iter().next()).or_else(|| {
            let mut known = WRITERS.into_iter();
            known.find(|(name, _)| !self.processes.command_lines(name).is_empty()).map(|(_, words)| words.to_owned())
        })
    }

    /// Command lines of masquerade agents that run on this node.
    #[must_use]
    pub fn agents(&self) -> Vec<String> {
        AGENTS.into_iter().flat_map(|name| self.processes.command_lines(name)).map(|words| words.join(" ")).collect()
    }

    /// Name of the parent; a process that ended takes that with it.
    fn parent(&self, process: u32) -> Option<String> {
        let field = |process: u32, name: &str| {
            let status =
                self.files.read(&Path::new("/proc").join(process.to_string()).join("status")).ok().flatten()?;
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))?;
            Some(line.to_owned())
        };
        let parent = field(process, "PPid")?.parse().ok()?;
        field(parent, "Name")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;
    use crate::adapters::host_fs::HostFs;
    use crate::adapters::process_table::ProcessTable;

    /// A host with these processes: id, name, parent, command line.
    fn host(processes: &[(u32, &str, u32, &str)]) -> (tempfile::TempDir, NatWriters) {
        let root = tempfile::tempdir().unwrap();
        for (id, name, parent, line) in processes {
            let folder = root.path().join("proc").join(id.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            std::fs::write(folder.join("cmdline"), line.replace(' ', "\0") + "\0").unwrap();
            std::fs::write(folder.join("status"), format!("Name:\t{name}\nPPid:\t{parent}\n")).unwrap();
        }
        let files: Arc<dyn HostFiles> = Arc::new(HostFs::new(root.path()).unwrap());
        let writers = NatWriters::new(Arc::clone(&files), Arc::new(ProcessTable::new(files)));
        (root, writers)
    }

    #[test]
    fn who_made_the_last_change_goes_before_who_may_have() {
        let (_root, writers) = host(&[
            (7, "kube-proxy", 1, "kube-proxy --v=2"),
            (8, "iptables-restor", 7, "iptables-restore"),
            (9, "ip-masq-agent-v", 1, "/ip-masq-agent-v2 --v=2"),
        ]);
        assert_eq!(writers.likely().as_deref(), Some("/ip-masq-agent-v2 --v=2"));
        writers.changed_by(Some(&Writer { process: 5, name: "iptables-nft-re".into() }));
        assert_eq!(writers.likely().as_deref(), Some("/ip-masq-agent-v2 --v=2"), "our own transaction");
        writers.changed_by(Some(&Writer { process: 8, name: "iptables-restor".into() }));
        assert_eq!(writers.likely().as_deref(), Some("iptables-restor (process 8, started by kube-proxy)"));
        writers.changed_by(Some(&Writer { process: 99, name: "nft".into() }));
        assert_eq!(writers.likely().as_deref(), Some("nft (process 99)"));
    }

    #[test]
    fn a_program_that_runs_is_named_with_what_it_does() {
        let (_root, writers) = host(&[(7, "firewalld", 1, "/usr/bin/python3 /usr/sbin/firewalld")]);
        assert!(writers.likely().unwrap().contains("firewalld rewrites"));
        assert!(writers.agents().is_empty() && host(&[]).1.likely().is_none());
    }
}
