//! Where the runtime listens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::CriSocket;
use crate::ports::kubelet::KubeletSource;

/// Known places, in the order in which they are tried where no kubelet says: containerd, CRI-O, k3s and RKE2, MicroK8s,
/// cri-dockerd. `/var/run` is `/run` on every such system, and as a link it would lead out of the host root.
const KNOWN: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/cri-dockerd.sock",
];

/// Finds the socket.
pub struct SocketSearch {
    /// The flag.
    pub socket: CriSocket,
    /// Prefix of the host's paths.
    pub host_root: PathBuf,
    /// Whom the kubelet talks to.
    pub kubelet: Arc<dyn KubeletSource>,
}

/// Where to look, as paths on the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// Nowhere.
    Off,
    /// Somebody said so: nothing else will do. A second runtime on the node has none of the kubelet's pods, and its
    /// list would look as if all were gone.
    Named(PathBuf),
    /// The first that answers.
    Probed(Vec<PathBuf>),
}

impl SocketSearch {
    pub(super) fn candidates(&self) -> Candidates {
        match &self.socket {
            CriSocket::Off => Candidates::Off,
            CriSocket::Path(path) => {
                Candidates::Named(path.to_str().and_then(endpoint).unwrap_or_else(|| path.clone()))
            }
            CriSocket::Auto => match endpoint(&self.kubelet.settings().runtime_endpoint) {
                Some(path) => Candidates::Named(path),
                None => Candidates::Probed(KNOWN.iter().map(PathBuf::from).collect()),
            },
        }
    }

    /// The path as this process reaches it.
    pub(super) fn below_root(&self, path: &Path) -> PathBuf {
        self.host_root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// The path of an endpoint: `unix:///run/x.sock`, `unix:/run/x.sock` or `/run/x.sock`; `None` for anything else.
fn endpoint(text: &str) -> Option<PathBuf> {
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    let path = match path.strip_prefix("/var/run/") {
        Some(rest) => format!("/run/{rest}"),
        None => path.to_owned(),
    };
    let plain = Path::new(&path).components().all(|part| part != std::path::Component::ParentDir);
    (path.starts_with('/') && path.len() > 1 && plain).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::kubelet::{KubeletSettings, KubeletState};

    struct Kubelet(&'static str);

    impl KubeletSource for Kubelet {
        fn settings(&self) -> KubeletSettings {
            KubeletSettings { runtime_endpoint: self.0.into(), ..KubeletSettings::default() }
        }

        fn state(&self) -> KubeletState {
            KubeletState::default()
        }
    }

    fn search(socket: CriSocket, endpoint: &'static str) -> SocketSearch {
        SocketSearch { socket, host_root: "/host".into(), kubelet: Arc::new(Kubelet(endpoint)) }
    }

    #[test]
    fn the_flag_comes_before_the_kubelet_and_the_kubelet_before_known_places() {
        let named = |path: &str| Candidates::Named(path.into());
        let rows = [
            (CriSocket::Off, "unix:///run/x.sock", Candidates::Off),
            (CriSocket::Path("/run/y.sock".into()), "unix:///run/x.sock", named("/run/y.sock")),
            (CriSocket::Path("/var/run/y.sock".into()), "", named("/run/y.sock")),
            (CriSocket::Auto, "unix:///run/x.sock", named("/run/x.sock")),
            (CriSocket::Auto, "unix:///var/run/crio/crio.sock", named("/run/crio/crio.sock")),
            (CriSocket::Auto, "/run/x.sock", named("/run/x.sock")),
            (CriSocket::Auto, "unix:/run/x.sock", named("/run/x.sock")),
            (CriSocket::Auto, "", Candidates::Probed(KNOWN.iter().map(PathBuf::from).collect())),
            (CriSocket::Auto, "tcp://127.0.0.1:1", Candidates::Probed(KNOWN.iter().map(PathBuf::from).collect())),
        ];
        for (flag, endpoint, expected) in rows {
            assert_eq!(search(flag.clone(), endpoint).candidates(), expected, "{flag:?} {endpoint}");
        }
        let below = search(CriSocket::Auto, "").below_root(Path::new("/run/x.sock"));
        assert_eq!(below, Path::new("/host/run/x.sock"));
    }
}
