//! Kubelet and container runtime of a node, as units that are stopped and started. What it models, and why:
//!
//! - both read their driver from their files when they start: a migration is about nothing else;
//! - a kubelet that starts makes the sandboxes of DaemonSets and tells the API server that its node is ready, unless its
//!   driver is one that it is sick with; one whose driver is not the runtime's never gets ready;
//! - a runtime that does not run answers nothing, and its sandboxes outlive it;
//! - every change, in order, and one after or before which the caller dies: it is never answered;
//! - timers that start a unit by themselves, which outlive the agent;
//! - the runtime is containerd, or a CRI-O that reads every file of its directory, whatever its name, and does not start with
//!   one that is no TOML, nor with cgroupfs and another place for conmon than the pod.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use trimtab::ports::runtime::{
    Answer as RuntimeAnswer, ContainerRuntime, ResourceChange, RuntimeAbout, RuntimeError, RuntimeListing, Sandboxes,
    Terminating,
};
use trimtab::ports::services::{Activity, Answer, ServiceState, Services, UnitError};
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::roster::{Sandbox, SandboxId};
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::{ContainerId, Labels, PodUid};

use super::api_server::ApiServer;
use super::fake_host::FakeHost;

pub(crate) const KUBELET: &str = "kubelet.service";
pub(crate) const RUNTIME: &str = "containerd.service";
pub(crate) const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
pub(crate) const RUNTIME_CONFIG: &str = "/etc/containerd/config.toml";
pub(crate) const CRIO: &str = "crio.service";
pub(crate) const CRIO_CONFIG: &str = "/etc/crio/crio.conf";
pub(crate) const CRIO_DIRECTORY: &str = "/etc/crio/crio.conf.d";

/// When in a change the caller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Before,
    After,
}

/// The node. Clones share it.
#[derive(Clone)]
pub(crate) struct FakeServices {
    pub(crate) host: FakeHost,
    node: String,
    server: ApiServer,
    runtime: &'static str,
    state: Arc<Mutex<State>>,
}

struct State {
    active: BTreeMap<&'static str, u64>,
    known: BTreeSet<&'static str>,
    running: CgroupDriver,
    kubelet: CgroupDriver,
    sandboxes: Vec<Sandbox>,
    timers: BTreeMap<String, Duration>,
    log: Vec<String>,
    clock: u64,
    dies: Option<(usize, Death)>,
    died: bool,
    sick_with: Option<CgroupDriver>,
    never_starts_with: Option<CgroupDriver>,
    refusing: BTreeSet<&'static str>,
}

impl FakeServices {
    /// A node with cgroupfs everywhere, the pod of a DaemonSet and the agent's own.
    pub(crate) fn new(node: &str, server: &ApiServer) -> Self {
        let host = FakeHost::new();
        host.file(RUNTIME_CONFIG, "version = 2\n# by hand\n");
        Self::of(node, server, host, RUNTIME)
    }

    /// The same, with CRI-O.
    pub(crate) fn with_crio(node: &str, server: &ApiServer) -> Self {
        let host = FakeHost::new();
        host.file(CRIO_CONFIG, "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\" # by hand\n");
        host.file(format!("{CRIO_DIRECTORY}/10-crun.conf"), "[crio.runtime]\ndefault_runtime = \"crun\"\n");
        Self::of(node, server, host, CRIO)
    }

    fn of(node: &str, server: &ApiServer, host: FakeHost, runtime: &'static str) -> Self {
        host.file(KUBELET_CONFIG, "kind: KubeletConfiguration\ncgroupDriver: cgroupfs # by hand\nmaxPods: 7\n");
        let cgroupfs = CgroupDriver::Cgroupfs;
        let state = State {
            active: [(KUBELET, 1_000), (runtime, 1_000)].into(),
            known: [KUBELET, runtime].into(),
            running: cgroupfs,
            kubelet: cgroupfs,
            sandboxes: vec![sandbox("daemon", "/kubepods/podd"), sandbox("agent", "/kubepods/poda")],
            timers: BTreeMap::new(),
            log: Vec::new(),
            clock: 1_000,
            dies: None,
            died: false,
            sick_with: None,
            never_starts_with: None,
            refusing: BTreeSet::new(),
        };
        let (node, server, state) = (node.to_owned(), server.clone(), Arc::new(Mutex::new(state)));
        let services = Self { host, node, server, runtime, state };
        services.tell(true, 1_000);
        services
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Every change so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// The caller dies at the change of this number, from 0.
    pub(crate) fn die_at(&self, number: usize, death: Death) {
        self.state().dies = Some((number, death));
    }

    /// True once it has; the next caller lives.
    pub(crate) fn has_died(&self) -> bool {
        self.state().died
    }

    pub(crate) fn live(&self) {
        let mut state = self.state();
        (state.dies, state.died) = (None, false);
    }

    /// The node is never ready with this driver.
    pub(crate) fn sick_with(&self, driver: CgroupDriver) {
        self.state().sick_with = Some(driver);
    }

    /// The kubelet does not start with this driver.
    pub(crate) fn never_starts_with(&self, driver: CgroupDriver) {
        self.state().never_starts_with = Some(driver);
    }

    /// Calls of this name fail: `stop`, `start`, `end`, `timer`.
    pub(crate) fn refuse(&self, call: &'static str) {
        self.state().refusing.insert(call);
    }

    /// The runtime's unit has another name.
    pub(crate) fn forget_unit(&self, unit: &'static str) {
        self.state().known.remove(unit);
    }

    /// A sandbox has another name.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        self.state().sandboxes.iter_mut().filter(|one| one.name == from).for_each(|one| one.name = to.to_owned());
    }

