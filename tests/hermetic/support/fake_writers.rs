//! Those who write cgroups besides the agent. What they model, and why:
//!
//! - a runtime keeps what it was told and writes all of it again with every later change (containerd and runc, measured
//!   with 1.6, 1.7 and 2.1): what was written past it is lost then;
//! - a runtime that is away, that refuses, or that says yes and does nothing;
//! - systemd keeps properties, writes them again at `daemon-reload`, and resets what was written past it to them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use trimtab::ports::admission::{CpusetUpdate, UnsolicitedUpdates};
use trimtab::ports::runtime::{
    Answer, ContainerRuntime, ResourceChange, RuntimeAbout, RuntimeError, RuntimeListing, Terminating,
};
use trimtab::ports::units::{self, UnitChange, UnitError, Units};
use trimtab_domain::cgroup::{Configured, parse_leaf};
use trimtab_domain::roster::{ContainerState, SandboxContainer, SandboxId, ToldResources};
use trimtab_domain::workload::{ContainerId, Labels};

use super::fake_cgroups::FakeCgroups;

/// How somebody behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    /// Does what it is told.
    #[default]
    Obliging,
    /// Nobody there.
    Away,
    /// Answers with an error.
    Refusing,
    /// Says yes and does nothing.
    Idle,
}

/// A container runtime. Clones share the same one.
#[derive(Clone)]
pub(crate) struct FakeRuntime {
    node: FakeCgroups,
    state: Arc<Mutex<RuntimeState>>,
}

#[derive(Default)]
struct RuntimeState {
    mood: Mood,
    created: BTreeMap<ContainerId, i64>,
    /// Files by container, as they were told.
    told: BTreeMap<ContainerId, BTreeMap<&'static str, String>>,
    calls: Vec<(ContainerId, ResourceChange)>,
}

impl FakeRuntime {
    pub(crate) fn new(node: &FakeCgroups) -> Self {
        Self { node: node.clone(), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, RuntimeState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// It knows a container from now on, by the path of its cgroup.
    pub(crate) fn knows(&self, path: &str, created_at_ns: i64) {
        self.state().created.insert(id_of(path), created_at_ns);
    }

    /// The calls since the last look.
    pub(crate) fn take_calls(&self) -> Vec<(ContainerId, ResourceChange)> {
        std::mem::take(&mut self.state().calls)
    }

    /// Somebody changes something else of a container: everything that was told is written again.
    pub(crate) fn write_again(&self, path: &str) {
        let told = self.state().told.get(&id_of(path)).cloned().unwrap_or_default();
        for (file, text) in told {
            self.node.drift(path, file, &text);
        }
    }

    fn change(&self, id: &ContainerId, change: &ResourceChange) -> Result<(), RuntimeError> {
        let mut state = self.state();
        let method = "UpdateContainerResources";
        match state.mood {
            Mood::Away => return Err(away(method)),
            Mood::Refusing => return Err(RuntimeError::Refused { method, detail: "not today".into() }),
            Mood::Obliging | Mood::Idle => {}
        }
        if !state.created.contains_key(id) {
            return Err(RuntimeError::Gone(id.0.clone()));
        }
        state.calls.push((id.clone(), change.clone()));
        if state.mood == Mood::Idle {
            return Ok(());
        }
        let path = self.node.path_of(&id.0).ok_or_else(|| RuntimeError::Gone(id.0.clone()))?;
        let told = state.told.entry(id.clone()).or_default();
        told.extend(change.cpus.iter().map(|cpus| ("cpuset.cpus", cpus.to_string())));
        told.extend(change.mems.iter().map(|mems| ("cpuset.mems", mems.to_string())));
        if let Some(quota) = change.cpu_quota_us {
            let (file, text) = self.node.quota_text(u64::try_from(quota).ok());
            told.insert(file, text);
        }
        let told = told.clone();
        drop(state);
        told.into_iter().for_each(|(file, text)| self.node.drift(&path, file, &text));
        Ok(())
    }
}

fn away(method: &'static str) -> RuntimeError {
    RuntimeError::Away { socket: "/run/fake.sock".into(), method, detail: "nobody there".into() }
}

fn id_of(path: &str) -> ContainerId {
    parse_leaf(path.rsplit('/').next().unwrap()).unwrap().id
}

impl fmt::Debug for FakeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeRuntime")
    }
}

/// Over NRI it does what it does over CRI.
impl UnsolicitedUpdates for FakeRuntime {
    fn update(&self, update: CpusetUpdate) -> Answer<'_, ()> {
        let CpusetUpdate { id, cpus, mems, .. } = update;
        Box::pin(async move { self.change(&id, &ResourceChange { cpus, mems, ..ResourceChange::default() }) })
    }
}

