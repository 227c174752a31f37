//! The container runtime over its CRI socket (`runtime.v1`), as containerd, CRI-O and cri-dockerd serve it.
//!
//! A call has a deadline, and a runtime that let one pass is not asked again for a while, so that a runtime that hangs
//! holds nobody up. `GetContainerEvents` is never used: with containerd 1.7 and CRI-O a second subscriber takes events
//! away from the kubelet, and one that stops reading stalls containerd 2.x.

mod convert;
mod details;
mod ending;
mod info;
mod line;
mod socket;
mod stopping;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::Code;
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::roster::{ContainerState as ContainerLife, SandboxId};
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::ContainerId;
use trimtab_proto::runtime::v1::{
    CgroupDriver as ToldDriver, ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest,
    ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStateValue, RuntimeConfigRequest,
    StatusRequest, UpdateContainerResourcesRequest, VersionRequest,
};

use self::details::Details;
use self::info::RuntimeInfo;
use self::line::{CallError, Line};
pub use self::socket::SocketSearch;
use self::stopping::Stopping;
use crate::ports::admission::Terminations;
use crate::ports::kubelet::RuntimeSource;
use crate::ports::runtime::{
    Answer, ContainerRuntime, ResourceChange, RuntimeAbout, RuntimeError, RuntimeListing, Terminating,
};

/// How long the runtime is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection; a socket of the host answers at once or not at all.
    pub connect: Duration,
    /// For an answer that only needs the runtime's memory.
    pub ask: Duration,
    /// For a change: it goes through every NRI plugin (2 s each by default) and through runc.
    pub change: Duration,
    /// How long a runtime that let one of these pass is not asked again.
    pub quiet: Duration,
    /// For all verbose answers that one list needs; what is left is asked by the next list.
    pub details: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(1), ask: seconds(2), change: seconds(5), quiet: seconds(5), details: seconds(1) }
    }
}

/// The runtime behind a socket of the host.
pub struct CriRuntime {
    line: Line,
    /// What is kept of sandboxes and containers between calls.
    details: Mutex<Details>,
    stopping: Mutex<Stopping>,
    configuration: Option<Arc<dyn RuntimeSource>>,
    /// What the files said of handlers when the connection was made.
    configured: Mutex<HandlerTypes>,
}

impl CriRuntime {
    /// A runtime that is looked for when it is first asked, and again whenever its connection is lost. Each instance is
    /// for one thread: the connection lives in the runtime (of tokio) that first used it.
    #[must_use]
    pub fn new(search: SocketSearch, patience: Patience) -> Self {
        Self {
            line: Line::new(search, patience),
            details: Mutex::default(),
            stopping: Mutex::default(),
            configuration: None,
            configured: Mutex::default(),
        }
    }

    /// Learns the types of handlers from files where the runtime does not show them (CRI-O).
    #[must_use]
    pub fn with_configuration(mut self, files: Arc<dyn RuntimeSource>) -> Self {
        self.configuration = Some(files);
        self
    }

    async fn list_containers(&self, state: ContainerState) -> Result<Vec<convert::Listed>, CallError> {
        let state = Some(ContainerStateValue { state: state.into() });
        let filter = Some(ContainerFilter { state, ..ContainerFilter::default() });
        let answer = self
            .line
            .ask("ListContainers", |mut client| async move {
                client.list_containers(ListContainersRequest { filter }).await
            })
            .await?;
        Ok(answer.containers.into_iter().map(convert::container).collect())
    }

    async fn list_sandboxes(&self, state: PodSandboxState) -> Result<Vec<convert::ListedSandbox>, CallError> {
        let state = Some(PodSandboxStateValue { state: state.into() });
        let filter = Some(PodSandboxFilter { state, ..PodSandboxFilter::default() });
        let answer = self
            .line
            .ask("ListPodSandbox", |mut client| async move {
                client.list_pod_sandbox(ListPodSandboxRequest { filter }).await
            })
            .await?;
        Ok(answer.items.into_iter().map(convert::sandbox).collect())
    }

