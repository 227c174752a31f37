//! Instruments of the gRPC server: calls by method and code, how long they took, and who was turned away.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;
use tonic::Code;

use super::labels::{HandledLabels, MethodLabels, ReasonLabel};

/// Upper bounds of a call in seconds: an encoded answer leaves in tens of microseconds.
const CALL_BUCKETS_SECONDS: [f64; 9] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0];

/// Full name of the agent's own service.
const NODE_STATE: &str = "trimtab.node.v1alpha1.NodeState";

/// A method that the server knows, or any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcMethod {
    /// `v1.PodResourcesLister/List`.
    List,
    /// `v1.PodResourcesLister/GetAllocatableResources`.
    GetAllocatableResources,
    /// `v1.PodResourcesLister/Get`.
    Get,
    /// `v1alpha1.PodResourcesLister/List`.
    ListV1Alpha1,
    /// `trimtab.node.v1alpha1.NodeState/GetReport`.
    GetReport,
    /// `trimtab.node.v1alpha1.NodeState/ListPlacements`.
    ListPlacements,
    /// `trimtab.node.v1alpha1.NodeState/GetTopology`.
    GetTopology,
    /// `trimtab.node.v1alpha1.NodeState/ListObjects`.
    ListObjects,
    /// `trimtab.node.v1alpha1.NodeState/Plan`.
    Plan,
    /// `trimtab.node.v1alpha1.NodeState/ListHistory`.
    ListHistory,
    /// `trimtab.node.v1alpha1.NodeState/Watch`.
    NodeStateWatch,
    /// `trimtab.node.v1alpha1.NodeState/Resync`.
    Resync,
    /// `trimtab.node.v1alpha1.NodeState/Rollback`.
    Rollback,
    /// `trimtab.node.v1alpha1.NodeState/Pause`.
    Pause,
    /// `trimtab.node.v1alpha1.NodeState/Resume`.
    Resume,
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
    /// Reflection, version 1.
    ReflectionV1,
    /// Reflection, version 1alpha.
    ReflectionV1Alpha,
    /// Anything else.
    Other,
}

impl GrpcMethod {
    /// Every method.
    pub const ALL: [Self; 20] = [
        Self::List,
        Self::GetAllocatableResources,
        Self::Get,
        Self::ListV1Alpha1,
        Self::GetReport,
        Self::ListPlacements,
        Self::GetTopology,
        Self::ListObjects,
        Self::Plan,
        Self::ListHistory,
        Self::NodeStateWatch,
        Self::Resync,
        Self::Rollback,
        Self::Pause,
        Self::Resume,
        Self::HealthCheck,
        Self::HealthWatch,
        Self::ReflectionV1,
        Self::ReflectionV1Alpha,
        Self::Other,
    ];

    /// Service and method, as they are on the wire; `other` for both if unknown.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::List => ("v1.PodResourcesLister", "List"),
            Self::GetAllocatableResources => ("v1.PodResourcesLister", "GetAllocatableResources"),
            Self::Get => ("v1.PodResourcesLister", "Get"),
            Self::ListV1Alpha1 => ("v1alpha1.PodResourcesLister", "List"),
            Self::GetReport => (NODE_STATE, "GetReport"),
            Self::ListPlacements => (NODE_STATE, "ListPlacements"),
            Self::GetTopology => (NODE_STATE, "GetTopology"),
            Self::ListObjects => (NODE_STATE, "ListObjects"),
            Self::Plan => (NODE_STATE, "Plan"),
            Self::ListHistory => (NODE_STATE, "ListHistory"),
            Self::NodeStateWatch => (NODE_STATE, "Watch"),
            Self::Resync => (NODE_STATE, "Resync"),
            Self::Rollback => (NODE_STATE, "Rollback"),
            Self::Pause => (NODE_STATE, "Pause"),
            Self::Resume => (NODE_STATE, "Resume"),
            Self::HealthCheck => ("grpc.health.v1.Health", "Check"),
            Self::HealthWatch => ("grpc.health.v1.Health", "Watch"),
            Self::ReflectionV1 => ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
            Self::ReflectionV1Alpha => ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
            Self::Other => ("other", "other"),
        }
    }

    /// The method of a request path `/service/method`.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return Self::Other;
        };
        Self::ALL.into_iter().find(|known| known.names() == (service, method)).unwrap_or(Self::Other)
    }
}

/// Codes that the server or its library answers with; their series exist from the start.
const ANSWERED: [Code; 11] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::NotFound,
    Code::InvalidArgument,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
];

