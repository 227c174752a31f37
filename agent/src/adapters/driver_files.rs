//! The cgroup driver in the files of kubelet and runtime: what they say, a change with a copy kept beside, and the way back.
//!
//! The files are edited in place, comments and order stay. A copy of what was there is kept as `FILE.trimtab-before`, and a
//! file that was not there is noted as `FILE.trimtab-absent`; both stay after the end, for a person, until the next beginning.
//! CRI-O reads every file of its directory, whatever its name, so the copy of its drop-in lies in the directory above.

mod drop_in;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::migration::{KubeletFileError, set_cgroup_driver};
use trimtab_domain::spec::cgroup::{CgroupDriver, MigrationSpec};

use super::runtime_config::edit::{
    CRIO_DROP_IN, EditError, crio_drop_in, has_containerd_driver, set_containerd_driver,
};
use crate::ports::kubelet::{KubeletSource, RuntimeSource};
use crate::ports::{FileError, HostFiles};

const BEFORE: &str = ".trimtab-before";
const ABSENT: &str = ".trimtab-absent";
/// Text of the note that a file was not there.
const ABSENT_TEXT: &str = "The file without this ending did not exist before Trimtab made it; remove it to go back.\n";
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
const CRIO_UNIT: &str = "crio.service";

/// Which files and units a migration is about; kept with its journal, so that a later start means the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Places {
    /// Unit of the kubelet.
    pub kubelet_unit: String,
    /// Unit of the runtime.
    pub runtime_unit: String,
    /// File of the kubelet.
    pub kubelet_config: PathBuf,
    /// File of the runtime.
    pub runtime_config: PathBuf,
    /// Handlers of containerd whose driver is set; `None`: the runtime is CRI-O.
    pub handlers: Option<Vec<String>>,
}

impl Places {
    /// Both files, the runtime's first.
    fn files(&self) -> [&Path; 2] {
        [&self.runtime_config, &self.kubelet_config]
    }

    /// Where the copy of one of the files lies.
    fn copy_of(&self, path: &Path, ending: &str) -> PathBuf {
        let is_drop_in = self.handlers.is_none() && path == self.runtime_config;
        let directory = if is_drop_in { path.parent().and_then(Path::parent) } else { path.parent() };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        directory.unwrap_or(Path::new("/")).join(name)
    }
}

/// What the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesNow {
    /// The driver in the kubelet's file.
    pub kubelet: CgroupDriver,
    /// The driver in the runtime's file: the target, if it is set for all handlers.
    pub runtime: CgroupDriver,
    /// Whether both are as they were before the first edit.
    pub original: bool,
}

/// A driver cannot be read from a file or written into one.
#[derive(Debug, thiserror::Error)]
pub enum DriverFileError {
    /// The file could not be read or written.
    #[error("{error}: {}; see \"Moving a node to the other cgroup driver\" for the mounts that this needs", error.source)]
    File {
        /// What happened.
        error: FileError,
    },
    /// The text of the kubelet's file is no YAML.
    #[error("{path} is no YAML: {detail}")]
    Yaml {
        /// The file.
        path: String,
        /// What is odd.
        detail: String,
    },
    /// The kubelet's file cannot be edited.
    #[error("{path}: {error}")]
    Kubelet {
        /// The file.
        path: String,
        /// Why.
        error: KubeletFileError,
    },
    /// The runtime's file cannot be edited.
    #[error("{path}: {error}")]
    Runtime {
        /// The file.
        path: String,
        /// Why.
        error: EditError,
    },
    /// It would not take effect, or must not be done; in words with the remedy.
    #[error("{0}")]
    Unfit(String),
}

impl From<FileError> for DriverFileError {
    fn from(error: FileError) -> Self {
        Self::File { error }
    }
}

/// The files of this node.
pub struct DriverFiles {
    host: Arc<dyn HostFiles>,
    kubelet: Arc<dyn KubeletSource>,
    runtimes: Arc<dyn RuntimeSource>,
}

impl DriverFiles {
    /// Files of this host; the sources say what takes effect.
    #[must_use]
    pub fn new(host: Arc<dyn HostFiles>, kubelet: Arc<dyn KubeletSource>, runtimes: Arc<dyn RuntimeSource>) -> Self {
        Self { host, kubelet, runtimes }
    }

