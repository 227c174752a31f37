//! Ends sandboxes, so that nothing is left of a driver that goes.

use std::time::Duration;

use tonic::Code;
use trimtab_domain::roster::{Sandbox, SandboxId};
use trimtab_proto::runtime::v1::{
    ContainerState, PodSandboxState, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};

use super::CriRuntime;
use super::line::CallError;
use crate::ports::runtime::{Answer, Sandboxes};

/// Longest wait for a sandbox to be stopped or removed: its network is taken down by a plugin, which may be slow.
const SANDBOX: Duration = Duration::from_secs(60);

impl CriRuntime {
    async fn end_sandbox(&self, id: &SandboxId, grace: Duration) -> Result<(), CallError> {
        let running = self.list_containers(ContainerState::ContainerRunning).await?;
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        for container in running.into_iter().filter(|container| container.sandbox == *id) {
            let request = StopContainerRequest { container_id: container.id.0, timeout };
            let stop = |mut client: super::line::Client| async move { client.stop_container(request).await };
            unless_gone(self.line.end("StopContainer", grace + SANDBOX, stop).await)?;
        }
        let pod_sandbox_id = id.0.clone();
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        let stop = |mut client: super::line::Client| async move { client.stop_pod_sandbox(request).await };
        unless_gone(self.line.end("StopPodSandbox", SANDBOX, stop).await)?;
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        let remove = |mut client: super::line::Client| async move { client.remove_pod_sandbox(request).await };
        unless_gone(self.line.end("RemovePodSandbox", SANDBOX, remove).await)
    }
}

impl Sandboxes for CriRuntime {
    fn ready(&self) -> Answer<'_, Vec<Sandbox>> {
        Box::pin(async { Ok(self.list_sandboxes(PodSandboxState::SandboxReady).await?) })
    }

    fn end<'a>(&'a self, id: &'a SandboxId, grace: Duration) -> Answer<'a, ()> {
        Box::pin(async move { Ok(self.end_sandbox(id, grace).await?) })
    }
}

fn unless_gone<T>(answer: Result<T, CallError>) -> Result<(), CallError> {
    match answer {
        Ok(_) | Err(CallError::Status { code: Code::NotFound, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
