//! A container runtime behind a real unix socket: a table of sandboxes and containers, told over CRI.
//!
//! Why not simpler: the adapter is about sockets, deadlines and messages, so it is tested through them. Zero and empty
//! fields of a change mean "unchanged", as in every runtime; a change of an exited container is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Response, Status};
use trimtab_proto::runtime::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use trimtab_proto::runtime::v1::{
    CgroupDriver, Container, ContainerMetadata, ContainerResources, ContainerState, ContainerStatus,
    ContainerStatusRequest, ContainerStatusResponse, LinuxContainerResources, LinuxRuntimeConfiguration,
    ListContainersRequest, ListContainersResponse, ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox,
    PodSandboxMetadata, PodSandboxState, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
    RemovePodSandboxRequest, RemovePodSandboxResponse, RuntimeConfigRequest, RuntimeConfigResponse, StatusRequest,
    StatusResponse, StopContainerRequest, StopContainerResponse, StopPodSandboxRequest, StopPodSandboxResponse,
    UpdateContainerResourcesRequest, UpdateContainerResourcesResponse, VersionRequest, VersionResponse,
};

/// Called with a container's id and resources whenever they are put in force: at a change, and for all at
/// [`FakeCri::daemon_reload`].
pub(crate) type Apply = Arc<dyn Fn(&str, &LinuxContainerResources) + Send + Sync>;

/// What the runtime knows, and how it behaves.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sandboxes: BTreeMap<String, PodSandbox>,
    pub(crate) containers: BTreeMap<String, FakeContainer>,
    /// `None`: the runtime is older than the call `RuntimeConfig`.
    pub(crate) driver: Option<CgroupDriver>,
    /// JSON under `config` of a verbose `Status`.
    pub(crate) config: Option<String>,
    /// CPUs that the kubelet reckoned for whole pods, by sandbox.
    pub(crate) sums: BTreeMap<String, i64>,
    /// Types of the handlers, shown in verbose answers.
    pub(crate) handler_types: BTreeMap<String, String>,
    /// Methods that fail, with what.
    pub(crate) failing: BTreeMap<&'static str, Status>,
    /// Methods that answer late; `Duration::MAX`: never.
    pub(crate) slow: BTreeMap<&'static str, Duration>,
    /// Every call, with the id that it was about.
    pub(crate) calls: Vec<(&'static str, String)>,
    /// Every change as it was asked for.
    pub(crate) changes: Vec<UpdateContainerResourcesRequest>,
    /// `:authority` of every call.
    pub(crate) authorities: BTreeSet<String>,
    /// The kernel's side.
    pub(crate) apply: Option<Apply>,
}

/// A container.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeContainer {
    pub(crate) sandbox: String,
    pub(crate) name: String,
    pub(crate) state: ContainerState,
    pub(crate) created_at: i64,
    pub(crate) pid: u32,
    pub(crate) cgroups_path: String,
    pub(crate) annotations: HashMap<String, String>,
    pub(crate) resources: LinuxContainerResources,
    /// When it ended, in nanoseconds since the epoch.
    pub(crate) finished_at: i64,
    /// The quota that it was made with, which containerd goes on showing.
    pub(crate) made_with_quota: i64,
}

/// The runtime. It has a thread of its own, so that all of its connections break when it goes away.
pub(crate) struct FakeCri {
    socket: PathBuf,
    table: Arc<Mutex<Table>>,
    server: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

#[derive(Clone)]
struct Service(Arc<Mutex<Table>>);

impl FakeCri {
    /// Serves at the path; containerd 2.1 with systemd, without pods.
    pub(crate) fn start(socket: &Path) -> Self {
        let table = Table {
            name: "containerd".into(),
            version: "v2.1.4".into(),
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            driver: Some(CgroupDriver::Systemd),
            config: None,
            sums: BTreeMap::new(),
            handler_types: BTreeMap::new(),
            failing: BTreeMap::new(),
            slow: BTreeMap::new(),
            calls: Vec::new(),
            changes: Vec::new(),
            authorities: BTreeSet::new(),
            apply: None,
        };
        let mut runtime = Self { socket: socket.to_owned(), table: Arc::new(Mutex::new(table)), server: None };
        runtime.serve();
        runtime
    }

