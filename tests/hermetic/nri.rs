//! The plugin against a runtime that behaves, and one that does not.

mod answers;
mod hostile;
mod registration;
mod updates;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use trimtab::adapters::nri::{Nri, NriHandle, NriPorts};
use trimtab::ports::admission::{Admission, Terminations};
use trimtab::ports::nri_stats::NriStats;

use crate::support::fake_admission::FakeAdmission;
use crate::support::nri_runtime::{Behaviour, DEADLINE, NriRuntime, Registered};

/// Says what a test says.
#[derive(Default)]
struct FakeTerminations(Mutex<Option<Duration>>);

impl Terminations for FakeTerminations {
    fn longest_remaining(&self) -> Pin<Box<dyn Future<Output = Option<Duration>> + Send + '_>> {
        let longest = *self.0.lock().unwrap();
        Box::pin(async move { longest })
    }
}

/// A plugin that runs; it ends with this.
struct Running {
    directory: TempDir,
    admission: Arc<FakeAdmission>,
    terminations: Arc<FakeTerminations>,
    stats: Arc<NriStats>,
    handle: NriHandle,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    _ends: DropGuard,
}

impl Running {
    /// Starts the plugin; the runtime is not there yet. Answers have time, so that a busy machine fails no test.
    fn start() -> Self {
        Self::start_with(FakeTerminations::default(), DEADLINE)
    }

    fn start_with(terminations: FakeTerminations, answer_limit: Duration) -> Self {
        let admission = FakeAdmission::new();
        let directory = tempfile::tempdir().unwrap();
        let (terminations, stats) = (Arc::new(terminations), Arc::<NriStats>::default());
        let ports = NriPorts {
            admission: Arc::<FakeAdmission>::clone(&admission) as Arc<dyn Admission>,
            terminations: Arc::<FakeTerminations>::clone(&terminations),
            stats: Arc::clone(&stats),
        };
        let nri = Nri::new(&directory.path().join("nri.sock"), ports).unwrap().with_answer_limit(answer_limit);
        let handle = nri.handle();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(nri.run(cancel.clone()));
        let ends = cancel.clone().drop_guard();
        Self { directory, admission, terminations, stats, handle, cancel, task, _ends: ends }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("nri.sock")
    }

    /// A runtime that has taken the plugin on.
    async fn runtime(&self, behaviour: Behaviour) -> (NriRuntime, Registered) {
        let runtime = NriRuntime::listen(&self.socket(), behaviour);
        let registered = runtime.accept().await.unwrap();
        (runtime, registered)
    }
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waits).await.is_ok(), "{what}");
}
