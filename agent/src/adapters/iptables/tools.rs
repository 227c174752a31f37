//! Finding and running iptables' programs.

#![expect(clippy::disallowed_methods, reason = "the one place that starts iptables' programs")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use trimtab_domain::masquerade::{Backend, Family, TableId};
use trimtab_domain::plan::Cause;

use crate::ports::{NatError, Saved};

/// Directories in which every known distribution and image keeps the tools.
pub const SEARCH_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin";
/// Seconds for which iptables-legacy waits for the xtables lock (`iptables(8)`, `-w`); the nft tools need no lock.
pub(super) const LOCK_WAIT_SECONDS: &str = "5";
/// A program that takes longer is stopped: the lock's 5 s and ample time for a hundred thousand rules.
const DEADLINE: Duration = Duration::from_secs(15);
/// Exit status "resource problem": the lock, or no memory (`xtables.h`, `RESOURCE_PROBLEM`).
const RESOURCE_PROBLEM: i32 = 4;

/// Which of the two programs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tool {
    Save,
    Restore,
}

/// A program, and the name by which one binary for all of them is told which one to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    applet: Option<String>,
}

/// A release of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) [u16; 3]);

impl Version {
    /// Finds it in what `--version` prints: `iptables-restore v1.8.9 (nf_tables)`.
    fn find(text: &str) -> Option<Self> {
        let word = text.split_ascii_whitespace().find_map(|word| word.strip_prefix('v'))?;
        let mut parts = word.split('.').map(|part| part.parse().ok());
        let first = parts.next().flatten()?;
        Some(Self([first, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0)]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// The directories with the programs, and the releases that were asked for.
#[derive(Debug)]
pub(super) struct Tools {
    search_path: String,
    versions: Mutex<BTreeMap<TableId, Version>>,
}

impl Tools {
    pub(super) fn new(search_path: &str) -> Self {
        Self { search_path: search_path.to_owned(), versions: Mutex::default() }
    }

    /// `iptables-nft-save` and the like, or else the applet of `xtables-nft-multi`. The plain names are no use: what
    /// they lead to differs from node to node.
    pub(super) fn find(&self, table: TableId, tool: Tool) -> Option<Program> {
        let command = match table.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let verb = match tool {
            Tool::Save => "save",
            Tool::Restore => "restore",
        };
        let direct = self.locate(&format!("{command}-{}-{verb}", table.backend));
        direct.map(|path| Program { path, applet: None }).or_else(|| {
            let path = self.locate(&format!("xtables-{}-multi", table.backend))?;
            Some(Program { path, applet: Some(format!("{command}-{verb}")) })
        })
    }

    /// The release of a table's tool, asked once; `None` where it cannot be told.
    pub(super) async fn version(&self, table: TableId) -> Option<Version> {
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&table).copied();
        if known.is_some() {
            return known;
        }
        let printed = self.run(self.find(table, Tool::Restore)?, &["--version"], "").await.ok()?;
        let version = Version::find(&printed)?;
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(table, version);
        Some(version)
    }

    /// True if the programs of this backend are installed at all.
    pub(super) fn has(&self, backend: Backend) -> bool {
        Family::ALL.into_iter().any(|family| self.find(TableId { family, backend }, Tool::Save).is_some())
    }

    fn locate(&self, name: &str) -> Option<PathBuf> {
        self.search_path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| is_program(path))
    }

    pub(super) fn missing(&self, table: TableId) -> Saved {
        Saved::Unavailable { cause: Cause::Unsupported, detail: self.missing_text(table) }
    }

    pub(super) fn missing_error(&self, table: TableId) -> NatError {
        NatError {
            command: format!("{}-restore", table.tool()),
            status: "not found".to_owned(),
            output: self.missing_text(table),
            transient: false,
        }
    }

    fn missing_text(&self, table: TableId) -> String {
        let packages = match table.backend {
            Backend::Nft => "iptables (Debian, Ubuntu, Alpine, SUSE, Arch) or iptables-nft (Fedora, RHEL)",
            Backend::Legacy => "iptables (Debian, Ubuntu), iptables-legacy (Fedora, Alpine) or iptables (others)",
            // No program is asked for it.
            Backend::Native => "nftables",
        };
        format!(
            "neither {}-save nor xtables-{}-multi is in {}; install the package {packages}, version 1.8 or newer",
            table.tool(),
            table.backend,
            self.search_path
        )
    }

    /// Runs a program, gives it `input`, returns what it prints.
    ///
    /// # Errors
    /// [`NatError`] if it cannot be started, fails, or does not end in time.
    pub(super) async fn run(&self, program: Program, arguments: &[&str], input: &str) -> Result<String, NatError> {
        let mut command = Command::new(&program.path);
        command.args(&program.applet).args(arguments).env("PATH", &self.search_path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let text = [program.path.display().to_string(), program.applet.unwrap_or_default(), arguments.join(" ")]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        match tokio::time::timeout(DEADLINE, communicate(command, input)).await {
            Ok(Ok((status, printed, _))) if status.success() => {
                String::from_utf8(printed).map_err(|error| failure(text, "unreadable", &error.to_string(), false))
            }
            Ok(Ok((status, _, complaint))) => Err(failed_with(text, status, &String::from_utf8_lossy(&complaint))),
            Ok(Err(error)) => Err(failure(text, "not started", &error.to_string(), is_passing(&error))),
            Err(_) => Err(failure(text, "stopped", &format!("no end after {} s", DEADLINE.as_secs()), true)),
        }
    }
}

async fn communicate(mut command: Command, input: &str) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that gives up early closes its end; its status tells why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    output.map(|output| (output.status, output.stdout, output.stderr))
}

fn failed_with(command: String, status: ExitStatus, complaint: &str) -> NatError {
    let lock = complaint.contains("xtables lock");
    // Somebody else changed the rules between our look and our transaction: look again.
    let raced =
        complaint.contains("does a matching rule exist") || complaint.contains("Resource temporarily unavailable");
    let denied = complaint.contains("Permission denied") || complaint.contains("you must be root");
    // The legacy tool says no more than which line failed when a rule to delete is gone.
    let unexplained = complaint.trim_end().ends_with("failed");
    let resource = status.code() == Some(RESOURCE_PROBLEM) && !complaint.contains("Invalid argument");
    let mut output = complaint.split_whitespace().collect::<Vec<_>>().join(" ");
    if lock {
        output.push_str(" (another program holds /run/xtables.lock)");
    }
    failure(command, &status.to_string(), &output, lock || raced || unexplained || (resource && !denied))
}

fn failure(command: String, status: &str, output: &str, transient: bool) -> NatError {
    NatError { command, status: status.to_owned(), output: output.to_owned(), transient }
}

fn is_passing(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    const V6_NFT: TableId = TableId { family: Family::V6, backend: Backend::Nft };

    /// A directory with programs, each a shell script.
    fn directory(programs: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, script) in programs {
            let path = directory.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        directory
    }

    fn tools(directory: &tempfile::TempDir) -> Tools {
        Tools::new(&format!("/nowhere:{}:/usr/bin:/bin", directory.path().display()))
    }

    #[tokio::test]
    async fn a_program_of_its_own_goes_before_the_applet() {
        let only_multi = directory(&[("xtables-nft-multi", "echo \"$@\"")]);
        let found = tools(&only_multi).find(V6_NFT, Tool::Save).unwrap();
        let printed = tools(&only_multi).run(found, &["-t", "nat"], "").await.unwrap();
        assert_eq!(printed, "ip6tables-save -t nat\n");
        let both = directory(&[("xtables-nft-multi", ""), ("ip6tables-nft-restore", "cat")]);
        let found = tools(&both).find(V6_NFT, Tool::Restore).unwrap();
        assert_eq!(found.applet, None);
        assert_eq!(tools(&both).run(found, &[], "*nat\nCOMMIT\n").await.unwrap(), "*nat\nCOMMIT\n");
    }

    #[test]
    fn the_release_is_found_in_what_the_tool_prints() {
        let rows = [
            ("iptables-restore v1.8.9 (nf_tables)\n", Some("1.8.9")),
            ("iptables v1.6.1", Some("1.6.1")),
            ("iptables-legacy-restore v1.8 (legacy)", Some("1.8.0")),
            ("no version", None),
        ];
        for (text, expected) in rows {
            assert_eq!(Version::find(text).map(|version| version.to_string()).as_deref(), expected, "{text}");
        }
        assert!(
            Version::find("v1.6.1") < Version::find("v1.6.2") && Version::find("v1.10.0") > Version::find("v1.9.9")
        );
    }

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let empty = directory(&[]);
        fs::write(empty.path().join("ip6tables-nft-save"), "not executable").unwrap();
        let tools = Tools::new(&empty.path().display().to_string());
        assert!(tools.find(V6_NFT, Tool::Save).is_none());
        let Saved::Unavailable { cause, detail } = tools.missing(V6_NFT) else { panic!("a table without a tool") };
        assert_eq!(cause, Cause::Unsupported);
        assert!(detail.contains("ip6tables-nft-save") && detail.contains("install the package iptables"), "{detail}");
    }

    #[tokio::test]
    async fn failures_are_classed_by_whether_another_try_helps() {
        let rows = [
            ("the lock", "Another app is currently holding the xtables lock. Stopped waiting after 5s.", 4, true),
            ("gone rule, nft", "line 2 failed: Bad rule (does a matching rule exist in that chain?).", 1, true),
            ("gone rule, legacy", "iptables-restore: line 3 failed", 1, true),
            ("wrong hook", "line 2: RULE_APPEND failed (Invalid argument): rule in chain OUTPUT", 4, false),
            ("no privilege", "Could not fetch rule set generation id: Permission denied (you must be root)", 4, false),
            ("bad option", "unknown option \"--random-fully\"", 2, false),
        ];
        for (name, complaint, status, transient) in rows {
            let script = format!("echo '{complaint}' >&2; exit {status}");
            let directory = directory(&[("ip6tables-nft-save", script.as_str())]);
            let found = tools(&directory).find(V6_NFT, Tool::Save).unwrap();
            let error = tools(&directory).run(found, &[], "").await.unwrap_err();
            assert_eq!(error.transient, transient, "{name}: {error}");
            assert!(error.output.contains(complaint), "{name}: {error}");
        }
    }
}
