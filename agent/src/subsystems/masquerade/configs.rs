//! The wish for masquerading, completed by the configuration files of the agent that is stood in for.
//!
//! A bad file never takes effect: what was good last stays in force, over a restart too. Where nothing good was ever
//! known, nothing is wished for and nothing given back, and the agent is not ready.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use trimtab_domain::masquerade::Step;
use trimtab_domain::plan::{Cause, Finding, Plan, Refusal, Stage};
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::ConfigSource;

use crate::ports::FileError;
use crate::ports::masq_config::MasqConfig;
use crate::profile::ip_masq_agent::{self, Reading};

/// The files, and the last good reading of them.
pub(super) struct Configs {
    files: Arc<dyn MasqConfig>,
    last_good: Mutex<LastGood>,
}

#[derive(Default)]
struct LastGood {
    /// What is in force.
    reading: Option<Reading>,
    /// What a restart would find; the outer `None`: not looked yet.
    kept: Option<Option<Reading>>,
}

/// What is wished for.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// `None`: no masquerading, or, with [`Self::refusal`], nothing is known.
    pub(super) spec: Option<IpMasqSpec>,
    findings: Vec<Finding>,
    /// Why the files are not in force.
    refusal: Option<Refusal>,
    /// The files are in force, and a restart would not find them.
    keep: Option<String>,
    /// Where the files are; `None`: there are none.
    pub(super) place: Option<PathBuf>,
}

impl Configs {
    pub(super) fn new(files: Arc<dyn MasqConfig>) -> Self {
        Self { files, last_good: Mutex::default() }
    }

    /// The wish of the profile with what its files say.
    pub(super) fn complete(&self, desired: Option<&IpMasqSpec>) -> Wish {
        let Some(spec) = desired else { return Wish::default() };
        let Some(source) = &spec.config else { return Wish { spec: Some(spec.clone()), ..Wish::default() } };
        let reading = self.files.read(source);
        let place = self.files.place(source);
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = last_good.kept.get_or_insert_with(|| self.files.last_good()).clone();
        match ip_masq_agent::resolve(spec, &reading) {
            Ok((spec, findings)) => {
                let keep = (kept.as_ref() != Some(&reading)).then(|| place.display().to_string());
                last_good.reading = Some(reading);
                Wish { spec: Some(spec), findings, refusal: None, keep, place: Some(place) }
            }
            Err(error) => {
                let before = last_good.reading.clone().or(kept).filter(|before| is_of(source, before));
                let before = before.and_then(|before| ip_masq_agent::resolve(spec, &before).ok());
                let refusal = Some(refuse(&place, &error.to_string(), before.is_some()));
                let (spec, findings) = before.map_or((None, Vec::new()), |(spec, findings)| (Some(spec), findings));
                Wish { spec, findings, refusal, keep: None, place: Some(place) }
            }
        }
    }

    /// Keeps what is in force for a restart.
    pub(super) fn keep(&self) -> Result<(), FileError> {
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = last_good.reading.clone() {
            self.files.keep(&reading)?;
            last_good.kept = Some(Some(reading));
        }
        Ok(())
    }
}

impl Wish {
    /// False if what is wished for cannot be told.
    pub(super) const fn is_known(&self) -> bool {
        self.spec.is_some() || self.refusal.is_none()
    }

    pub(super) fn unready(&self) -> Option<String> {
        self.refusal
            .as_ref()
            .filter(|_| !self.is_known())
            .map(|refusal| format!("{}: {}", refusal.object, refusal.detail))
    }

    /// Adds what the files gave rise to.
    pub(super) fn add_to(&self, plan: &mut Plan<Step>) {
        plan.findings.splice(0..0, self.findings.iter().cloned());
        plan.refusals.splice(0..0, self.refusal.iter().cloned());
        let keep = self.keep.iter().map(|path| Step::KeepConfig { path: path.clone() });
        match plan.stages.last_mut() {
            Some(stage) => keep.for_each(|step| stage.push(step)),
            None => plan.push_stage(keep.collect::<Stage<_>>()),
        }
    }
}

/// The files of one agent say nothing about the other's.
const fn is_of(source: &ConfigSource, reading: &Reading) -> bool {
    matches!(
        (source, reading),
        (ConfigSource::File(_), Reading::File { .. }) | (ConfigSource::Directory(_), Reading::Directory(_))
    )
}

fn refuse(place: &Path, error: &str, has_last_good: bool) -> Refusal {
    let stays = if has_last_good {
        "the last good configuration stays in force and is kept up"
    } else {
        "no good configuration is known, and the node is left as it is until there is one"
    };
    Refusal {
        object: place.display().to_string(),
        wish: "the masquerade configuration of these files".to_owned(),
        cause: Cause::InvalidValue,
        detail: format!("{error}; {stays}"),
    }
}
