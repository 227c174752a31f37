//! The gRPC services on the unix socket, and the one place where a refusal becomes a status.

mod guard;
mod health;
mod limit;
mod node_state;
mod on_demand;
mod podresources;
mod retry;
mod unary;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use trimtab_proto::{node, podresources as wire};

pub(crate) use self::guard::Guard;
use self::health::HealthAnswers;
pub(crate) use self::health::Serving;
pub(crate) use self::limit::PeerLimiter;
pub use self::limit::RateLimit;
use self::node_state::NodeState;
pub use self::node_state::WatchLimits;
pub(crate) use self::node_state::Watchers;
use self::on_demand::OnDemand;
use self::podresources::{Lister, PodResourcesV1, PodResourcesV1Alpha1};
use crate::metrics::Metrics;
use crate::reconcile::history::History;
use crate::reconcile::node_view::NodeView;
use crate::reconcile::orders::{Switchboard, Undelivered};
use crate::reconcile::report::NodeReport;
use crate::serve::kubelet::KubeletSide;
use crate::serve::peer::{Identity, NotAdmin};

/// Longest request that is read; the largest sensible one bears a profile to be planned for.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Answers above this are refused by clients that keep gRPC's default receive limit.
pub(crate) const COMMON_CLIENT_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// Why a call is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Text and code are the kubelet's: clients match the text, and code UNKNOWN is what they have always seen.
    #[error("pod {name} in namespace {namespace} not found")]
    PodNotFound { name: String, namespace: String },
    #[error("unknown method {method} for service {service}")]
    UnknownMethod { method: String, service: String },
    #[error("unknown service {service}")]
    UnknownService { service: String },
    /// The kubelet's text; clients match it.
    #[error("rejected by rate limit")]
    RateLimited,
    #[error("too many calls are in progress; try again later")]
    Overloaded,
    #[error("peer with {peer} may not use this socket; the agent's list of allowed users and groups decides")]
    PeerNotAllowed { peer: Identity },
    #[error(transparent)]
    NotAdmin(#[from] NotAdmin),
    #[error("grpc: received message larger than max ({bytes} vs. {limit})")]
    TooLarge { bytes: usize, limit: usize },
    #[error("cannot decode the request: {detail}")]
    Malformed { detail: String },
    #[error("unknown service {service}")]
    HealthUnknown { service: String },
    #[error("the agent is stopping")]
    Stopping,
    #[error("{field}: {detail}")]
    Argument { field: &'static str, detail: String },
    #[error(transparent)]
    Undelivered(#[from] Undelivered),
    #[error("too many {what} were asked for; wait a few seconds")]
    TooOften { what: &'static str },
    #[error("{limit} watches are open already; end one, or ask with GetReport")]
    TooManyWatchers { limit: usize },
    #[error("nothing was read for {}; watch again with resume_version {version}", humantime::format_duration(*patience))]
    TooSlow { patience: Duration, version: u64 },
    #[error("no answer was ready within {}; try again later", humantime::format_duration(*after))]
    TooLate { after: Duration },
    #[error("compressed requests are not supported; send them with grpc-encoding identity")]
    Compressed,
}

/// The only maker of statuses.
pub(crate) fn status(refused: &Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::PodNotFound { .. } => Status::unknown(text),
        Refused::UnknownMethod { .. } | Refused::UnknownService { .. } | Refused::Compressed => {
            Status::unimplemented(text)
        }
        Refused::RateLimited | Refused::Overloaded => retry::later(text),
        Refused::TooLarge { .. }
        | Refused::TooOften { .. }
        | Refused::TooManyWatchers { .. }
        | Refused::TooSlow { .. }
        | Refused::Undelivered(Undelivered::Busy { .. }) => Status::resource_exhausted(text),
        Refused::Argument { .. } | Refused::Undelivered(Undelivered::Unknown { .. }) => Status::invalid_argument(text),
        Refused::PeerNotAllowed { .. } | Refused::NotAdmin(_) => Status::permission_denied(text),
        Refused::TooLate { .. } => Status::deadline_exceeded(text),
        Refused::HealthUnknown { .. } => Status::not_found(text),
        Refused::Stopping | Refused::Undelivered(Undelivered::Stopping) => Status::unavailable(text),
        Refused::Malformed { .. } => Status::internal(text),
    }
}

/// Why a path that is not one of ours leads nowhere, in the words of grpc-go.
pub(crate) fn unknown(path: &str) -> Refused {
    let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or_default();
    if SERVICES.contains(&service) {
        Refused::UnknownMethod { method: method.to_owned(), service: service.to_owned() }
    } else {
        Refused::UnknownService { service: service.to_owned() }
    }
}

/// What the services read.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The latest report.
    pub(crate) report: watch::Receiver<Arc<NodeReport>>,
    /// The latest placements.
    pub(crate) view: watch::Receiver<Arc<NodeView>>,
    /// The kubelet; `None`: it is not asked.
    pub(crate) kubelet: Option<KubeletSide>,
    /// What health tells.
    pub(crate) serving: watch::Receiver<Serving>,
    /// What was changed.
    pub(crate) history: Arc<History>,
    /// The way to the engine.
    pub(crate) switchboard: Arc<Switchboard>,
    /// Who watches.
    pub(crate) watchers: Watchers,
    /// What rules have counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// The services whose health can be asked for.
const SERVICES: [&str; 3] = ["v1.PodResourcesLister", "v1alpha1.PodResourcesLister", "trimtab.node.v1alpha1.NodeState"];

/// Whether clients may ask which services and messages there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reflection {
    /// Both versions of the reflection service are offered.
    #[default]
    Offered,
    /// None is.
    Off,
}

/// All services of the socket.
pub(crate) fn routes(sources: &Sources, reflection: Reflection) -> Routes {
    let health = HealthServer::new(HealthAnswers::new(sources.serving.clone(), &SERVICES));
    let lister = Arc::new(Lister::new(sources.view.clone(), sources.kubelet.clone()));
    let mut routes = Routes::builder();
    routes
        .add_service(PodResourcesV1::new(Arc::clone(&lister)))
        .add_service(PodResourcesV1Alpha1::new(lister))
        .add_service(NodeState::new(sources))
        .add_service(health.max_decoding_message_size(MAX_REQUEST_BYTES));
    if reflection == Reflection::Offered {
        // The descriptor sets are made by the build; if the library rejected one, a test would show it first.
        routes
            .add_service(OnDemand::by(|| describe().build_v1().ok()))
            .add_service(OnDemand::by(|| describe().build_v1alpha().ok()));
    }
    routes.routes().prepare()
}

/// The packages that reflection describes.
fn describe() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(wire::v1alpha1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(node::v1alpha1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
