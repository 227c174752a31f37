//! The kubelet's PodResources API, asked for the CPUs that it gives out itself (KEP-2043, `GetAllocatableResources`).

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tonic::transport::Endpoint;
use tracing::debug;
use trimtab_domain::cpuset::CpuSet;
use trimtab_proto::podresources::v1::AllocatableResourcesRequest;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

use crate::ports::kubelet::KubeletAllocatable;

/// Socket on the host, below the kubelet's root directory.
const SOCKET: &str = "pod-resources/kubelet.sock";
/// Longest time for the whole question: a pass waits for it.
const DEADLINE: Duration = Duration::from_millis(500);

/// The API. A connection lives as long as one question, so that nothing is bound to a thread.
#[derive(Debug)]
pub struct PodResourcesApi {
    socket: PathBuf,
}

impl PodResourcesApi {
    /// The API of a kubelet with this root directory (`/var/lib/kubelet`), as the agent sees it.
    #[must_use]
    pub fn new(kubelet_root: impl Into<PathBuf>) -> Self {
        Self { socket: kubelet_root.into().join(SOCKET) }
    }

    async fn ask(&self) -> Result<CpuSet, Box<dyn std::error::Error + Send + Sync>> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket.display()))?;
        let channel = endpoint.connect().await?;
        let mut client = PodResourcesListerClient::new(channel);
        let answer = client.get_allocatable_resources(AllocatableResourcesRequest {}).await?.into_inner();
        Ok(answer.cpu_ids.into_iter().filter_map(|cpu| u32::try_from(cpu).ok()).collect())
    }
}

impl KubeletAllocatable for PodResourcesApi {
    fn exclusive_cpus(&self) -> Pin<Box<dyn Future<Output = Option<CpuSet>> + Send + '_>> {
        Box::pin(async {
            match tokio::time::timeout(DEADLINE, self.ask()).await {
                Ok(Ok(cpus)) => Some(cpus),
                Ok(Err(error)) => {
                    debug!(error, socket = %self.socket.display(), "the kubelet's PodResources API does not answer");
                    None
                }
                Err(_) => None,
            }
        })
    }
}