    /// Both are restarted by somebody, and read their files.
    pub(crate) fn restart(&self) {
        self.state().active.clear();
        [self.runtime, KUBELET].into_iter().for_each(|unit| self.start_unit(unit));
    }

    /// Drivers of running kubelet and runtime; `None`: it does not run.
    pub(crate) fn running(&self) -> (Option<CgroupDriver>, Option<CgroupDriver>) {
        let state = self.state();
        let of = |unit, driver| state.active.contains_key(unit).then_some(driver);
        (of(KUBELET, state.kubelet), of(self.runtime, state.running))
    }

    pub(crate) fn timers(&self) -> Vec<String> {
        self.state().timers.keys().cloned().collect()
    }

    /// What systemd does once the time of all timers has come.
    pub(crate) fn strike_timers(&self) {
        let timers: Vec<String> = std::mem::take(&mut self.state().timers).into_keys().collect();
        for unit in [self.runtime, KUBELET].into_iter().filter(|unit| timers.iter().any(|timer| timer == unit)) {
            self.start_unit(unit);
        }
    }

    pub(crate) fn sandboxes(&self) -> Vec<String> {
        self.state().sandboxes.iter().map(|one| one.name.clone()).collect()
    }

    fn file_driver(&self, path: &str) -> CgroupDriver {
        let text = self.host.text(path).unwrap_or_default();
        let is_systemd = text.contains("cgroupDriver: systemd") || text.contains("SystemdCgroup = true");
        if is_systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }
    }

    /// What a runtime that starts now uses; `None`: it does not start.
    fn runtime_driver(&self) -> Option<CgroupDriver> {
        if self.runtime == RUNTIME {
            return Some(self.file_driver(RUNTIME_CONFIG));
        }
        let (mut manager, mut conmon) = ("systemd".to_owned(), "system.slice".to_owned());
        let files = self.host.snapshot();
        let drop_ins = files.iter().filter(|(path, _)| path.starts_with(CRIO_DIRECTORY));
        for text in files.get(Path::new(CRIO_CONFIG)).into_iter().chain(drop_ins.map(|(_, text)| text)) {
            let file: toml_edit::DocumentMut = text.parse().ok()?;
            let said = |key: &str| Some(file.get("crio")?.get("runtime")?.get(key)?.as_str()?.to_owned());
            manager = said("cgroup_manager").unwrap_or(manager);
            conmon = said("conmon_cgroup").unwrap_or(conmon);
        }
        match manager.as_str() {
            "systemd" if conmon == "pod" || conmon.ends_with(".slice") => Some(CgroupDriver::Systemd),
            "cgroupfs" if conmon == "pod" => Some(CgroupDriver::Cgroupfs),
            _ => None,
        }
    }

    fn start_unit(&self, unit: &str) {
        let (of_runtime, of_kubelet) = (self.runtime_driver(), self.file_driver(KUBELET_CONFIG));
        let mut state = self.state();
        let Some(unit) = state.known.get(unit).copied() else { return };
        if state.active.contains_key(unit) {
            return;
        }
        state.clock += 100;
        let now = state.clock;
        if unit == self.runtime {
            let Some(driver) = of_runtime else { return };
            state.running = driver;
        } else if state.never_starts_with == Some(of_kubelet) || !state.active.contains_key(self.runtime) {
            return;
        } else {
            state.kubelet = of_kubelet;
            if !state.sandboxes.iter().any(|one| one.name == "daemon") {
                state.sandboxes.push(sandbox("daemon", "new"));
            }
        }
        state.active.insert(unit, now);
        let well = state.kubelet == state.running && state.sick_with != Some(state.kubelet);
        drop(state);
        if unit == KUBELET {
            self.tell(well, now);
        }
    }

    /// What the kubelet tells of its node.
    fn tell(&self, ready: bool, now: u64) {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(now);
        let path = format!("/api/v1/nodes/{}", self.node);
        if self.server.object(&path).is_none() {
            self.server.put(&path, json!({"metadata": {}}));
        }
        self.server.edit(&path, |node| {
            let others = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let mut all: Vec<_> = others.into_iter().filter(|one| one["type"] != "Ready").collect();
            all.push(json!({
                "type": "Ready", "status": if ready { "True" } else { "False" },
                "lastHeartbeatTime": humantime::format_rfc3339_seconds(time).to_string(),
            }));
            node["status"]["conditions"] = all.into();
        });
    }

    /// A change: logged, refused, or the death of the caller.
    async fn change(&self, call: &'static str, about: &str, effect: impl FnOnce() + Send) -> Result<(), String> {
        let death = {
            let mut state = self.state();
            if state.refusing.contains(call) {
                return Err(format!("{call} of {about} is refused by the test"));
            }
            let number = state.log.len();
            let death = state.dies.filter(|(at, _)| *at == number).map(|(_, death)| death);
            state.died |= death.is_some();
            if death != Some(Death::Before) {
                state.log.push(format!("{call} {about}"));
            }
            death
        };
        if death != Some(Death::Before) {
            effect();
        }
        if death.is_some() {
            pending::<()>().await;
        }
        Ok(())
    }

    async fn unit_change(&self, call: &'static str, unit: &str, effect: impl FnOnce() + Send) -> Result<(), UnitError> {
        let changed = self.change(call, unit, effect).await;
        changed.map_err(|detail| UnitError::Refused { method: "Test", unit: unit.to_owned(), detail })
    }

    fn away<T>(&self, value: impl FnOnce(&State) -> T) -> Result<T, RuntimeError> {
        let state = self.state();
        if state.active.contains_key(self.runtime) {
            return Ok(value(&state));
        }
        Err(RuntimeError::Away { socket: "test".into(), method: "Test", detail: "it does not run".into() })
    }
}