    /// The created ones are asked for first: one that is started meanwhile is then listed twice rather than not at all.
    /// A runtime that was restarted under load does not know how it goes with some that run, and they must not be taken
    /// for over. Nor must those that run in a sandbox that is not ready: its own process may have died, or the runtime has
    /// not found it again.
    async fn listing(&self) -> Result<RuntimeListing, CallError> {
        let mut containers = self.list_containers(ContainerState::ContainerCreated).await?;
        containers.extend(self.list_containers(ContainerState::ContainerUnknown).await?);
        let running = self.list_containers(ContainerState::ContainerRunning).await?;
        let started: BTreeSet<&ContainerId> = running.iter().map(|container| &container.id).collect();
        containers.retain(|created| !started.contains(&created.id));
        containers.extend(running);
        let sandboxes = self.sandboxes_of(&mut containers).await?;
        let missing = lock(&self.details).missing(&sandboxes, &containers);
        details::ask(&self.line, &self.details, missing).await?;
        let mut handlers = self.told_handlers().await?;
        let (sandboxes, containers) = lock(&self.details).complete(sandboxes, containers, &mut handlers);
        Ok(RuntimeListing { runtime: self.runtime_name().await?, sandboxes, containers, handlers })
    }

    /// Ready sandboxes, and those that are not ready and that some of the containers are in. Containers that were not
    /// started there never will be, and are left out.
    async fn sandboxes_of(
        &self,
        containers: &mut Vec<convert::Listed>,
    ) -> Result<Vec<convert::ListedSandbox>, CallError> {
        let mut sandboxes = self.list_sandboxes(PodSandboxState::SandboxReady).await?;
        let ready: BTreeSet<SandboxId> = sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        containers.retain(|one| ready.contains(&one.sandbox) || one.state != ContainerLife::Created);
        let homes: BTreeSet<&SandboxId> = containers.iter().map(|container| &container.sandbox).collect();
        if homes.iter().any(|home| !ready.contains(*home)) {
            let mut others = self.list_sandboxes(PodSandboxState::SandboxNotready).await?;
            others.retain(|sandbox| homes.contains(&sandbox.id) && !ready.contains(&sandbox.id));
            sandboxes.extend(others);
        }
        let known: BTreeSet<&SandboxId> = sandboxes.iter().map(|sandbox| &sandbox.id).collect();
        containers.retain(|container| known.contains(&container.sandbox));
        Ok(sandboxes)
    }

    /// Who it is; asked once per connection. Empty: it does not say.
    async fn runtime_name(&self) -> Result<String, CallError> {
        if let Some(kept) = self.line.kept_name() {
            return Ok(kept);
        }
        let name = match self.ask_about().await {
            Ok(about) => about.name,
            Err(CallError::Status { .. }) => String::new(),
            Err(away) => return Err(away),
        };
        self.line.keep_name(&name);
        Ok(name)
    }

    /// Types of the handlers by the configuration that containerd shows; others show none, and files have to do.
    async fn told_handlers(&self) -> Result<HandlerTypes, CallError> {
        let told = self.runtime_info().await?.map(|info| info.handler_types());
        Ok(told.unwrap_or_else(|| lock(&self.configured).clone()))
    }

    /// What the runtime shows of its configuration; asked once per connection.
    async fn runtime_info(&self) -> Result<Option<RuntimeInfo>, CallError> {
        if let Some(kept) = self.line.kept_info() {
            return Ok(kept);
        }
        let request = StatusRequest { verbose: true };
        *lock(&self.configured) = self.configuration.as_ref().map(|files| files.drivers().handlers).unwrap_or_default();
        let answer = self.line.ask("Status", |mut client| async move { client.status(request).await }).await;
        let info = match answer {
            Ok(answer) => answer.info.get("config").and_then(|text| RuntimeInfo::parse(text)),
            Err(CallError::Status { .. }) => None,
            Err(away) => return Err(away),
        };
        self.line.keep_info(info.clone());
        Ok(info)
    }

    async fn ask_about(&self) -> Result<RuntimeAbout, CallError> {
        let request = VersionRequest { version: "v1".into() };
        let answer = self.line.ask("Version", |mut client| async move { client.version(request).await }).await?;
        let socket = self.line.socket().map(|path| path.display().to_string()).unwrap_or_default();
        Ok(RuntimeAbout { name: answer.runtime_name, version: answer.runtime_version, socket })
    }

