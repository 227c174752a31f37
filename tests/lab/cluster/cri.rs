//! The kubelet's side of CRI: the calls with which it runs pods, as messages of their own, so that a wrong field number in the
//! agent's protocol file cannot be wrong here too.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Runtimes in an emulated machine take their time.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to a runtime; each call waits for its answer.
pub(crate) struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects to a socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()))?.timeout(TIMEOUT);
        let endpoint = endpoint.origin("http://localhost".parse().unwrap());
        let channel = runtime.block_on(endpoint.connect())?;
        Ok(Self { runtime, channel })
    }

    /// Calls a method of `RuntimeService`.
    pub(crate) fn call<A: Message + Default + 'static>(
        &self,
        method: &str,
        request: impl Message + 'static,
    ) -> Result<A, Status> {
        self.call_service("RuntimeService", method, request)
    }

    /// True if an image can be run.
    pub(crate) fn has_image(&self, image: &str) -> bool {
        let request = ImageStatusRequest { image: Some(ImageSpec { image: image.into() }) };
        let answer = self.call_service::<ImageStatusResponse>("ImageService", "ImageStatus", request);
        answer.is_ok_and(|answer| answer.image.is_some())
    }

    /// True if a sandbox is ready.
    #[allow(dead_code, reason = "only some of the programs that are made of this ask")]
    pub(crate) fn is_ready(&self, sandbox: &str) -> bool {
        let request = PodSandboxStatusRequest { id: sandbox.into() };
        let answer = self.call::<PodSandboxStatusResponse>("PodSandboxStatus", request);
        answer.is_ok_and(|answer| answer.status.is_some_and(|status| status.state == 0))
    }

    fn call_service<A: Message + Default + 'static>(
        &self,
        service: &str,
        method: &str,
        request: impl Message + 'static,
    ) -> Result<A, Status> {
        let path: PathAndQuery = format!("/runtime.v1.{service}/{method}").parse().unwrap();
        let mut client = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::default();
            client.unary(Request::new(request), path, codec).await.map(tonic::Response::into_inner)
        })
    }
}

macro_rules! messages {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty,)* })*) => {$(
        #[derive(Clone, PartialEq, Message)]
        pub(crate) struct $name { $($(#[$attribute])* pub(crate) $field: $kind,)* }
    )*};
}

// Names and numbers are those of the Kubernetes CRI, `runtime.v1`.
messages! {
    Nothing {}
    ImageSpec { #[prost(string, tag = "1")] image: String, }
    ImageStatusRequest { #[prost(message, optional, tag = "1")] image: Option<ImageSpec>, }
    ImageStatusResponse { #[prost(message, optional, tag = "1")] image: Option<Nothing>, }
    PodSandboxStatusRequest { #[prost(string, tag = "1")] id: String, }
    PodSandboxStatus { #[prost(int32, tag = "3")] state: i32, }
    PodSandboxStatusResponse { #[prost(message, optional, tag = "1")] status: Option<PodSandboxStatus>, }
    VersionRequest { #[prost(string, tag = "1")] version: String, }
    VersionResponse {
        #[prost(string, tag = "2")] runtime_name: String,
        #[prost(string, tag = "3")] runtime_version: String,
    }
    PodSandboxMetadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] uid: String,
        #[prost(string, tag = "3")] namespace: String,
        #[prost(uint32, tag = "4")] attempt: u32,
    }
    NamespaceOption {
        #[prost(int32, tag = "1")] network: i32,
        #[prost(int32, tag = "2")] pid: i32,
    }
    SecurityContext { #[prost(message, optional, tag = "1")] namespace_options: Option<NamespaceOption>, }
    LinuxPodSandboxConfig {
        #[prost(string, tag = "1")] cgroup_parent: String,
        #[prost(message, optional, tag = "2")] security_context: Option<SecurityContext>,
        #[prost(message, optional, tag = "5")] resources: Option<LinuxContainerResources>,
    }
    PodSandboxConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<PodSandboxMetadata>,
        #[prost(string, tag = "3")] log_directory: String,
        #[prost(map = "string, string", tag = "6")] labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "7")] annotations: HashMap<String, String>,
        #[prost(message, optional, tag = "8")] linux: Option<LinuxPodSandboxConfig>,
    }
    RunPodSandboxRequest { #[prost(message, optional, tag = "1")] config: Option<PodSandboxConfig>, }
    RunPodSandboxResponse { #[prost(string, tag = "1")] pod_sandbox_id: String, }
    PodSandboxRequest { #[prost(string, tag = "1")] pod_sandbox_id: String, }
    ContainerMetadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(uint32, tag = "2")] attempt: u32,
    }
    LinuxContainerResources {
        #[prost(int64, tag = "1")] cpu_period: i64,
        #[prost(int64, tag = "2")] cpu_quota: i64,
        #[prost(int64, tag = "3")] cpu_shares: i64,
        #[prost(int64, tag = "4")] memory_limit_in_bytes: i64,
        #[prost(int64, tag = "5")] oom_score_adj: i64,
        #[prost(string, tag = "6")] cpuset_cpus: String,
        #[prost(string, tag = "7")] cpuset_mems: String,
    }
    LinuxContainerSecurityContext { #[prost(message, optional, tag = "3")] namespace_options: Option<NamespaceOption>, }
    LinuxContainerConfig {
        #[prost(message, optional, tag = "1")] resources: Option<LinuxContainerResources>,
        #[prost(message, optional, tag = "2")] security_context: Option<LinuxContainerSecurityContext>,
    }
    ContainerConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<ContainerMetadata>,
        #[prost(message, optional, tag = "2")] image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")] command: Vec<String>,
        #[prost(map = "string, string", tag = "9")] labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "10")] annotations: HashMap<String, String>,
        #[prost(string, tag = "11")] log_path: String,
        #[prost(message, optional, tag = "15")] linux: Option<LinuxContainerConfig>,
    }
    CreateContainerRequest {
        #[prost(string, tag = "1")] pod_sandbox_id: String,
        #[prost(message, optional, tag = "2")] config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")] sandbox_config: Option<PodSandboxConfig>,
    }
    CreateContainerResponse { #[prost(string, tag = "1")] container_id: String, }
    ContainerRequest { #[prost(string, tag = "1")] container_id: String, }
    StopContainerRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(int64, tag = "2")] timeout: i64,
    }
    UpdateContainerResourcesRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(message, optional, tag = "2")] linux: Option<LinuxContainerResources>,
    }
    ListContainersRequest {}
    ListContainersResponse { #[prost(message, repeated, tag = "1")] containers: Vec<Container>, }
    Container {
        #[prost(string, tag = "1")] id: String,
        #[prost(message, optional, tag = "3")] metadata: Option<ContainerMetadata>,
        #[prost(int32, tag = "6")] state: i32,
    }
}
