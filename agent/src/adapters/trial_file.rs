//! Which risky changes are on trial, written down below the state directory: one JSON object per subsystem.
//!
//! Replaced whole and durably before a change is made: an agent that is killed by its own change, or cut off with the node,
//! finds it there.

#![expect(clippy::disallowed_methods, reason = "this is the adapter of these files")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::error;
use trimtab_domain::confirmation::trial::{Newest, Pending, Stage, Trials};
use trimtab_domain::spec::NodeSpec;

use crate::profile::{self, MAX_BYTES};
use crate::reconcile::confirm::{TrialBook, TrialError, Wish};

/// Longest file that is read: two profiles, whose every character may be escaped, and the names of objects.
const LONGEST: u64 = 5 * MAX_BYTES as u64;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    newest: Option<WrittenNewest>,
    /// The document; absent: nothing was held before.
    before: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenNewest {
    /// The document; absent: it asks for nothing.
    profile: Option<String>,
    stage: WrittenStage,
    objects: BTreeSet<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WrittenStage {
    Settled,
    #[serde(rename_all = "camelCase")]
    Pending {
        /// Seconds since 1970.
        since: u64,
        deadline_seconds: u64,
        reached_before: BTreeMap<String, bool>,
    },
    Refused {
        reason: String,
    },
}

/// The files.
#[derive(Debug)]
pub struct TrialFiles {
    directory: PathBuf,
}

impl TrialFiles {
    /// Those of a state directory.
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { directory: state_dir.to_owned() }
    }

    fn path(&self, subsystem: &str) -> PathBuf {
        self.directory.join(format!("trial-{subsystem}.json"))
    }
}

impl TrialBook for TrialFiles {
    fn read(&self, subsystem: &str) -> Trials<Wish> {
        let path = self.path(subsystem);
        match read(&path) {
            Ok(trials) => trials,
            Err(why) => {
                error!(path = %path.display(), why, "what was on trial before the restart is not known");
                Trials::default()
            }
        }
    }

    fn write(&self, subsystem: &str, trials: &Trials<Wish>) -> Result<(), TrialError> {
        let text = serde_json::to_vec(&as_written(trials)).map_err(|error| TrialError(error.into()))?;
        store(&self.path(subsystem), &text).map_err(|error| TrialError(error.into()))
    }
}

fn read(path: &Path) -> Result<Trials<Wish>, String> {
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Trials::default()),
        Err(error) => return Err(error.to_string()),
    };
    if length > LONGEST {
        return Err(format!("it has {length} bytes, at most {LONGEST} are read"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let written: Written = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let name = path.display().to_string();
    // What this release cannot read any more counts as nothing: the node's own values then come back.
    let before = written.before.and_then(|text| wish(&name, Some(text)).ok());
    let newest = match written.newest {
        None => None,
        Some(newest) => Some(Newest {
            wish: wish(&name, newest.profile)?,
            stage: match newest.stage {
                WrittenStage::Settled => Stage::Settled,
                WrittenStage::Pending { since, deadline_seconds: deadline, reached_before } => {
                    Stage::Pending(Pending { since, deadline, reached_before })
                }
                WrittenStage::Refused { reason } => Stage::Refused { reason },
            },
            objects: newest.objects,
        }),
    };
    Ok(Trials { newest, before })
}

fn wish(name: &str, text: Option<String>) -> Result<Wish, String> {
    let Some(text) = text else { return Ok(Wish { spec: Arc::new(NodeSpec::default()), text: None }) };
    let profile = profile::parse(name, text.as_bytes()).map_err(|rejected| rejected.to_string())?;
    Ok(Wish { spec: Arc::new(profile.spec), text: Some(text.into()) })
}

fn as_written(trials: &Trials<Wish>) -> Written {
    let text = |wish: &Wish| wish.text.as_deref().map(str::to_owned);
    Written {
        newest: trials.newest.as_ref().map(|newest| WrittenNewest {
            profile: text(&newest.wish),
            stage: match &newest.stage {
                Stage::Settled => WrittenStage::Settled,
                Stage::Pending(pending) => WrittenStage::Pending {
                    since: pending.since,
                    deadline_seconds: pending.deadline,
                    reached_before: pending.reached_before.clone(),
                },
                Stage::Refused { reason } => WrittenStage::Refused { reason: reason.clone() },
            },
            objects: newest.objects.clone(),
        }),
        before: trials.before.as_ref().and_then(text),
    }
}

fn store(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::Builder::new().prefix(".trial-").tempfile_in(directory)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, value: &str) -> Wish {
        let text = format!(
            "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: {name}}}\nspec: {{sysctls: {{values: \
             {{net.a: \"{value}\"}}}}}}\n"
        );
        wish("p", Some(text)).unwrap()
    }

    fn on_trial() -> Trials<Wish> {
        let mut trials = Trials::default();
        trials.take(&held("a", "1"), 0);
        trials.take(&held("b", "2"), 5);
        let reached_before = [("tcp 10.0.0.1:443".to_owned(), true)].into();
        trials.begin(&["net.a".to_owned()], Pending { since: 5, deadline: 60, reached_before });
        trials
    }

    #[test]
    fn what_is_on_trial_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let book = TrialFiles::of(&dir.path().join("not-made-yet"));
        assert_eq!(book.read("sysctl"), Trials::default());
        let mut trials = on_trial();
        let changes: [fn(&mut Trials<Wish>); 3] =
            [|_| {}, Trials::confirm, |trials| trials.take_back("cut \"off\"".into())];
        for change in changes {
            change(&mut trials);
            book.write("sysctl", &trials).unwrap();
            let read = book.read("sysctl");
            assert_eq!(read, trials);
            assert_eq!(read.before.unwrap().spec.name, "a");
        }
        assert_eq!(book.read("kernel"), Trials::default(), "each subsystem has its own");
    }

    #[test]
    fn a_file_that_cannot_be_used_counts_as_nothing_known() {
        let dir = tempfile::tempdir().unwrap();
        let book = TrialFiles::of(dir.path());
        for text in
            ["", "{", "[]", "{\"newest\": {\"profile\": \"no profile\", \"stage\": \"settled\", \"objects\": []}}"]
        {
            fs::write(book.path("sysctl"), text).unwrap();
            assert_eq!(book.read("sysctl"), Trials::default(), "{text:?}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(TrialFiles::of(&dir.path().join("file")).write("sysctl", &on_trial()).is_err());
    }
}
