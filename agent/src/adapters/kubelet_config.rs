//! The kubelet's effective configuration and state, from its command line, files and checkpoints.
//!
//! Later layers win: `--config` file, `--config-dir` drop-ins, command line (kubelet 1.36 `cmd/kubelet/app/server.go`).
//! Without a running kubelet the command line is what its unit and environment files would make of it. What the
//! runtime answers to `RuntimeConfig` is not asked for here.

mod checkpoint;
mod command;
mod flags;
mod layers;
mod managers;

use std::path::Path;
use std::sync::Arc;

use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::spec::cgroup::CgroupDriver;

use self::command::{Command, Prediction};
use self::layers::Layers;
use crate::ports::HostFiles;
use crate::ports::kubelet::{KubeletSettings, KubeletSource, KubeletState};
use crate::ports::names::Processes;

/// Where kubeadm writes the configuration, and where it is looked for when no flag names a file.
const DEFAULT_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// Default of `--root-dir`.
const DEFAULT_ROOT_DIR: &str = "/var/lib/kubelet";
/// Source of everything that is set nowhere.
const BUILT_IN: &str = "default of the kubelet";

/// The kubelet's files on the host.
pub struct KubeletFiles {
    files: Arc<dyn HostFiles>,
    processes: Arc<dyn Processes>,
}

impl KubeletFiles {
    /// The kubelet of the host.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>, processes: Arc<dyn Processes>) -> Self {
        Self { files, processes }
    }

    fn command(&self, problems: &mut Vec<String>) -> (Command, Prediction) {
        let prediction = command::predict(&*self.files, problems);
        let running = self.processes.command_lines("kubelet").into_iter().next();
        let command = match running {
            Some(arguments) => Command {
                running: true,
                source: "command line of the running kubelet".into(),
                arguments: arguments.into_iter().skip(1).collect(),
            },
            None => prediction.command.clone(),
        };
        (command, prediction)
    }

    fn root_dir(command: &Command) -> String {
        let flag = flags::last(&command.arguments, "root-dir");
        flag.unwrap_or_else(|| DEFAULT_ROOT_DIR.into())
    }
}

impl KubeletSource for KubeletFiles {
    fn settings(&self) -> KubeletSettings {
        let mut problems = Vec::new();
        let (command, prediction) = self.command(&mut problems);
        let mut layers = Layers::default();
        let config = flags::last(&command.arguments, "config");
        let config_exists = self.files.read(Path::new(DEFAULT_CONFIG)).ok().flatten().is_some();
        match config {
            Some(path) => layers.add_file(&*self.files, &path, &mut problems),
            None if !command.running && config_exists => layers.add_file(&*self.files, DEFAULT_CONFIG, &mut problems),
            None => {}
        }
        if let Some(directory) = flags::last(&command.arguments, "config-dir") {
            layers.add_directory(&*self.files, &directory, &mut problems);
        }
        flags::apply(&command.arguments, &command.source, &mut layers, &mut problems);
        let present = command.running || prediction.exists || config_exists || !layers.sources().is_empty();
        let (mut driver, mut other_drivers) = (None, Vec::new());
        if present {
            let mut drivers = drivers(&layers, &prediction, &mut problems);
            driver = Some(drivers.remove(0));
            other_drivers = drivers;
        }
        KubeletSettings {
            present,
            running: command.running,
            driver,
            other_drivers,
            cgroup_root: layers.text("cgroupRoot").unwrap_or_default(),
            runtime_endpoint: layers.text("containerRuntimeEndpoint").unwrap_or_default(),
            root_dir: Self::root_dir(&command),
            managers: managers::from_layers(&layers, &mut problems),
            cpu_policy_source: layers.source("cpuManagerPolicy").unwrap_or_default().to_owned(),
            memory_policy_source: layers.source("memoryManagerPolicy").unwrap_or_default().to_owned(),
            sources: layers.sources().to_vec(),
            problems,
        }
    }

    fn state(&self) -> KubeletState {
        let (command, _) = self.command(&mut Vec::new());
        checkpoint::read(&*self.files, Path::new(&Self::root_dir(&command)))
    }
}

/// The driver in force first, then everywhere else that one is set, from the strongest to the weakest.
fn drivers(layers: &Layers, prediction: &Prediction, problems: &mut Vec<String>) -> Vec<Configured> {
    let mut found = Vec::new();
    let mut add = |text: &str, source: String| match text {
        "systemd" => found.push((CgroupDriver::Systemd, source)),
        "cgroupfs" => found.push((CgroupDriver::Cgroupfs, source)),
        other => problems.push(format!("{source}: cgroup driver {other:?} is neither cgroupfs nor systemd")),
    };
    for (text, source) in layers.history("cgroupDriver").into_iter().rev() {
        add(&text, source);
    }
    for (source, arguments) in &prediction.parts {
        if let Some(text) = flags::last(arguments, "cgroup-driver") {
            add(&text, source.clone());
        }
    }
    if found.is_empty() {
        found.push((CgroupDriver::Cgroupfs, BUILT_IN.into()));
    }
    let mut unique: Vec<Configured> = Vec::new();
    for (driver, source) in found {
        if !unique.iter().any(|known| known.source == source) {
            unique.push(Configured { component: Component::Kubelet, driver, source });
        }
    }
    unique
}
