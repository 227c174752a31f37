//! The daemon in the machine, as a process.
#![allow(clippy::disallowed_types, reason = "tests speak to the program as a stranger does")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::wait::until;

const PROGRAM: &str = "/lab/trimtab";
const PROFILE: &str = "/run/lab/profile.yaml";
const LOG: &str = "/run/lab/agent.log";
/// Generous: the machine is emulated.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// A running daemon; killed when dropped.
pub(crate) struct Agent(Child);

impl Agent {
    pub(crate) fn start() -> Self {
        // The scenario restarts it more often than the agent lets itself register within ten minutes.
        let _absent = fs::remove_file("/run/trimtab/nri-registrations");
        let log = fs::OpenOptions::new().create(true).append(true).open(LOG).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--profile", PROFILE]).stdin(Stdio::null()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start_ready() -> Self {
        let mut agent = Self::start();
        agent.until("ready", || {
            let answer = http("/readyz").unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        });
        agent
    }

    /// Waits for a condition; fails with the log if the daemon ends or time runs out.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut() -> Result<(), String>) {
        until(what, LIMIT, || {
            assert!(self.0.try_wait().unwrap().is_none(), "the agent ended before: {what}\n{}", log());
            holds().map_err(|seen| format!("{seen}\n{}", log()))
        });
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Replaces the profile by rename.
pub(crate) fn write_profile(text: &str) {
    fs::create_dir_all("/run/lab").unwrap();
    fs::write("/run/lab/new", text).unwrap();
    fs::rename("/run/lab/new", PROFILE).unwrap();
}

/// The last lines of the log.
pub(crate) fn log() -> String {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Runs a command of the program that acts once; exit code and text.
pub(crate) fn once(name: &str) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args([name, "--profile", PROFILE]).output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

/// What a command of the program shows, as JSON.
pub(crate) fn shown(command: &str) -> String {
    let output = Command::new(PROGRAM).args([command, "-o", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn http(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect("127.0.0.1:9808").ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The value of a metric, by its whole name with labels.
pub(crate) fn metric(name: &str) -> Option<f64> {
    let text = http("/metrics")?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