    /// What it knows; not to be held over an await.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// Goes away: all connections break, the socket is removed.
    pub(crate) fn stop(&mut self) {
        let Some((server, end)) = self.server.take() else { return };
        drop(end);
        server.join().unwrap();
        // The directory may have gone before the double does.
        let _gone = std::fs::remove_file(&self.socket);
    }

    /// Comes back with what it knew.
    pub(crate) fn serve(&mut self) {
        std::fs::create_dir_all(self.socket.parent().unwrap()).unwrap();
        let listener = StdListener::bind(&self.socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let service = RuntimeServiceServer::new(Service(Arc::clone(&self.table))).max_encoding_message_size(usize::MAX);
        let table = Arc::clone(&self.table);
        let record = move |request: Request, next: Next| {
            let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            table.lock().unwrap().authorities.insert(authority);
            next.run(request)
        };
        let routes = Routes::new(service).into_axum_router().layer(from_fn(record));
        let (end, ended) = oneshot::channel::<()>();
        let server = thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
                let server = Server::builder().add_routes(Routes::from(routes)).serve_with_incoming(incoming);
                tokio::select! {
                    served = server => served.unwrap(),
                    _ = ended => {}
                }
            });
        });
        self.server = Some((server, end));
    }

    /// `systemctl daemon-reload`: systemd puts in force again what it was told, which is what the runtime was told.
    pub(crate) fn daemon_reload(&self) {
        let table = self.table();
        let apply = table.apply.clone().expect("a hook");
        for (id, container) in &table.containers {
            apply(id, &container.resources);
        }
    }

    /// Adds a ready sandbox of a pod in the namespace `default`, both named by the uid.
    pub(crate) fn add_sandbox(&self, id: &str, uid: &str) {
        let sandbox = PodSandbox {
            id: id.into(),
            metadata: Some(PodSandboxMetadata {
                name: format!("pod-{uid}"),
                uid: uid.into(),
                namespace: "default".into(),
                attempt: 0,
            }),
            state: PodSandboxState::SandboxReady.into(),
            created_at: 1,
            labels: [("app".to_owned(), "demo".to_owned())].into(),
            annotations: [("kubernetes.io/config.source".to_owned(), "api".to_owned())].into(),
            runtime_handler: String::new(),
        };
        self.table().sandboxes.insert(id.into(), sandbox);
    }

    /// Adds a running container of a Guaranteed pod that asks for this many CPUs and 1 GiB.
    pub(crate) fn add_container(&self, id: &str, sandbox: &str, name: &str, cpus: i64) {
        let mut table = self.table();
        let pid = 1000 + u32::try_from(table.containers.len()).unwrap();
        let uid = table.sandboxes[sandbox].metadata.clone().unwrap_or_default().uid;
        let container = FakeContainer {
            sandbox: sandbox.into(),
            name: name.into(),
            state: ContainerState::ContainerRunning,
            created_at: i64::from(pid),
            pid,
            cgroups_path: format!("/kubepods/pod{uid}/{id}"),
            annotations: HashMap::new(),
            finished_at: 0,
            made_with_quota: cpus * 100_000,
            resources: LinuxContainerResources {
                cpu_period: 100_000,
                cpu_quota: cpus * 100_000,
                cpu_shares: cpus * 1024,
                memory_limit_in_bytes: 1 << 30,
                oom_score_adj: -997,
                ..LinuxContainerResources::default()
            },
        };
        table.containers.insert(id.into(), container);
    }

    /// How often a method was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.table().calls.iter().filter(|(called, _)| *called == method).count()
    }
}

impl Drop for FakeCri {
    fn drop(&mut self) {
        self.stop();
    }
}

impl FakeContainer {
    fn runtime_spec(&self) -> serde_json::Value {
        let told = &self.resources;
        let pages: Vec<_> = told
            .hugepage_limits
            .iter()
            .map(|pages| serde_json::json!({"pageSize": pages.page_size, "limit": pages.limit}))
            .collect();
        serde_json::json!({
            "process": {"oomScoreAdj": told.oom_score_adj},
            "linux": {
                "cgroupsPath": self.cgroups_path,
                "resources": {
                    "memory": {"limit": told.memory_limit_in_bytes},
                    "cpu": {
                        "shares": told.cpu_shares, "quota": told.cpu_quota, "period": told.cpu_period,
                        "cpus": told.cpuset_cpus, "mems": told.cpuset_mems,
                    },
                    "hugepageLimits": pages,
                },
            },
        })
    }