/// Why a connection was closed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// Too many are open.
    Capacity,
    /// What was sent is not HTTP/2.
    Malformed,
}

impl ConnectionEnd {
    const ALL: [Self; 2] = [Self::Capacity, Self::Malformed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Malformed => "malformed",
        }
    }
}

/// The instruments; a clone counts into the same series.
#[derive(Debug, Clone)]
pub struct GrpcMetrics {
    handled: Family<HandledLabels, Counter>,
    handling: Family<MethodLabels, Histogram>,
    connections: Gauge,
    connections_closed: Family<ReasonLabel, Counter>,
    peers_refused: Counter,
    rate_limited: Counter,
    calls: Gauge,
}

impl GrpcMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            handled: Family::default(),
            handling: Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS_SECONDS)),
            connections: Gauge::default(),
            connections_closed: Family::default(),
            peers_refused: Counter::default(),
            rate_limited: Counter::default(),
            calls: Gauge::default(),
        };
        registry.register("grpc_handled", "Calls that have ended, by gRPC status code", metrics.handled.clone());
        registry.register_with_unit(
            "grpc_handling",
            "How long a call took from its headers to its status",
            Unit::Seconds,
            metrics.handling.clone(),
        );
        registry.register("grpc_calls_in_progress", "Calls in progress, watches included", metrics.calls.clone());
        registry.register("grpc_connections", "Open connections to the socket", metrics.connections.clone());
        registry.register(
            "grpc_connections_closed",
            "Connections closed by the agent because of what the client did",
            metrics.connections_closed.clone(),
        );
        registry.register(
            "grpc_peers_refused",
            "Connections of users or groups that may not use the socket",
            metrics.peers_refused.clone(),
        );
        registry.register("grpc_rate_limited", "Calls rejected by the rate limit", metrics.rate_limited.clone());
        metrics.create_series();
        metrics
    }

    fn create_series(&self) {
        for method in GrpcMethod::ALL {
            let (service, method) = method.names();
            let _ = self.handling.get_or_create(&MethodLabels { service, method });
            for code in ANSWERED {
                let _ = self.handled.get_or_create(&HandledLabels { service, method, code: code_name(code) });
            }
        }
        for reason in ConnectionEnd::ALL {
            let _ = self.connections_closed.get_or_create(&ReasonLabel { reason: reason.as_str() });
        }
    }

    /// Starts to time a call.
    #[must_use]
    pub fn begin(&self, method: GrpcMethod) -> Call {
        self.calls.inc();
        Call { metrics: self.clone(), method, since: Instant::now(), code: Code::Cancelled }
    }

    /// Calls of a method that have ended, and how many of them with an error; those that were turned away by the rate
    /// limit are in neither.
    pub(super) fn ended(&self, method: GrpcMethod) -> (u64, u64) {
        let (service, method) = method.names();
        let of_code = |code: Code| {
            let labels = HandledLabels { service, method, code: code_name(code) };
            self.handled.get(&labels).map_or(0, |counter| counter.get())
        };
        let codes = (0..=16).map(Code::from_i32).filter(|code| *code != Code::ResourceExhausted);
        let all: u64 = codes.map(of_code).sum();
        (all, all.saturating_sub(of_code(Code::Ok)))
    }

    /// The number of open connections; the holder adds and takes away.
    #[must_use]
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// A connection was closed because of what the client did.
    pub fn closed(&self, end: ConnectionEnd) {
        self.connections_closed.get_or_create(&ReasonLabel { reason: end.as_str() }).inc();
    }

    /// A connection came from a peer that is not allowed.
    pub fn peer_refused(&self) {
        self.peers_refused.inc();
    }

    /// A call was rejected by the rate limit.
    pub fn rate_limited(&self) {
        self.rate_limited.inc();
    }
}

/// A call in progress; counted when dropped, as cancelled unless a status was set.
#[derive(Debug)]
pub struct Call {
    metrics: GrpcMetrics,
    method: GrpcMethod,
    since: Instant,
    code: Code,
}

impl Call {
    /// Takes note of the status that is sent.
    pub fn answered(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.calls.dec();
        let (service, method) = self.method.names();
        let code = code_name(self.code);
        self.metrics.handled.get_or_create(&HandledLabels { service, method, code }).inc();
        let elapsed = self.since.elapsed().as_secs_f64();
        self.metrics.handling.get_or_create(&MethodLabels { service, method }).observe(elapsed);
    }
}

/// Name of a code as gRPC spells it.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
