//! The kubelet's PodResources API (KEP-2043, KEP-606): what the kubelet gives out itself, and what its pods have.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::stat::stat;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;
use trimtab_domain::cpuset::CpuSet;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use trimtab_proto::podresources::v1::{AllocatableResourcesRequest, ListPodResourcesRequest};

use crate::ports::kubelet::KubeletAllocatable;
use crate::ports::kubelet_answers::{Asking, KubeletAnswers, KubeletAway, KubeletPodResources};

/// Socket on the host, below the kubelet's root directory.
const SOCKET: &str = "pod-resources/kubelet.sock";
/// Longest time for the question of a pass, which waits for it.
const PASS_DEADLINE: Duration = Duration::from_millis(500);
/// Longest time for a question of the background.
const DEADLINE: Duration = Duration::from_secs(2);
/// Largest answer that is read; what the kubelet's own client helper is given by those who use it.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The API. A connection lives as long as one question, so that nothing is bound to a thread.
#[derive(Debug)]
pub struct PodResourcesApi {
    socket: PathBuf,
    /// Our own socket, which is never asked.
    own: OnceLock<PathBuf>,
}

impl PodResourcesApi {
    /// The API of a kubelet with this root directory (`/var/lib/kubelet`), as the agent sees it.
    #[must_use]
    pub fn new(kubelet_root: impl Into<PathBuf>) -> Self {
        Self::at(kubelet_root.into().join(SOCKET))
    }

    /// The API behind this socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), own: OnceLock::new() }
    }

    /// Never asks this socket, under whatever name: it is the agent's own, and may stand in for the kubelet's.
    pub fn leave_alone(&self, own: impl Into<PathBuf>) {
        // Said twice, it is the same path.
        let _ = self.own.set(own.into());
    }

    /// Path of the socket.
    pub(crate) fn path(&self) -> String {
        self.socket.display().to_string()
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> KubeletAway {
        KubeletAway::Failed { path: self.path(), detail: last_cause(error) }
    }

    /// Connects; what cannot be told from the error of the library is looked at before.
    async fn connect(&self) -> Result<PodResourcesListerClient<Channel>, KubeletAway> {
        if self.own.get().is_some_and(|own| same_file(own, &self.socket)) {
            return Err(KubeletAway::Itself { path: self.path() });
        }
        match UnixStream::connect(&self.socket).await {
            Ok(_closed) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KubeletAway::NoSocket { path: self.path() });
            }
            Err(error) => return Err(self.failed(&error)),
        }
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.path())).map_err(|error| self.failed(&error))?;
        let channel = endpoint.connect().await.map_err(|error| self.failed(&error))?;
        Ok(PodResourcesListerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
    }

    async fn cpus(&self) -> Result<CpuSet, KubeletAway> {
        let mut client = self.connect().await?;
        let answer = client.get_allocatable_resources(AllocatableResourcesRequest {}).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(answer.cpu_ids.into_iter().filter_map(|cpu| u32::try_from(cpu).ok()).collect())
    }

    async fn everything(&self) -> Result<KubeletAnswers, KubeletAway> {
        let mut client = self.connect().await?;
        let list = client.list(ListPodResourcesRequest {}).await.map_err(|status| self.failed(&status))?.into_inner();
        let allocatable = match client.get_allocatable_resources(AllocatableResourcesRequest {}).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => Default::default(),
            Err(status) => return Err(self.failed(&status)),
        };
        Ok(KubeletAnswers { list, allocatable })
    }
}

impl KubeletAllocatable for PodResourcesApi {
    fn exclusive_cpus(&self) -> Pin<Box<dyn Future<Output = Option<CpuSet>> + Send + '_>> {
        Box::pin(async {
            match tokio::time::timeout(PASS_DEADLINE, self.cpus()).await {
                Ok(Ok(cpus)) => Some(cpus),
                Ok(Err(error)) => {
                    debug!(%error, "the kubelet's PodResources API does not answer");
                    None
                }
                Err(_) => None,
            }
        })
    }
}

impl KubeletPodResources for PodResourcesApi {
    fn ask(&self) -> Asking<'_> {
        Box::pin(async {
            let asked = tokio::time::timeout(DEADLINE, self.everything()).await;
            asked.unwrap_or_else(|_| Err(KubeletAway::TooLate { path: self.path() }))
        })
    }
}

/// True if both paths lead to one file.
fn same_file(one: &Path, other: &Path) -> bool {
    match (stat(one), stat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// The deepest cause says most.
fn last_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
