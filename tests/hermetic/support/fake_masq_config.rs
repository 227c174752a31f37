//! The masquerade agents' files in memory. What it models, and why:
//!
//! - what lies there is whatever the test says, readable or not;
//! - the kept copy outlives the subsystem, as the state directory does; keeping may fail, as on a full disk.

use std::io;
use std::sync::{Arc, Mutex};

use trimtab::ports::FileError;
use trimtab::ports::masq_config::MasqConfig;
use trimtab::profile::ip_masq_agent::{Entry, Reading};
use trimtab_domain::spec::ip_masq::ConfigSource;

/// Files in memory; clones share them.
#[derive(Clone)]
pub(crate) struct FakeMasqConfig(Arc<Mutex<State>>);

struct State {
    file: Result<Option<Vec<u8>>, String>,
    entries: Result<Vec<Entry>, String>,
    kept: Option<Reading>,
    full: bool,
}

impl FakeMasqConfig {
    pub(crate) fn new() -> Self {
        let state = State { file: Ok(None), entries: Ok(Vec::new()), kept: None, full: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The one file.
    pub(crate) fn file(&self, text: Option<&str>) {
        self.0.lock().unwrap().file = Ok(text.map(|text| text.as_bytes().to_vec()));
    }

    /// The one file cannot be read.
    pub(crate) fn unreadable(&self, why: &str) {
        self.0.lock().unwrap().file = Err(why.to_owned());
    }

    /// The files of the directory.
    pub(crate) fn directory(&self, files: &[(&str, &str)]) {
        let entry = |(name, text): &(&str, &str)| Entry { name: (*name).into(), content: Ok(text.as_bytes().to_vec()) };
        self.0.lock().unwrap().entries = Ok(files.iter().map(entry).collect());
    }

    /// The directory cannot be listed.
    pub(crate) fn no_directory(&self, why: &str) {
        self.0.lock().unwrap().entries = Err(why.to_owned());
    }

    /// The state directory is full.
    pub(crate) fn full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// What a restart would find.
    pub(crate) fn kept(&self) -> Option<Reading> {
        self.0.lock().unwrap().kept.clone()
    }
}

impl MasqConfig for FakeMasqConfig {
    fn read(&self, source: &ConfigSource) -> Reading {
        let state = self.0.lock().unwrap();
        match source {
            ConfigSource::File(_) => Reading::File { content: state.file.clone(), beside: Vec::new() },
            ConfigSource::Directory(_) => Reading::Directory(state.entries.clone()),
        }
    }

    fn last_good(&self) -> Option<Reading> {
        self.kept()
    }

    fn keep(&self, reading: &Reading) -> Result<(), FileError> {
        let mut state = self.0.lock().unwrap();
        if state.full {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(FileError { op: "keep", path: "/state/ip-masq.last-good".into(), value: None, source });
        }
        state.kept = Some(reading.clone());
        Ok(())
    }
}