impl ContainerRuntime for FakeRuntime {
    fn about(&self) -> Answer<'_, RuntimeAbout> {
        Box::pin(async { Err(away("Version")) })
    }

    fn list(&self) -> Answer<'_, RuntimeListing> {
        Box::pin(async {
            let state = self.state();
            if state.mood == Mood::Away {
                return Err(away("ListContainers"));
            }
            let told = |id: &ContainerId, file| state.told.get(id)?.get(file).cloned();
            let container = |(id, created_at_ns): (&ContainerId, &i64)| SandboxContainer {
                id: id.clone(),
                sandbox: SandboxId(String::new()),
                name: String::new(),
                state: ContainerState::Running,
                created_at_ns: *created_at_ns,
                pid: None,
                cgroups_path: String::new(),
                labels: Labels::default(),
                annotations: Labels::default(),
                resources: Some(ToldResources {
                    cpus: told(id, "cpuset.cpus").unwrap_or_default(),
                    mems: told(id, "cpuset.mems").unwrap_or_default(),
                    ..ToldResources::default()
                }),
            };
            let containers = state.created.iter().map(container).collect();
            Ok(RuntimeListing { containers, ..RuntimeListing::default() })
        })
    }

    fn update<'a>(&'a self, id: &'a ContainerId, change: &'a ResourceChange) -> Answer<'a, ()> {
        Box::pin(async move { self.change(id, change) })
    }

    fn forget(&self, _ids: &[ContainerId]) {}

    fn cgroup_drivers(&self) -> Answer<'_, Vec<Configured>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn terminating(&self) -> Answer<'_, Terminating> {
        Box::pin(async { Ok(Terminating::default()) })
    }
}

/// systemd. Clones share the same one.
#[derive(Clone)]
pub(crate) struct FakeSystemd {
    node: FakeCgroups,
    state: Arc<Mutex<SystemdState>>,
}

#[derive(Default)]
struct SystemdState {
    mood: Mood,
    /// Files by unit.
    properties: BTreeMap<String, BTreeMap<&'static str, String>>,
}

impl FakeSystemd {
    pub(crate) fn new(node: &FakeCgroups) -> Self {
        Self { node: node.clone(), state: Arc::default() }
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// A property as the text of the file that it is written to.
    pub(crate) fn property(&self, unit: &str, file: &str) -> Option<String> {
        self.state.lock().unwrap().properties.get(unit)?.get(file).cloned()
    }

    /// A property that somebody else has set, the runtime for instance.
    pub(crate) fn has_property(&self, unit: &str, file: &'static str, text: &str) {
        let mut state = self.state.lock().unwrap();
        state.properties.entry(unit.to_owned()).or_default().insert(file, text.to_owned());
    }

    /// Writes every property again.
    pub(crate) fn daemon_reload(&self) {
        let properties = self.state.lock().unwrap().properties.clone();
        for (unit, files) in properties {
            let Some(path) = self.node.path_of(&unit) else { continue };
            // No restriction of its own: the kernel refuses the empty list, and systemd goes on.
            let files = files.into_iter().filter(|(_, text)| !text.is_empty());
            files.for_each(|(file, text)| self.node.drift(&path, file, &text));
        }
    }
}

impl Units for FakeSystemd {
    fn answers(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async { self.state.lock().unwrap().mood != Mood::Away })
    }

    fn set<'a>(&'a self, unit: &'a str, change: &'a UnitChange) -> units::Answer<'a, ()> {
        Box::pin(async move {
            let method = "SetUnitProperties";
            match self.state.lock().unwrap().mood {
                Mood::Away => return Err(UnitError::Away { method, detail: "nobody there".into() }),
                Mood::Refusing => {
                    return Err(UnitError::Refused { method, unit: unit.into(), detail: "not today".into() });
                }
                Mood::Obliging | Mood::Idle => {}
            }
            if self.node.path_of(unit).is_none() {
                return Err(UnitError::Gone(unit.into()));
            }
            for (file, set) in [("cpuset.cpus", &change.cpus), ("cpuset.mems", &change.mems)] {
                if let Some(set) = set {
                    self.has_property(unit, file, &set.to_string());
                }
            }
            if let Some(quota) = change.quota {
                let (file, text) = self.node.quota_text(quota.quota_us);
                self.has_property(unit, file, &text);
            }
            Ok(())
        })
    }
}
