//! `trimtab.node.v1alpha1.NodeState`: which answer belongs to which method.
//!
//! Written by hand, not generated, because a generated service encodes each message of a watch anew for every watcher.

mod history;
mod objects;
mod orders;
mod page;
mod placements;
mod report;
mod stream;
mod topology;
mod watch;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use axum::http::{Extensions, Request, Response};
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use trimtab_proto::node::v1alpha1 as wire;

use self::orders::Orders;
use self::placements::Wanted;
use self::report::Detail;
pub use self::watch::WatchLimits;
pub(crate) use self::watch::Watchers;
use super::{Refused, Sources, status, unary, unknown};
use crate::metrics::GrpcMethod;
use crate::picture::Topology;
use crate::reconcile::report::NodeReport;

/// What the calls are answered from.
#[derive(Debug)]
struct Answers {
    sources: Sources,
    orders: Orders,
}

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct NodeState {
    answers: Arc<Answers>,
}

impl NodeState {
    pub(crate) fn new(sources: &Sources) -> Self {
        let orders = Orders::new(Arc::clone(&sources.switchboard), Arc::clone(&sources.history));
        Self { answers: Arc::new(Answers { sources: sources.clone(), orders }) }
    }
}

impl NamedService for NodeState {
    const NAME: &'static str = "trimtab.node.v1alpha1.NodeState";
}

impl Service<Request<Body>> for NodeState {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answers = Arc::clone(&self.answers);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let path = head.uri.path();
            let method = GrpcMethod::of_path(path);
            if method == GrpcMethod::NodeStateWatch {
                let watch = unary::read(body).await.and_then(|request| answers.sources.watchers.watch(&request));
                return Ok(watch.unwrap_or_else(|refused| status(&refused).into_http()));
            }
            let answer = answers.answer(method, &head.extensions, body).await;
            Ok(unary::respond(answer.and_then(|answer| answer.ok_or_else(|| unknown(path)))))
        })
    }
}

impl Answers {
    /// The framed answer to a unary call; `None` for a method of another service.
    async fn answer(&self, method: GrpcMethod, caller: &Extensions, body: Body) -> Result<Option<Bytes>, Refused> {
        let answer = match method {
            GrpcMethod::GetReport => unary::frame(&self.report(&unary::read(body).await?)?),
            GrpcMethod::ListObjects => {
                let request = unary::read(body).await?;
                unary::frame(&objects::list(&self.latest(), &self.sources.metrics, &request)?)
            }
            GrpcMethod::ListPlacements => unary::frame(&self.placements(&unary::read(body).await?)),
            GrpcMethod::GetTopology => {
                let wire::GetTopologyRequest {} = unary::read(body).await?;
                unary::frame(&self.topology())
            }
            GrpcMethod::ListHistory => unary::frame(&history::list(&self.sources.history, &unary::read(body).await?)?),
            GrpcMethod::Plan => unary::frame(&self.orders.plan(caller, unary::read(body).await?).await?),
            GrpcMethod::Resync => unary::frame(&self.orders.resync(caller, unary::read(body).await?).await?),
            GrpcMethod::Rollback => unary::frame(&self.orders.rollback(caller, unary::read(body).await?).await?),
            GrpcMethod::Pause => unary::frame(&self.orders.pause(caller, unary::read(body).await?).await?),
            GrpcMethod::Resume => unary::frame(&self.orders.resume(caller, unary::read(body).await?).await?),
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }

    fn latest(&self) -> Arc<NodeReport> {
        Arc::clone(&self.sources.report.borrow())
    }

    fn report(&self, request: &wire::GetReportRequest) -> Result<wire::GetReportResponse, Refused> {
        let report = self.latest();
        let detail = match request.view() {
            wire::ReportView::Basic => Detail::Basic,
            wire::ReportView::Full | wire::ReportView::Unspecified => Detail::Full,
        };
        for name in &request.subsystems {
            objects::subsystem(&report, name)?;
        }
        let wanted = |name: &str| request.subsystems.is_empty() || request.subsystems.iter().any(|other| other == name);
        let subsystems = report.subsystems.iter().filter(|subsystem| wanted(subsystem.name));
        let now = Some(SystemTime::now());
        let subsystems = subsystems.map(|subsystem| report::to_subsystem(subsystem, detail, now)).collect();
        Ok(wire::GetReportResponse { report: Some(wire::NodeReport { subsystems, ..report::to_node(&report) }) })
    }

    fn placements(&self, request: &wire::ListPlacementsRequest) -> wire::ListPlacementsResponse {
        let view = Arc::clone(&self.sources.view.borrow());
        placements::to_wire(&view, &Wanted { namespace: &request.namespace, pod: &request.pod })
    }

    fn topology(&self) -> wire::GetTopologyResponse {
        let (view, node) = (Arc::clone(&self.sources.view.borrow()), self.latest().node.clone());
        wire::GetTopologyResponse { topology: Some(topology::to_wire(&Topology::new(&node, &view))) }
    }
}