fn sandbox(name: &str, cgroup_parent: &str) -> Sandbox {
    Sandbox {
        id: SandboxId(format!("s-{name}")),
        uid: PodUid(format!("u-{name}")),
        namespace: "trimtab-system".into(),
        name: name.into(),
        labels: Labels::default(),
        annotations: Labels::default(),
        runtime_handler: String::new(),
        cgroup_parent: cgroup_parent.into(),
        ready: true,
        created_at_ns: 1,
        pod_resources: None,
    }
}

impl Services for FakeServices {
    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, ServiceState> {
        Box::pin(async move {
            let state = self.state();
            let since = state.active.get(unit).copied();
            let activity = match since {
                _ if !state.known.contains(unit) => Activity::Absent,
                Some(_) => Activity::Active,
                None => Activity::Inactive,
            };
            Ok(ServiceState { activity, active_since_us: since.unwrap_or(0) * 1_000_000 })
        })
    }

    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.unit_change("start", unit, move || self.start_unit(unit)))
    }

    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.unit_change("stop", unit, move || {
            self.state().active.remove(unit);
        }))
    }

    fn start_later<'a>(&'a self, unit: &'a str, after: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut state = self.state();
            if state.refusing.contains("timer") {
                let (unit, detail) = (unit.to_owned(), "no timers in this test".to_owned());
                return Err(UnitError::Refused { method: "StartTransientUnit", unit, detail });
            }
            state.timers.insert(unit.to_owned(), after);
            Ok(())
        })
    }

    fn forget_start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.state().timers.remove(unit);
            Ok(())
        })
    }
}

impl Sandboxes for FakeServices {
    fn ready(&self) -> RuntimeAnswer<'_, Vec<Sandbox>> {
        Box::pin(async { self.away(|state| state.sandboxes.clone()) })
    }

    fn end<'a>(&'a self, id: &'a SandboxId, _: Duration) -> RuntimeAnswer<'a, ()> {
        Box::pin(async move {
            self.away(|_| ())?;
            let ended = self.change("end", &id.0, || self.state().sandboxes.retain(|one| one.id != *id)).await;
            ended.map_err(|detail| RuntimeError::Refused { method: "StopPodSandbox", detail })
        })
    }
}

impl ContainerRuntime for FakeServices {
    fn about(&self) -> RuntimeAnswer<'_, RuntimeAbout> {
        Box::pin(async { Err(RuntimeError::Gone("not asked".into())) })
    }

    fn list(&self) -> RuntimeAnswer<'_, RuntimeListing> {
        Box::pin(async {
            self.away(|state| RuntimeListing { sandboxes: state.sandboxes.clone(), ..RuntimeListing::default() })
        })
    }

    fn forget(&self, _: &[ContainerId]) {}

    fn update<'a>(&'a self, id: &'a ContainerId, _: &'a ResourceChange) -> RuntimeAnswer<'a, ()> {
        Box::pin(async move { Err(RuntimeError::Gone(id.0.clone())) })
    }

    fn cgroup_drivers(&self) -> RuntimeAnswer<'_, Vec<Configured>> {
        Box::pin(async {
            self.away(|state| {
                let component = match self.runtime {
                    RUNTIME => Component::Containerd { handler: "runc".into(), default: true },
                    _ => Component::CriO,
                };
                vec![Configured { component, driver: state.running, source: "test".into() }]
            })
        })
    }

    fn terminating(&self) -> RuntimeAnswer<'_, Terminating> {
        Box::pin(async { Ok(Terminating::default()) })
    }
}