    async fn ask_drivers(&self) -> Result<Vec<Configured>, CallError> {
        let about = self.ask_about().await?;
        let component = match about.name.as_str() {
            "containerd" => Component::Containerd { handler: "runc".into(), default: true },
            "cri-o" => Component::CriO,
            _ => Component::Docker,
        };
        let request = RuntimeConfigRequest {};
        let answer =
            self.line.ask("RuntimeConfig", |mut client| async move { client.runtime_config(request).await }).await;
        let told = match answer {
            Ok(answer) => answer.linux.map(|linux| linux.cgroup_driver()),
            Err(CallError::Status { code: Code::Unimplemented, .. }) => None,
            Err(error) => return Err(error),
        };
        let info = self.runtime_info().await?;
        let Some(driver) = told else {
            let source = format!("running {} {} (Status)", about.name, about.version);
            return Ok(info.map(|info| info.drivers(&source)).unwrap_or_default());
        };
        let driver = match driver {
            ToldDriver::Systemd => CgroupDriver::Systemd,
            ToldDriver::Cgroupfs => CgroupDriver::Cgroupfs,
        };
        let component = match (component, info.and_then(|info| info.default_handler())) {
            (Component::Containerd { .. }, Some(handler)) => Component::Containerd { handler, default: true },
            (component, _) => component,
        };
        let source = format!("running {} {} (RuntimeConfig)", about.name, about.version);
        Ok(vec![Configured { component, driver, source }])
    }

    async fn change(&self, id: &ContainerId, change: &ResourceChange) -> Result<(), RuntimeError> {
        let method = "UpdateContainerResources";
        let refused = |detail: &str| RuntimeError::Refused { method, detail: detail.into() };
        let empty = |set: &Option<_>| set.as_ref().is_some_and(trimtab_domain::cpuset::CpuSet::is_empty);
        if empty(&change.cpus) || empty(&change.mems) {
            return Err(refused("an empty set cannot be told to a runtime, which takes it for \"unchanged\""));
        }
        if change.cpu_quota_us == Some(0) || change.cpu_period_us == Some(0) {
            return Err(refused(
                "a quota or period of 0 cannot be told to a runtime, which takes it for \"unchanged\"",
            ));
        }
        if *change == ResourceChange::default() {
            return Ok(());
        }
        let linux = Some(convert::change(change));
        let request = UpdateContainerResourcesRequest {
            container_id: id.0.clone(),
            linux,
            ..UpdateContainerResourcesRequest::default()
        };
        let answer = self
            .line
            .change(method, |mut client| async move { client.update_container_resources(request).await })
            .await;
        match answer {
            Ok(_) => lock(&self.details).changed(id, change),
            // It may have been done all the same.
            Err(_) => lock(&self.details).forget(std::slice::from_ref(id)),
        }
        answer.map(drop).map_err(|error| match error {
            CallError::Status { code: Code::NotFound, .. } => RuntimeError::Gone(id.0.clone()),
            error => error.into(),
        })
    }

    async fn ask_terminating(&self) -> Result<Terminating, CallError> {
        let listed = stopping::Listed {
            running: self.list_containers(ContainerState::ContainerRunning).await?,
            exited: self.list_containers(ContainerState::ContainerExited).await?,
            stopped: self.list_sandboxes(PodSandboxState::SandboxNotready).await?,
        };
        let unknown = lock(&self.stopping).unknown_ends(&listed);
        for (id, end) in details::ask_ends(&self.line, unknown).await? {
            lock(&self.stopping).ended(id, end);
        }
        Ok(lock(&self.stopping).look(&listed))
    }
}

impl ContainerRuntime for CriRuntime {
    fn about(&self) -> Answer<'_, RuntimeAbout> {
        Box::pin(async { Ok(self.ask_about().await?) })
    }

    fn list(&self) -> Answer<'_, RuntimeListing> {
        Box::pin(async { Ok(self.listing().await?) })
    }

    fn forget(&self, ids: &[ContainerId]) {
        lock(&self.details).forget(ids);
    }

    fn update<'a>(&'a self, id: &'a ContainerId, change: &'a ResourceChange) -> Answer<'a, ()> {
        Box::pin(self.change(id, change))
    }

    fn cgroup_drivers(&self) -> Answer<'_, Vec<Configured>> {
        Box::pin(async { Ok(self.ask_drivers().await?) })
    }

    fn terminating(&self) -> Answer<'_, Terminating> {
        Box::pin(async { Ok(self.ask_terminating().await?) })
    }
}

/// A runtime that does not answer tells of no stop; whoever waits for one does so for a bounded time only.
impl Terminations for CriRuntime {
    fn longest_remaining(&self) -> Pin<Box<dyn Future<Output = Option<Duration>> + Send + '_>> {
        Box::pin(async { self.ask_terminating().await.ok()?.longest })
    }
}

/// What a panic of another thread left is still a list of facts.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