    /// The places of this node, by the profile and by what is there.
    ///
    /// # Errors
    /// [`DriverFileError::Unfit`] if there is no kubelet, or no runtime whose driver can be set.
    pub fn find(&self, spec: &MigrationSpec) -> Result<Places, DriverFileError> {
        if !self.kubelet.settings().present {
            return Err(unfit("no kubelet is known on this node".into()));
        }
        let configured = self.runtimes.drivers().drivers;
        let handlers: Vec<String> = configured.iter().filter_map(|one| handler(&one.component)).collect();
        let is_crio = configured.iter().any(|one| one.component == Component::CriO);
        // Files of a containerd that something else uses lie beside many a CRI-O.
        let names_crio = spec.runtime_unit.as_deref().is_some_and(|unit| unit.starts_with("crio"));
        let (unit, file, handlers) = match (handlers.is_empty(), is_crio) {
            (_, true) if names_crio => (CRIO_UNIT, CRIO_DROP_IN, None),
            (false, _) => ("containerd.service", CONTAINERD_CONFIG, Some(handlers)),
            (true, true) => (CRIO_UNIT, CRIO_DROP_IN, None),
            (true, false) => return Err(unfit("neither containerd nor CRI-O is known on this node".into())),
        };
        Ok(Places {
            kubelet_unit: spec.kubelet_unit.clone(),
            runtime_unit: spec.runtime_unit.clone().unwrap_or_else(|| unit.to_owned()),
            kubelet_config: PathBuf::from(&spec.kubelet_config),
            runtime_config: PathBuf::from(spec.runtime_config.as_deref().unwrap_or(file)),
            handlers,
        })
    }

    /// What the files say now.
    ///
    /// # Errors
    /// [`DriverFileError`] if one cannot be read or understood.
    pub fn look(&self, places: &Places, target: CgroupDriver) -> Result<FilesNow, DriverFileError> {
        let original =
            self.is_original(places, &places.kubelet_config)? && self.is_original(places, &places.runtime_config)?;
        Ok(FilesNow { kubelet: self.kubelet_driver(places)?, runtime: self.runtime_driver(places, target)?, original })
    }

    /// Whether the files can be changed and the change would take effect; nothing is written.
    ///
    /// # Errors
    /// [`DriverFileError`] with what is in the way and the remedy.
    pub fn check(&self, places: &Places, target: CgroupDriver) -> Result<(), DriverFileError> {
        self.edited_kubelet(places, target)?;
        self.edited_runtime(places, target)?;
        for path in places.files() {
            self.check_place(path, &places.copy_of(path, BEFORE))?;
        }
        let file = places.kubelet_config.display().to_string();
        let kubelet = self.kubelet.settings().driver;
        if let Some(other) = kubelet.filter(|driver| !is_of(driver, &file)) {
            return Err(unfit(format!(
                "the kubelet's driver is set by {}, which an edit of {file} would not change; remove it there",
                other.source
            )));
        }
        let file = places.runtime_config.display().to_string();
        let elsewhere = self.of_runtime(places).into_iter().find(|driver| match places.handlers {
            Some(_) => !is_of(driver, &file),
            None => drop_in::is_overruled_by(&places.runtime_config, &driver.source),
        });
        elsewhere.map_or(Ok(()), |other| {
            let remedy = match places.handlers {
                _ if !Path::new(&other.source).is_absolute() => "remove it there",
                Some(_) => "name that file in cgroup.migration.runtimeConfig",
                None => "name a file that is read after it in cgroup.migration.runtimeConfig",
            };
            Err(unfit(format!(
                "the driver of {} is set by {}, which an edit of {file} would not change; {remedy}",
                other.component.describe(),
                other.source,
            )))
        })
    }

    /// Whether a file can be replaced, and a copy kept.
    fn check_place(&self, path: &Path, copy: &Path) -> Result<(), DriverFileError> {
        for directory in [path, copy].map(|file| file.parent().unwrap_or(Path::new("/"))) {
            match self.host.mode(directory)? {
                Some(mode) if mode.may_write => {}
                Some(_) => {
                    return Err(unfit(format!(
                        "{} cannot be written by the agent; deploy deploy/components/migration, which mounts it so",
                        directory.display()
                    )));
                }
                None => {
                    return Err(unfit(format!(
                        "{} does not exist, or deploy/components/migration does not mount it; make it, or name another \
                         file in cgroup.migration",
                        directory.display()
                    )));
                }
            }
        }
        match self.host.read_link(path)? {
            Some(target) => Err(unfit(format!(
                "{} is a link to {}; name the file itself in cgroup.migration",
                path.display(),
                target.display()
            ))),
            None => Ok(()),
        }
    }

