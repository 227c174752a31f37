//! The thread that speaks with the API server: its own, so that a profile of a megabyte delays no answer, and none at all
//! where there is no API server to speak with.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::node;
use crate::adapters::api_server::{Access, connect};
use crate::adapters::profile_object::{self, Offer};
use crate::cluster::migration::{MigrationPorts, OwnPod};
use crate::cluster::rollout::Taken;
use crate::cluster::{Cluster, NodeSide, Pace};
use crate::config::{ApiArgs, ApiServerAt, KubeArgs, ProfileSource, RunArgs};
use crate::ports::api_stats::ApiStats;

/// Pause before files that cannot be used (not written yet, half written) are looked at again.
const CONNECT_AGAIN: Duration = Duration::from_secs(30);

/// The thread.
pub(super) struct ClusterThread;

impl ClusterThread {
    /// Starts it if there is an API server; what comes back is what that has for this node.
    pub(super) fn start(
        args: &RunArgs,
        (mut side, stats): (NodeSide, Arc<ApiStats>),
        cancel: &CancellationToken,
    ) -> anyhow::Result<Option<watch::Receiver<Offer>>> {
        let Some(access) = access(&args.kube.api)? else {
            if args.kube.profile_source == ProfileSource::Object {
                bail!("--profile-source object needs an API server; give --kubeconfig or --api-server");
            }
            return Ok(None);
        };
        side.migration = side.migration.map(|ports| with_own_pod(&args.kube, ports));
        let (cluster, offers) = Cluster::new(node::name(&args.node)?, Pace::default());
        let cluster = cluster.holding(profile_object::kept(&args.node.state_dir).and_then(Taken::of_kept));
        let runtime =
            Builder::new_current_thread().enable_all().build().context("cannot start the cluster's runtime")?;
        let cancel = cancel.clone();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = speak(cluster, &access, (side, stats), cancel.clone()) => {}
                }
            });
            // A request that hangs must not keep the process.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("cluster".to_owned()).spawn(run).context("cannot start the cluster's thread")?;
        Ok(Some(offers))
    }
}

async fn speak(cluster: Cluster, access: &Access, (side, stats): (NodeSide, Arc<ApiStats>), cancel: CancellationToken) {
    let api = loop {
        match connect(access).await {
            Ok(api) => break api.counting(stats),
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!(error = format!("{error:#}"), "the API server cannot be addressed; the node is held without it");
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
        }
    };
    info!(?access, "following the API server");
    cluster.run(api, side, cancel).await;
}

/// How the API server is reached; `None`: not at all.
pub(super) fn access(args: &ApiArgs) -> anyhow::Result<Option<Access>> {
    let account = |server: String| Access::ServiceAccount { server, directory: args.service_account.clone() };
    match (&args.api_server, &args.kubeconfig) {
        (ApiServerAt::Off, _) => Ok(None),
        (ApiServerAt::Url(_), Some(_)) => {
            bail!("--api-server has an address and so has the kubeconfig; give one of them")
        }
        (ApiServerAt::Url(url), None) => Ok(Some(account(url.clone()))),
        (ApiServerAt::Auto, Some(path)) => Ok(Some(Access::Kubeconfig(path.clone()))),
        (ApiServerAt::Auto, None) => {
            let host = args.service_host.as_ref().filter(|_| has_token(&args.service_account));
            Ok(host.map(|host| account(service_url(host, &args.service_port))))
        }
    }
}

/// Which pod is the agent's own, as the pod's environment says.
fn with_own_pod(args: &KubeArgs, mut ports: MigrationPorts) -> MigrationPorts {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (given(&args.pod_namespace), given(&args.pod_name)) {
        (Some(namespace), Some(name)) => {
            ports.namespace.clone_from(&namespace);
            ports.own = OwnPod::Named { namespace, name };
        }
        _ if args.api.service_host.is_some() => ports.own = OwnPod::Unknown,
        _ => {}
    }
    ports
}

/// A pod without a token of its own has nobody to speak as.
fn has_token(directory: &Path) -> bool {
    directory.join("token").exists()
}

fn service_url(host: &str, port: &str) -> String {
    if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn the_api_server_is_found_where_it_is_and_only_there() {
        let (with, without) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(with.path().join("token"), "t").unwrap();
        let args = |at: ApiServerAt, kubeconfig: Option<&str>, token: bool, host: Option<&str>| ApiArgs {
            api_server: at,
            kubeconfig: kubeconfig.map(Into::into),
            service_account: if token { with.path().into() } else { without.path().into() },
            service_host: host.map(Into::into),
            service_port: "443".into(),
        };
        let of_pod =
            |server: &str| Some(Access::ServiceAccount { server: server.into(), directory: with.path().into() });
        let cases = [
            ("nothing", args(ApiServerAt::Auto, None, false, None), None),
            ("a pod without a token", args(ApiServerAt::Auto, None, false, Some("10.0.0.1")), None),
            ("a token outside a pod", args(ApiServerAt::Auto, None, true, None), None),
            ("a pod", args(ApiServerAt::Auto, None, true, Some("10.0.0.1")), of_pod("https://10.0.0.1:443")),
            ("a pod of IPv6", args(ApiServerAt::Auto, None, true, Some("fd00::1")), of_pod("https://[fd00::1]:443")),
            ("off", args(ApiServerAt::Off, Some("k"), true, Some("10.0.0.1")), None),
            (
                "a kubeconfig first",
                args(ApiServerAt::Auto, Some("k"), true, Some("x")),
                Some(Access::Kubeconfig("k".into())),
            ),
            ("an address", args(ApiServerAt::Url("https://a".into()), None, true, None), of_pod("https://a")),
        ];
        for (name, args, expected) in cases {
            assert_eq!(access(&args).unwrap(), expected, "{name}");
        }
        assert!(access(&args(ApiServerAt::Url("https://a".into()), Some("k"), true, None)).is_err());
    }
}
