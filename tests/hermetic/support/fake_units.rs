//! systemd in memory. What it models, and why:
//!
//! - properties of units that end up in the files of their cgroups: reading back must show them;
//! - the largest number and the empty set take a bound away, and with it the controller's files may go;
//! - an absent manager, units that it does not know, and properties that it refuses;
//! - a reload that brings back what the properties say over what somebody wrote to the files.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use trimtab::ports::units::{Answer, UnitChange, UnitError, Units};

use super::fake_host::FakeHost;

/// Property of a unit → file below the mount point.
type Files = BTreeMap<(String, &'static str), String>;

/// systemd. Clones share the same manager.
#[derive(Clone)]
pub(crate) struct FakeUnits {
    host: FakeHost,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    present: bool,
    files: Files,
    properties: BTreeMap<(String, &'static str), String>,
    calls: usize,
    refusing: bool,
}

impl FakeUnits {
    /// No manager answers yet.
    pub(crate) fn absent(host: &FakeHost) -> Self {
        Self { host: host.clone(), state: Arc::default() }
    }

    /// It answers from now on.
    pub(crate) fn appear(&self) {
        self.state.lock().unwrap().present = true;
    }

    /// It knows the unit: this property is shown by this file.
    pub(crate) fn unit(&self, unit: &str, property: &'static str, file: &str) {
        self.state.lock().unwrap().files.insert((unit.to_owned(), property), file.to_owned());
    }

    /// Every property is refused, or none any more.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.state.lock().unwrap().refusing = refusing;
    }

    /// The properties in force, as text.
    pub(crate) fn properties(&self) -> BTreeMap<(String, &'static str), String> {
        self.state.lock().unwrap().properties.clone()
    }

    /// How often a property was asked to be changed.
    pub(crate) fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    /// `systemctl daemon-reload`: the files show what the properties say.
    pub(crate) fn reload(&self) {
        let state = self.state.lock().unwrap();
        for (key, text) in &state.properties {
            self.host.file(&state.files[key], format!("{text}\n"));
        }
    }
}

impl Units for FakeUnits {
    fn answers(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { self.state.lock().unwrap().present })
    }

    fn set<'a>(&'a self, unit: &'a str, change: &'a UnitChange) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state.lock().unwrap();
            state.calls += 1;
            if state.refusing {
                let (unit, detail) = (unit.to_owned(), "no".to_owned());
                return Err(UnitError::Refused { method: "SetUnitProperties", unit, detail });
            }
            let numbers = change.numbers.iter().map(|(name, number)| (*name, *number, number.to_string()));
            let numbers =
                numbers.map(|(name, number, text)| (name, if number == u64::MAX { None } else { Some(text) }));
            let cpus = change.cpus.iter().map(|cpus| ("AllowedCPUs", Some(cpus.to_string()).filter(|t| !t.is_empty())));
            for (property, text) in numbers.chain(cpus).collect::<Vec<_>>() {
                let key = (unit.to_owned(), property);
                let Some(file) = state.files.get(&key).cloned() else {
                    return Err(UnitError::Gone(unit.to_owned()));
                };
                let unbounded = match property {
                    "CPUWeight" => "100",
                    "AllowedCPUs" => "",
                    _ => "max",
                };
                self.host.file(file, format!("{}\n", text.as_deref().unwrap_or(unbounded)));
                match text {
                    Some(text) => state.properties.insert(key, text),
                    None => state.properties.remove(&key),
                };
            }
            Ok(())
        })
    }
}
