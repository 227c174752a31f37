//! The host's modules through `modprobe` (kmod), started only when a module is to be loaded or unloaded.
//!
//! The kernel takes a module from a file only through a system call that needs `unsafe` here, and `modprobe` knows the
//! dependencies, the options and the blocklists of the host besides.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use trimtab_domain::kernel::module::ModuleName;

use crate::ports::modules::{ModuleError, ModuleObstacle, Modules};

/// A module's own start code runs within the call; a device that does not answer can hold it up.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Most that is kept of what the program prints.
const MAX_OUTPUT_CHARS: usize = 500;

/// Modules of the host below a prefix.
#[derive(Debug)]
pub struct Modprobe {
    program: PathBuf,
    host_root: PathBuf,
}

impl Modprobe {
    /// `program` is `modprobe`, to be looked up in `PATH`, or a path; modules and their configuration are taken from
    /// below `host_root`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, host_root: &Path) -> Self {
        Self { program: program.into(), host_root: host_root.to_owned() }
    }

    async fn run(&self, options: &[&str], module: &ModuleName) -> Result<(), ModuleError> {
        #[expect(clippy::disallowed_methods, reason = "this adapter is where modprobe is started")]
        let mut command = Command::new(&self.program);
        command.args(options);
        if self.host_root != Path::new("/") {
            command.arg("-d").arg(&self.host_root).arg("-C").arg(self.host_root.join("etc/modprobe.d"));
        }
        command.arg("--").arg(module.as_str());
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let line = format!("{} {} {module}", self.program.display(), options.join(" "));
        let failed = |obstacle, status: String, output: &str| ModuleError {
            obstacle,
            command: line.clone(),
            status,
            output: output.lines().collect::<Vec<_>>().join(" ").chars().take(MAX_OUTPUT_CHARS).collect(),
        };
        match timeout(TIME_LIMIT, command.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(failed(obstacle(&text), output.status.to_string(), text.trim()))
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(failed(ModuleObstacle::NoProgram, error.to_string(), "the program is not installed"))
            }
            Ok(Err(error)) => Err(failed(ModuleObstacle::Other, error.to_string(), "it could not be started")),
            Err(_) => Err(failed(ModuleObstacle::Other, "stopped".to_owned(), "no end within 30 s")),
        }
    }
}

impl Modules for Modprobe {
    async fn load(&self, module: &ModuleName) -> Result<(), ModuleError> {
        self.run(&["--use-blacklist"], module).await
    }

    async fn unload(&self, module: &ModuleName) -> Result<(), ModuleError> {
        self.run(&["--remove"], module).await
    }
}

/// Reads the messages of kmod; its exit status is 1 for all of them.
fn obstacle(output: &str) -> ModuleObstacle {
    let says = |texts: &[&str]| texts.iter().any(|text| output.contains(text));
    if says(&["not found in directory", "No such file or directory"]) {
        ModuleObstacle::Missing
    } else if says(&["Operation not permitted", "Permission denied", "Required key not available", "Key was rejected"])
    {
        ModuleObstacle::NotPermitted
    } else if says(&["is in use", "Resource temporarily unavailable", "Device or resource busy"]) {
        ModuleObstacle::InUse
    } else if says(&[
        "Exec format error",
        "Unknown symbol",
        "Invalid argument",
        "No such device",
        "is builtin",
        "running install command",
    ]) {
        ModuleObstacle::Rejected
    } else {
        ModuleObstacle::Other
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

    use super::*;

    fn name(text: &str) -> ModuleName {
        ModuleName::parse(text).unwrap()
    }

    #[test]
    fn messages_of_kmod_are_told_apart() {
        let rows = [
            ("modprobe: FATAL: Module nope not found in directory /lib/modules/6.8.0", ModuleObstacle::Missing),
            ("modprobe: ERROR: could not insert 'x': Operation not permitted", ModuleObstacle::NotPermitted),
            ("modprobe: ERROR: could not insert 'x': Required key not available", ModuleObstacle::NotPermitted),
            ("modprobe: FATAL: Module x is in use.", ModuleObstacle::InUse),
            ("modprobe: ERROR: could not insert 'x': Exec format error", ModuleObstacle::Rejected),
            (
                "modprobe: ERROR: libkmod/libkmod-module.c:1084 command_do() Error running install command '/bin/false'",
                ModuleObstacle::Rejected,
            ),
            ("", ModuleObstacle::Other),
        ];
        for (text, expected) in rows {
            assert_eq!(obstacle(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn the_program_gets_the_hosts_folders_and_never_an_option_from_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let (program, log) = (folder.path().join("modprobe"), folder.path().join("log"));
        let text = folder.path().join("text");
        std::fs::write(&text, format!("#!/bin/sh\necho \"$@\" > {}\n", log.display())).unwrap();
        // By a program: what another test forks meanwhile might hold a file of ours open for writing (ETXTBSY).
        let mut install = std::process::Command::new("install");
        assert!(install.args(["-m", "755"]).args([&text, &program]).status().unwrap().success());
        Modprobe::new(&program, Path::new("/host")).load(&name("br_netfilter")).await.unwrap();
        let expected = "--use-blacklist -d /host -C /host/etc/modprobe.d -- br_netfilter\n";
        assert_eq!(std::fs::read_to_string(&log).unwrap(), expected);
        Modprobe::new(&program, Path::new("/")).unload(&name("br_netfilter")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "--remove -- br_netfilter\n");
    }

    #[tokio::test]
    async fn failures_name_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let error = Modprobe::new(folder.path().join("none"), Path::new("/")).load(&name("x")).await.unwrap_err();
        assert_eq!(error.obstacle, ModuleObstacle::NoProgram);
        let error = Modprobe::new("/bin/false", Path::new("/")).load(&name("x")).await.unwrap_err();
        assert_eq!(error.to_string(), "/bin/false --use-blacklist x failed (exit status: 1): ");
    }
}
