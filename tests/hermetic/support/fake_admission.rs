//! An [`Admission`] that notes what it is told and answers as a test says.

use std::sync::{Arc, Mutex};

use trimtab::ports::admission::{Admission, CpusetUpdate, Created, Lifecycle, Refused, RuntimePeer};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{Sandbox, SandboxContainer, ToldResources};
use trimtab_domain::workload::ContainerId;

type OnCreate = dyn Fn(&SandboxContainer) -> Result<Created, Refused> + Send + Sync;

/// What it was told, one line each, and how it answers.
pub(crate) struct FakeAdmission {
    told: Mutex<Vec<String>>,
    pub(crate) sandboxes: Mutex<Vec<Sandbox>>,
    pub(crate) containers: Mutex<Vec<SandboxContainer>>,
    pub(crate) asked: Mutex<Vec<ToldResources>>,
    on_create: Mutex<Box<OnCreate>>,
    /// Answer to everything else that can be answered.
    pub(crate) updates: Mutex<Vec<CpusetUpdate>>,
}

impl FakeAdmission {
    /// Gives every container CPU 1 and memory node 0.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            told: Mutex::default(),
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            asked: Mutex::default(),
            on_create: Mutex::new(Box::new(|_| Ok(gives("1", "0")))),
            updates: Mutex::default(),
        })
    }

    pub(crate) fn on_create(
        &self,
        answer: impl Fn(&SandboxContainer) -> Result<Created, Refused> + Send + Sync + 'static,
    ) {
        *self.on_create.lock().unwrap() = Box::new(answer);
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until a line was told.
    pub(crate) async fn until_told(&self, line: &str) {
        let told = async {
            while !self.told().iter().any(|told| told == line) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let ended = tokio::time::timeout(super::nri_runtime::DEADLINE, told).await;
        assert!(ended.is_ok(), "{line:?} was not told, but {:?}", self.told());
    }

    fn note(&self, line: String) {
        self.told.lock().unwrap().push(line);
    }
}

/// These sets and nothing else.
pub(crate) fn gives(cpus: &str, mems: &str) -> Created {
    let set = |list: &str| Some(CpuSet::parse(list).unwrap());
    Created { cpus: set(cpus), mems: set(mems), ..Created::default() }
}

/// A change of CPUs.
pub(crate) fn moves(id: &str, cpus: &str) -> CpusetUpdate {
    CpusetUpdate { id: ContainerId(id.into()), cpus: Some(CpuSet::parse(cpus).unwrap()), mems: None, lift_quota: false }
}

impl Admission for FakeAdmission {
    fn connected(&self, peer: &RuntimePeer) {
        self.note(format!("connected {} {} {:?}", peer.name, peer.version, peer.nri));
    }

    fn synchronize(&self, sandboxes: Vec<Sandbox>, containers: Vec<SandboxContainer>) -> Vec<CpusetUpdate> {
        self.note(format!("synchronize {} {}", sandboxes.len(), containers.len()));
        *self.sandboxes.lock().unwrap() = sandboxes;
        *self.containers.lock().unwrap() = containers;
        self.updates.lock().unwrap().clone()
    }

    fn create(&self, sandbox: &Sandbox, container: &SandboxContainer) -> Result<Created, Refused> {
        self.note(format!("create {}/{}", sandbox.name, container.name));
        (self.on_create.lock().unwrap())(container)
    }

    fn update(
        &self,
        sandbox: &Sandbox,
        container: &SandboxContainer,
        asked: &ToldResources,
    ) -> Result<Vec<CpusetUpdate>, Refused> {
        self.note(format!("update {}/{}", sandbox.name, container.name));
        self.asked.lock().unwrap().push(asked.clone());
        Ok(self.updates.lock().unwrap().clone())
    }

    fn stop(&self, sandbox: &Sandbox, container: &SandboxContainer) -> Vec<CpusetUpdate> {
        self.note(format!("stop {}/{}", sandbox.name, container.name));
        self.updates.lock().unwrap().clone()
    }

    fn event(&self, event: Lifecycle, sandbox: &Sandbox, container: Option<&SandboxContainer>) {
        let container = container.map(|container| format!("/{}", container.name)).unwrap_or_default();
        self.note(format!("{event:?} {}{container}", sandbox.name));
        self.sandboxes.lock().unwrap().push(sandbox.clone());
    }

    fn disconnected(&self) {
        self.note("disconnected".into());
    }
}
