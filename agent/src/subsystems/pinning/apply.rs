//! Carries steps out: each write by its writer. Nothing is decided here, except to leave undone what has become unsafe.

use std::error::Error as _;
use std::io;

use nix::errno::Errno;
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::workload::ContainerId;

use super::Pinning;
use super::step::{Expected, FileWrite};
use super::writers::{self, Via};
use crate::ports::admission::{CpusetUpdate, UnsolicitedUpdates};
use crate::ports::cgroups::CgroupError;
use crate::ports::runtime::{ResourceChange, RuntimeError};
use crate::ports::units::UnitError;
use crate::reconcile::Error;

/// A step that was not made, because it would have taken what somebody else has by now.
#[derive(Debug, thiserror::Error)]
enum Withheld {
    /// The placements are not those of the plan any more.
    #[error("a container came or went since this was planned; the next pass plans anew")]
    Outdated,
    /// A cgroup still has what it was to leave.
    #[error("{path} still has {left} in {file}; what it was to leave is given to nobody until it is gone")]
    StillThere {
        /// The cgroup.
        path: String,
        /// The file.
        file: &'static str,
        /// What it was to leave.
        left: CpuSet,
    },
    /// The file shows no list.
    #[error("{path}/{file} holds {text:?}, which is no list")]
    NoList {
        /// The cgroup.
        path: String,
        /// The file.
        file: &'static str,
        /// Its text.
        text: String,
    },
}

