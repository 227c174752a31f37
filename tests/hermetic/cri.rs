//! The container runtime over CRI, on a double behind a real socket.

mod changes;
mod drivers;
mod lists;
mod trouble;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use trimtab::adapters::cri::{CriRuntime, Patience, SocketSearch};
use trimtab::config::CriSocket;
use trimtab::ports::kubelet::{KubeletSettings, KubeletSource, KubeletState};

use crate::support::fake_cri::FakeCri;

/// Where the double listens, on the host.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// A kubelet that is set to an endpoint; empty: to none.
struct Kubelet(String);

impl KubeletSource for Kubelet {
    fn settings(&self) -> KubeletSettings {
        KubeletSettings { runtime_endpoint: self.0.clone(), ..KubeletSettings::default() }
    }

    fn state(&self) -> KubeletState {
        KubeletState::default()
    }
}

/// A host with a runtime, and an agent's end of it.
struct Host {
    root: tempfile::TempDir,
    double: FakeCri,
    runtime: Arc<CriRuntime>,
}

impl Host {
    /// With one Guaranteed pod: a container of 2 CPUs and one of 1.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let double = FakeCri::start(&below(root.path(), SOCKET));
        double.add_sandbox("s1", "uid1");
        double.add_container("c1", "s1", "main", 2);
        double.add_container("c2", "s1", "helper", 1);
        let runtime = Arc::new(runtime(root.path(), &format!("unix://{SOCKET}"), Patience::default()));
        Self { root, double, runtime }
    }
}

fn below(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.strip_prefix('/').unwrap())
}

fn runtime(root: &Path, endpoint: &str, patience: Patience) -> CriRuntime {
    let kubelet = Arc::new(Kubelet(endpoint.into()));
    CriRuntime::new(SocketSearch { socket: CriSocket::Auto, host_root: root.into(), kubelet }, patience)
}

/// For runtimes that never answer.
fn impatient() -> Patience {
    let ask = Duration::from_millis(50);
    Patience { ask, change: ask, quiet: Duration::from_secs(3600), ..Patience::default() }
}