    /// Zero and empty: unchanged. Huge pages are appended, as containerd does.
    fn update(&mut self, change: &LinuxContainerResources) {
        let own = &mut self.resources;
        for (own, new) in [
            (&mut own.cpu_period, change.cpu_period),
            (&mut own.cpu_quota, change.cpu_quota),
            (&mut own.cpu_shares, change.cpu_shares),
            (&mut own.memory_limit_in_bytes, change.memory_limit_in_bytes),
        ] {
            if new != 0 {
                *own = new;
            }
        }
        for (own, new) in [(&mut own.cpuset_cpus, &change.cpuset_cpus), (&mut own.cpuset_mems, &change.cpuset_mems)] {
            if !new.is_empty() {
                own.clone_from(new);
            }
        }
        own.hugepage_limits.extend(change.hugepage_limits.clone());
    }
}

impl Service {
    /// Notes a call and behaves as the table says.
    async fn begin(&self, method: &'static str, id: &str) -> Result<(), Status> {
        let (failure, delay) = {
            let mut table = self.0.lock().unwrap();
            table.calls.push((method, id.to_owned()));
            (table.failing.get(method).cloned(), table.slow.get(method).copied())
        };
        match delay {
            Some(Duration::MAX) => pending().await,
            Some(delay) => tokio::time::sleep(delay).await,
            None => {}
        }
        failure.map_or(Ok(()), Err)
    }
}

