//! The cgroup driver in the configuration of the container runtimes: containerd, CRI-O, Docker.
//!
//! Files may be newer than the running daemon; that is what the comparison with the running tree shows.

mod containerd;
mod crio;
mod docker;
pub mod edit;
mod toml;

use std::path::Path;
use std::sync::Arc;

use crate::ports::HostFiles;
use crate::ports::kubelet::{RuntimeSettings, RuntimeSource};
use crate::ports::names::Processes;

/// The runtimes' files on the host.
pub struct RuntimeFiles {
    files: Arc<dyn HostFiles>,
    processes: Arc<dyn Processes>,
}

impl RuntimeFiles {
    /// The runtimes of the host.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>, processes: Arc<dyn Processes>) -> Self {
        Self { files, processes }
    }
}

impl RuntimeSource for RuntimeFiles {
    fn drivers(&self) -> RuntimeSettings {
        let mut settings = RuntimeSettings::default();
        containerd::read(&*self.files, self.processes.command_lines("containerd").first(), &mut settings);
        crio::read(&*self.files, self.processes.command_lines("crio").first(), &mut settings);
        // Docker is often there beside the runtime that Kubernetes uses, and then its driver says nothing.
        let shim = !self.processes.command_lines("cri-dockerd").is_empty();
        if shim || settings.drivers.is_empty() {
            docker::read(&*self.files, self.processes.command_lines("dockerd").first(), &mut settings);
        }
        settings
    }
}

/// The last value of a flag in one of its spellings: `--config=x`, `--config x`, `-c x`.
fn flag<'a>(command: Option<&'a Vec<String>>, names: &[&str]) -> Option<&'a str> {
    let mut arguments = command?.iter().skip(1);
    let mut found = None;
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            Some((name, value)) if names.contains(&name) => found = Some(value),
            None if names.contains(&argument.as_str()) => found = arguments.next().map(String::as_str),
            _ => {}
        }
    }
    found
}

/// Text of a file; what cannot be read becomes a problem.
fn read_text(files: &dyn HostFiles, path: &Path, settings: &mut RuntimeSettings) -> Option<String> {
    files.read(path).unwrap_or_else(|error| {
        settings.problems.push(format!("{error}: {}", error.source));
        None
    })
}