    /// Sets the driver in the kubelet's file.
    ///
    /// # Errors
    /// [`DriverFileError`]; [`DriverFileError::Unfit`] if another layer of the configuration has the last word.
    pub fn edit_kubelet(&self, places: &Places, target: CgroupDriver) -> Result<(), DriverFileError> {
        let text = self.edited_kubelet(places, target)?;
        self.keep_and_replace(places, &places.kubelet_config, &text)?;
        match self.kubelet.settings().driver {
            Some(driver) if driver.driver != target => Err(unfit(format!(
                "{} says {target}, and {} says {}",
                places.kubelet_config.display(),
                driver.source,
                driver.driver
            ))),
            _ => Ok(()),
        }
    }

    /// Sets the driver in the runtime's file.
    ///
    /// # Errors
    /// As [`Self::edit_kubelet`].
    pub fn edit_runtime(&self, places: &Places, target: CgroupDriver) -> Result<(), DriverFileError> {
        let text = self.edited_runtime(places, target)?;
        self.keep_and_replace(places, &places.runtime_config, &text)?;
        match self.of_runtime(places).into_iter().find(|driver| driver.driver != target) {
            Some(driver) => Err(unfit(format!(
                "{} says {target}, and {} says {} of {}",
                places.runtime_config.display(),
                driver.source,
                driver.driver,
                driver.component.describe()
            ))),
            None => Ok(()),
        }
    }

    /// Puts both files back as they were.
    ///
    /// # Errors
    /// [`DriverFileError`].
    pub fn restore(&self, places: &Places) -> Result<(), DriverFileError> {
        for path in places.files() {
            if let Some(text) = self.host.read(&places.copy_of(path, BEFORE))? {
                self.host.replace(path, &text)?;
            } else if self.host.read(&places.copy_of(path, ABSENT))?.is_some() {
                self.host.remove(path)?;
            }
        }
        Ok(())
    }

    /// Removes what an edit that was cut short left: CRI-O would read that, too, or not start.
    ///
    /// # Errors
    /// [`DriverFileError`].
    pub fn forget_unfinished(&self, places: &Places) -> Result<(), DriverFileError> {
        Ok(places.files().into_iter().try_for_each(|path| self.host.discard_unfinished(path))?)
    }

    /// Removes the copies of an earlier migration: what is there now is what there will be a way back to.
    ///
    /// # Errors
    /// [`DriverFileError`].
    pub fn forget_copies(&self, places: &Places) -> Result<(), DriverFileError> {
        for path in places.files() {
            for ending in [BEFORE, ABSENT] {
                self.host.remove(&places.copy_of(path, ending))?;
                self.host.discard_unfinished(&places.copy_of(path, ending))?;
            }
        }
        self.forget_unfinished(places)
    }

    fn is_original(&self, places: &Places, path: &Path) -> Result<bool, DriverFileError> {
        if let Some(before) = self.host.read(&places.copy_of(path, BEFORE))? {
            return Ok(self.host.read(path)?.as_deref() == Some(before.as_str()));
        }
        let was_absent = self.host.read(&places.copy_of(path, ABSENT))?.is_some();
        Ok(!was_absent || self.host.read(path)?.is_none())
    }

    fn kubelet_driver(&self, places: &Places) -> Result<CgroupDriver, DriverFileError> {
        let text = self.host.read(&places.kubelet_config)?.unwrap_or_default();
        let path = || places.kubelet_config.display().to_string();
        let yaml: Value = serde_saphyr::from_str(&text).map_err(|error| DriverFileError::Yaml {
            path: path(),
            detail: error.to_string().lines().next().unwrap_or_default().to_owned(),
        })?;
        match yaml.get("cgroupDriver").and_then(Value::as_str).unwrap_or_default() {
            "systemd" => Ok(CgroupDriver::Systemd),
            // The kubelet's own default (kubelet.config.k8s.io/v1beta1).
            "cgroupfs" | "" => Ok(CgroupDriver::Cgroupfs),
            other => Err(unfit(format!("{}: cgroupDriver {other:?} is neither cgroupfs nor systemd", path()))),
        }
    }