impl Pinning {
    /// Makes one write.
    pub(super) async fn write(&self, write: &FileWrite) -> Result<(), Error> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::transient(
                format!("cannot make {}: {} -> {}", write.object, shown(&write.old), shown(&write.new)),
                error,
            )
        };
        self.is_in_time(write)?;
        match &write.via {
            Via::File => self.write_file(write).map_err(|error| failed(error.into()))?,
            Via::Runtime(id) | Via::Plugin(id) => match self.tell_runtime(id, write).await {
                Ok(()) if self.is_starting(id, write).map_err(|error| failed(error.into()))? => {
                    // Who was created while the runtime was busy may have got what this one grows onto.
                    self.is_in_time(write)?;
                    self.write_file(write).map_err(|error| failed(error.into()))?;
                }
                Ok(()) => {}
                Err(error) => {
                    if matches!(error, RuntimeError::Refused { .. }) {
                        self.lookout.runtime_refused(id);
                    }
                    return Err(failed(error.into()));
                }
            },
            Via::Unit(unit) => {
                if let Err(error) = self.tell_systemd(unit, write).await {
                    self.lookout.units_refused();
                    return Err(failed(error.into()));
                }
                self.is_in_time(write)?;
                self.write_file(write).map_err(|error| failed(error.into()))?;
            }
        }
        self.lookout.written(write);
        Ok(())
    }

    /// No failure: the next plan knows better.
    fn is_in_time(&self, write: &FileWrite) -> Result<(), Error> {
        if write.grows_at.is_some_and(|version| version != self.desk.version()) {
            return Err(Error::refused(format!("not done: {}", write.object), Withheld::Outdated));
        }
        Ok(())
    }

    fn write_file(&self, write: &FileWrite) -> Result<(), CgroupError> {
        let tree = &self.ports.tree;
        let new = if write.narrows { self.narrowed(write)? } else { write.new.clone() };
        let mut written = tree.write(&write.path, write.file, &new);
        if let (Err(error), Some(instead)) = (&written, &write.when_populated)
            && is_refused_as_populated(error)
        {
            written = tree.write(&write.path, write.file, instead);
        }
        written.map(drop)
    }

    /// What is left of a set now: an answer to the runtime may have taken more of it since this was planned. One that has
    /// been moved away keeps its place, which the next pass judges.
    fn narrowed(&self, write: &FileWrite) -> Result<String, CgroupError> {
        let text = self.ports.tree.read(&write.path, write.file)?.unwrap_or_default();
        let (Ok(now), Ok(new)) = (CpuSet::parse(&text), CpuSet::parse(&write.new)) else {
            return Ok(write.new.clone());
        };
        let left = now.intersection(&new);
        Ok(match (now.is_empty(), left.is_empty()) {
            (true, _) => write.new.clone(),
            (false, true) => text,
            (false, false) => left.to_string(),
        })
    }

    /// A runtime that is just starting a container keeps the change for later and starts it as it was told before
    /// (containerd, of a container that is created and not yet running). So it takes effect at once, instead of with some
    /// later try: until then the pass would stop here, and nobody would get what this one is to leave.
    fn is_starting(&self, id: &ContainerId, write: &FileWrite) -> Result<bool, CgroupError> {
        let starting = write.first_pin.is_some() || self.desk.is_starting(id);
        Ok(starting && self.ports.tree.read(&write.path, write.file)?.is_some_and(|now| now != write.new))
    }

    /// A container that is gone needs no change.
    async fn tell_runtime(&self, id: &ContainerId, write: &FileWrite) -> Result<(), RuntimeError> {
        const METHOD: &str = "UpdateContainerResources";
        // An empty list cannot be told to a runtime: it would be taken for "unchanged".
        let text = write.when_populated.as_ref().filter(|_| write.new.is_empty()).unwrap_or(&write.new);
        let unsayable = || {
            let detail = format!("{:?} cannot be told for {}", write.new, write.file);
            RuntimeError::Refused { method: METHOD, detail }
        };
        let change = writers::as_resources(write.file, text).ok_or_else(unsayable)?;
        if let Some(cpus) = &change.cpus {
            self.desk.announce(id, cpus);
        }
        let told = match (&write.via, self.desk.updates(), &self.ports.runtime) {
            (Via::Plugin(_), Some(updates), _) => {
                let ResourceChange { cpus, mems, .. } = change;
                self.tell_unasked(&**updates, CpusetUpdate { id: id.clone(), cpus, mems, lift_quota: false }).await
            }
            (Via::Runtime(_), _, Some(runtime)) => runtime.update(id, &change).await,
            _ => Err(unsayable()),
        };
        match told {
            Err(RuntimeError::Gone(_)) => Ok(()),
            told => told,
        }
    }

    /// Once without an answer is enough: it takes half a minute.
    async fn tell_unasked(&self, updates: &dyn UnsolicitedUpdates, update: CpusetUpdate) -> Result<(), RuntimeError> {
        if self.lookout.plugin_is_silent() {
            let detail = "it has not answered the one before".to_owned();
            return Err(RuntimeError::Away { socket: "NRI".to_owned(), method: "UpdateContainers", detail });
        }
        let told = updates.update(update).await;
        if matches!(told, Err(RuntimeError::Away { .. })) {
            self.lookout.plugin_silent();
        }
        told
    }

    /// A unit that is gone needs no property.
    async fn tell_systemd(&self, unit: &str, write: &FileWrite) -> Result<(), UnitError> {
        const METHOD: &str = "SetUnitProperties";
        let (Some(units), Some(change)) = (&self.ports.units, writers::as_properties(write.file, &write.new)) else {
            let detail = format!("{:?} cannot be told for {}", write.new, write.file);
            return Err(UnitError::Refused { method: METHOD, unit: unit.to_owned(), detail });
        };
        match units.set(unit, &change).await {
            Err(UnitError::Gone(_)) => Ok(()),
            told => told,
        }
    }

    /// Reads back that nobody has more than expected; a cgroup that is gone has nothing.
    pub(super) fn verify(&self, expected: &[Expected]) -> Result<(), Error> {
        for Expected { path, file, within, .. } in expected {
            let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
                Error::transient(format!("cannot go on after a change of {path}"), error)
            };
            let text = self.ports.tree.read(path, file).map_err(|error| failed(error.into()))?;
            let Some(text) = text else { continue };
            let Ok(now) = CpuSet::parse(&text) else {
                return Err(failed(Withheld::NoList { path: path.clone(), file, text }.into()));
            };
            let left = now.difference(within);
            if !left.is_empty() {
                return Err(failed(Withheld::StillThere { path: path.clone(), file, left }.into()));
            }
        }
        Ok(())
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "(empty)" } else { text }
}

/// An empty list while the cgroup is in use. ENOSPC: processes run in it; EBUSY, of version 1: cgroups inside it have sets.
fn is_refused_as_populated(error: &CgroupError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let number = source.and_then(io::Error::raw_os_error);
    [Errno::ENOSPC, Errno::EBUSY].iter().any(|errno| number == Some(*errno as i32))
}
