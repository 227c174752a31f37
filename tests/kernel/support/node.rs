//! A throw-away node for the program itself: a host root with the real `/proc` and `/sys`, pods, a profile, and the
//! `trimtab` binary. To be made on a thread inside fresh namespaces.

#![allow(clippy::disallowed_types, reason = "tests wait by the real clock and speak to the program as a stranger does")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroups::Subtree;

const HTTP: &str = "127.0.0.1:9808";
/// Generous, because tests share the machine; nothing waits for it to pass.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) struct Node {
    folder: tempfile::TempDir,
    pub(crate) pods: Subtree,
}

impl Node {
    /// `None` (with a word) where this machine has no cgroups for us.
    pub(crate) fn new() -> Option<Self> {
        let pods = Subtree::new()?;
        let folder = tempfile::tempdir().unwrap();
        let node = Self { folder, pods };
        for directory in ["proc", "sys", "run", "etc/modprobe.d", "var/lib/kubelet", "lib/modules"] {
            fs::create_dir_all(node.host().join(directory)).unwrap();
        }
        for directory in ["/proc", "/sys"] {
            let target = node.host().join(&directory[1..]);
            let none: Option<&str> = None;
            mount(Some(directory), &target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
        }
        // The first process of this node is one in its network, as on any node.
        let (first, none) = (node.host().join("proc/1"), None::<&str>);
        mount(Some("/proc/thread-self"), &first, none, MsFlags::MS_BIND, none).unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        Some(node)
    }

    /// Shows the `/run` of these namespaces to the agent, with the sockets of a runtime in it.
    pub(crate) fn share_run(&self) {
        let none: Option<&str> = None;
        mount(Some("/run"), &self.host().join("run"), none, MsFlags::MS_BIND, none).unwrap();
    }

    pub(crate) fn host(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the profile by rename, as an editor or a ConfigMap does.
    pub(crate) fn write_profile(&self, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path("profile.yaml")).unwrap();
    }

    /// The program with the arguments of this node.
    pub(crate) fn command(&self, name: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
        self.arguments(&mut command, name, more);
        // As the image sets them.
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "131072");
        command
    }

    /// Adds subcommand, flags of this node and further arguments.
    pub(crate) fn arguments(&self, command: &mut Command, name: &str, more: &[&str]) {
        command.arg(name).arg("--profile").arg(self.path("profile.yaml"));
        command.arg("--state-dir").arg(self.path("state")).arg("--host-root").arg(self.host());
        let root = self.pods.path();
        command.arg("--cgroup-root").arg(format!("/{}", root.file_name().unwrap().to_string_lossy()));
        command.args(["--node-name", "test"]).args(more).stdin(Stdio::null());
    }

    /// Runs a command that acts once; the text is standard output and standard error.
    pub(crate) fn once(&self, name: &str, more: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(name, more).output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
    }

    /// Starts the daemon; its log goes to the file `log`.
    pub(crate) fn start(&self) -> Agent {
        self.start_with(&[])
    }

    /// The same with further flags.
    pub(crate) fn start_with(&self, more: &[&str]) -> Agent {
        let socket = self.path("socket").display().to_string();
        let own: &[&str] = &["--socket", &socket, "--http", HTTP];
        self.spawn(self.command("run", &[own, more].concat()))
    }

    /// Starts a command that runs the daemon; its log goes to the file `log`.
    pub(crate) fn spawn(&self, mut command: Command) -> Agent {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        Agent { child: command.stderr(log).spawn().unwrap(), log: self.path("log") }
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start_ready(&self) -> Agent {
        let mut agent = self.start();
        agent.until_ready();
        agent
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for directory in ["proc", "sys", "run"] {
            // The namespace takes them away in any case; the folder can be removed only without them.
            let _gone = umount2(&self.host().join(directory), MntFlags::MNT_DETACH);
        }
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Waits for a condition and tells how long that took; fails with the log if the daemon ends or time runs out.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn() -> bool) -> Duration {
        let begin = Instant::now();
        while !holds() {
            let ended = self.child.try_wait().unwrap();
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(ended.is_none(), "the agent ended ({ended:?}) before: {what}\n{}", log());
            assert!(begin.elapsed() < LIMIT, "never came true: {what}\n{}", log());
            std::thread::yield_now();
        }
        begin.elapsed()
    }

    pub(crate) fn until_ready(&mut self) {
        self.until("ready", || http("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One request to the daemon; `None` while nobody listens.
pub(crate) fn http(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(HTTP).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The value of a metric, by its whole name with labels.
pub(crate) fn metric(name: &str) -> Option<f64> {
    let text = http("/metrics")?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Runs a program that must succeed; its standard output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Both NAT tables without counters and comments.
pub(crate) fn nat() -> String {
    let both = run("iptables-save", &["-t", "nat"]) + &run("ip6tables-save", &["-t", "nat"]);
    let rules = both.lines().filter(|line| !line.starts_with('#'));
    rules.map(|line| line.split(" [").next().unwrap().to_owned() + "\n").collect()
}