    fn runtime_driver(&self, places: &Places, target: CgroupDriver) -> Result<CgroupDriver, DriverFileError> {
        let other = match target {
            CgroupDriver::Systemd => CgroupDriver::Cgroupfs,
            CgroupDriver::Cgroupfs => CgroupDriver::Systemd,
        };
        let text = self.host.read(&places.runtime_config)?;
        let is_so = match &places.handlers {
            Some(handlers) => has_containerd_driver(text.as_deref(), handlers, target).map_err(|error| {
                DriverFileError::Runtime { path: places.runtime_config.display().to_string(), error }
            })?,
            None => match text.filter(|text| drop_in::is_ours(text)) {
                Some(text) => text == crio_drop_in(target),
                // Without a drop-in of ours what others say is in force.
                None => self.of_runtime(places).iter().all(|driver| driver.driver == target),
            },
        };
        Ok(if is_so { target } else { other })
    }

    fn edited_kubelet(&self, places: &Places, target: CgroupDriver) -> Result<String, DriverFileError> {
        let path = places.kubelet_config.display().to_string();
        let Some(text) = self.host.read(&places.kubelet_config)? else {
            return Err(unfit(format!(
                "{path} does not exist; name the kubelet's file in cgroup.migration.kubeletConfig"
            )));
        };
        set_cgroup_driver(&text, target).map_err(|error| DriverFileError::Kubelet { path, error })
    }

    fn edited_runtime(&self, places: &Places, target: CgroupDriver) -> Result<String, DriverFileError> {
        let text = self.host.read(&places.runtime_config)?;
        let path = places.runtime_config.display().to_string();
        let Some(handlers) = &places.handlers else {
            return match text.filter(|text| !drop_in::is_ours(text)) {
                Some(_) => Err(unfit(format!(
                    "{path} is not Trimtab's; name a file of its own in cgroup.migration.runtimeConfig, which CRI-O reads \
                     after all others"
                ))),
                None => Ok(crio_drop_in(target)),
            };
        };
        let names: Vec<&str> = handlers.iter().map(String::as_str).collect();
        set_containerd_driver(text.as_deref(), &names, target).map_err(|error| DriverFileError::Runtime { path, error })
    }

    /// What is in force of the handlers that are about to change.
    fn of_runtime(&self, places: &Places) -> Vec<Configured> {
        let drivers = self.runtimes.drivers().drivers.into_iter();
        let is_meant = |component: &Component| match (&places.handlers, handler(component)) {
            (Some(handlers), Some(name)) => handlers.contains(&name),
            (None, _) => *component == Component::CriO,
            (Some(_), None) => false,
        };
        drivers.filter(|driver| is_meant(&driver.component)).collect()
    }

    /// The copy reaches the disk before the file is touched; one that is there is older, and is the one to go back to.
    fn keep_and_replace(&self, places: &Places, path: &Path, text: &str) -> Result<(), DriverFileError> {
        let before = self.host.read(path)?;
        let is_kept = [BEFORE, ABSENT].iter().try_fold(false, |kept, ending| {
            Ok::<bool, FileError>(kept || self.host.read(&places.copy_of(path, ending))?.is_some())
        })?;
        if !is_kept {
            match &before {
                Some(before) => self.host.replace(&places.copy_of(path, BEFORE), before)?,
                None => self.host.replace(&places.copy_of(path, ABSENT), ABSENT_TEXT)?,
            }
        }
        if before.as_deref() != Some(text) {
            self.host.replace(path, text)?;
        }
        Ok(())
    }
}

/// Whether this file, or nothing at all, sets the driver.
fn is_of(driver: &Configured, file: &str) -> bool {
    driver.source == file || driver.source.starts_with("default of")
}

fn handler(component: &Component) -> Option<String> {
    match component {
        Component::Containerd { handler, .. } => Some(handler.clone()),
        _ => None,
    }
}

fn unfit(words: String) -> DriverFileError {
    DriverFileError::Unfit(words)
}
