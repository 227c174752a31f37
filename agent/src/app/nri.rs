//! The thread that answers the container runtime: its own, so that neither a slow write to the kernel nor a call of the
//! API delays the start of a container.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::adapters::nri::{Nri, NriPorts, RegistrationBook};
use crate::ports::admission::Terminations;
use crate::ports::nri_stats::NriStats;
use crate::ports::runtime::ContainerRuntime;
use crate::reconcile::engine::SpecInForce;
use crate::subsystems::pinning::desk::Desk;

/// What the thread needs.
pub(super) struct NriThread {
    /// The runtime's socket.
    pub(super) socket: PathBuf,
    /// Where registrations are remembered over restarts.
    pub(super) book: RegistrationBook,
    /// Answers.
    pub(super) desk: Arc<Desk>,
    /// Asked what is being stopped; the thread's own, because its connection lives there.
    pub(super) runtime: Option<Arc<dyn ContainerRuntime>>,
    /// Counts.
    pub(super) stats: Arc<NriStats>,
    /// The profile in force.
    pub(super) spec: watch::Receiver<Option<SpecInForce>>,
}

impl NriThread {
    /// Starts the thread. It registers with the runtime as soon as there is something to answer by: a profile that asks
    /// for pinning, and a pass that has seen what runs.
    pub(super) fn start(self, cancel: CancellationToken) -> anyhow::Result<Running> {
        let Self { socket, book, desk, runtime, stats, mut spec } = self;
        let terminations = Arc::new(Asked(runtime));
        let ports = NriPorts { admission: Arc::<Desk>::clone(&desk), terminations, stats };
        let nri = Nri::new(&socket, ports).context("cannot start the thread of the answers over NRI")?.with_book(book);
        desk.change_by(Arc::new(nri.handle()));
        let built = Builder::new_current_thread().enable_all().build().context("cannot start the runtime of NRI")?;
        let (ending, ended) = mpsc::channel::<()>();
        let run = move || {
            // Should this thread panic, a restart is better than containers that nobody is asked about.
            let _ends_all = cancel.clone().drop_guard();
            built.block_on(async {
                let pins = |spec: &Option<SpecInForce>| spec.as_ref().is_some_and(SpecInForce::answers_runtime);
                let wanted = async {
                    // Without an engine there is nothing to wait for; its end is that of the process.
                    let in_force = spec.wait_for(pins).await.is_ok();
                    if in_force {
                        desk.informed().await;
                    }
                    in_force
                };
                let begin = tokio::select! { () = cancel.cancelled() => false, wanted = wanted => wanted };
                if begin {
                    nri.run(cancel.clone()).await;
                }
            });
            drop(ending);
        };
        thread::Builder::new().name("nri".to_owned()).spawn(run).context("cannot start the thread of NRI")?;
        Ok(Running { ended })
    }
}

/// The thread, once it runs.
pub(super) struct Running {
    /// Closed when it has ended.
    ended: mpsc::Receiver<()>,
}

impl Running {
    /// Waits until what was asked is answered and the runtime is left.
    pub(super) fn end(self, limit: Duration) {
        if self.ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            warn!("the container runtime was not left in time; it notices the end of the connection");
        }
    }
}

/// What is being stopped, as the runtime tells over CRI.
struct Asked(Option<Arc<dyn ContainerRuntime>>);

impl Terminations for Asked {
    fn longest_remaining(&self) -> Pin<Box<dyn Future<Output = Option<Duration>> + Send + '_>> {
        Box::pin(async {
            let told = self.0.as_ref()?.terminating().await;
            told.inspect_err(|error| debug!(%error, "not known what is being stopped")).ok()?.longest
        })
    }
}