fn absent(id: &str) -> Status {
    Status::not_found(format!("an error occurred when try to find {id:?}: not found"))
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: tonic::Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        self.begin("Version", "").await?;
        let table = self.0.lock().unwrap();
        Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: table.name.clone(),
            runtime_version: table.version.clone(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn status(&self, request: tonic::Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.begin("Status", "").await?;
        let table = self.0.lock().unwrap();
        let config = table.config.clone().filter(|_| request.get_ref().verbose);
        let info = config.into_iter().map(|config| ("config".to_owned(), config)).collect();
        Ok(Response::new(StatusResponse { status: None, info }))
    }

    async fn runtime_config(
        &self,
        _: tonic::Request<RuntimeConfigRequest>,
    ) -> Result<Response<RuntimeConfigResponse>, Status> {
        self.begin("RuntimeConfig", "").await?;
        let Some(driver) = self.0.lock().unwrap().driver else {
            return Err(Status::unimplemented("unknown method RuntimeConfig for service runtime.v1.RuntimeService"));
        };
        let linux = Some(LinuxRuntimeConfiguration { cgroup_driver: driver.into() });
        Ok(Response::new(RuntimeConfigResponse { linux }))
    }

    async fn list_pod_sandbox(
        &self,
        request: tonic::Request<ListPodSandboxRequest>,
    ) -> Result<Response<ListPodSandboxResponse>, Status> {
        self.begin("ListPodSandbox", "").await?;
        let state = request.into_inner().filter.and_then(|filter| filter.state).map(|value| value.state);
        let table = self.0.lock().unwrap();
        let wanted = table.sandboxes.values().filter(|sandbox| state.is_none_or(|state| sandbox.state == state));
        Ok(Response::new(ListPodSandboxResponse { items: wanted.cloned().collect() }))
    }

    async fn pod_sandbox_status(
        &self,
        request: tonic::Request<PodSandboxStatusRequest>,
    ) -> Result<Response<PodSandboxStatusResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.begin("PodSandboxStatus", &id).await?;
        let table = self.0.lock().unwrap();
        let sandbox = table.sandboxes.get(&id).ok_or_else(|| absent(&id))?;
        let uid = sandbox.metadata.clone().unwrap_or_default().uid;
        let kind = table.handler_types.get(&sandbox.runtime_handler);
        let resources = match table.sums.get(&id) {
            Some(cpus) => serde_json::json!({
                "cpu_shares": cpus * 1024, "cpu_quota": cpus * 100_000, "cpu_period": 100_000,
            }),
            None => serde_json::json!({"cpu_shares": 2}),
        };
        let info = serde_json::json!({
            "runtimeType": kind,
            "config": {"linux": {"cgroup_parent": format!("/kubepods/pod{uid}"), "resources": resources}},
        });
        let status = PodSandboxStatus { id, ..PodSandboxStatus::default() };
        let info = [("info".to_owned(), info.to_string())].into();
        Ok(Response::new(PodSandboxStatusResponse { status: Some(status), info }))
    }

    async fn list_containers(
        &self,
        request: tonic::Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        self.begin("ListContainers", "").await?;
        let state = request.into_inner().filter.and_then(|filter| filter.state).map(|value| value.state);
        let table = self.0.lock().unwrap();
        let wanted =
            table.containers.iter().filter(|(_, container)| state.is_none_or(|s| i32::from(container.state) == s));
        let containers = wanted.map(|(id, container)| Container {
            id: id.clone(),
            pod_sandbox_id: container.sandbox.clone(),
            metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: 0 }),
            state: container.state.into(),
            created_at: container.created_at,
            labels: HashMap::new(),
            annotations: container.annotations.clone(),
        });
        Ok(Response::new(ListContainersResponse { containers: containers.collect() }))
    }

    async fn container_status(
        &self,
        request: tonic::Request<ContainerStatusRequest>,
    ) -> Result<Response<ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        self.begin("ContainerStatus", &request.container_id).await?;
        let table = self.0.lock().unwrap();
        let container = table.containers.get(&request.container_id).ok_or_else(|| absent(&request.container_id))?;
        let handler = table.sandboxes.get(&container.sandbox).map(|sandbox| sandbox.runtime_handler.clone());
        let running = container.state == ContainerState::ContainerRunning;
        let info = serde_json::json!({
            "sandboxID": container.sandbox,
            "pid": if running { container.pid } else { 0 },
            "runtimeType": handler.and_then(|handler| table.handler_types.get(&handler)),
            "config": {"linux": {"resources": {"cpu_quota": container.made_with_quota}}},
            "runtimeSpec": container.runtime_spec(),
        });
        let status = ContainerStatus {
            id: request.container_id,
            state: container.state.into(),
            finished_at: container.finished_at,
            resources: Some(ContainerResources { linux: Some(container.resources.clone()) }),
            ..ContainerStatus::default()
        };
        let info = if request.verbose { [("info".to_owned(), info.to_string())].into() } else { HashMap::new() };
        Ok(Response::new(ContainerStatusResponse { status: Some(status), info }))
    }

    async fn stop_container(
        &self,
        request: tonic::Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        let id = request.into_inner().container_id;
        self.begin("StopContainer", &id).await?;
        let mut table = self.0.lock().unwrap();
        table.containers.get_mut(&id).ok_or_else(|| absent(&id))?.state = ContainerState::ContainerExited;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn stop_pod_sandbox(
        &self,
        request: tonic::Request<StopPodSandboxRequest>,
    ) -> Result<Response<StopPodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.begin("StopPodSandbox", &id).await?;
        let mut table = self.0.lock().unwrap();
        table.sandboxes.get_mut(&id).ok_or_else(|| absent(&id))?.state = PodSandboxState::SandboxNotready.into();
        for container in table.containers.values_mut().filter(|container| container.sandbox == id) {
            container.state = ContainerState::ContainerExited;
        }
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: tonic::Request<RemovePodSandboxRequest>,
    ) -> Result<Response<RemovePodSandboxResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        self.begin("RemovePodSandbox", &id).await?;
        let mut table = self.0.lock().unwrap();
        table.sandboxes.remove(&id);
        table.containers.retain(|_, container| container.sandbox != id);
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn update_container_resources(
        &self,
        request: tonic::Request<UpdateContainerResourcesRequest>,
    ) -> Result<Response<UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        self.begin("UpdateContainerResources", &request.container_id).await?;
        let mut table = self.0.lock().unwrap();
        let (id, change) = (request.container_id.clone(), request.linux.clone().unwrap_or_default());
        table.changes.push(request);
        let apply = table.apply.clone();
        let container = table.containers.get_mut(&id).ok_or_else(|| absent(&id))?;
        if !matches!(container.state, ContainerState::ContainerCreated | ContainerState::ContainerRunning) {
            return Err(Status::unknown("failed to update resources: not in CREATED or RUNNING state"));
        }
        container.update(&change);
        if let Some(apply) = apply {
            apply(&id, &container.resources);
        }
        Ok(Response::new(UpdateContainerResourcesResponse {}))
    }
}
