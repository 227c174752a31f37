//! `grpc.health.v1.Health`: serving while the agent is ready, not before and not while it stops.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{Refused, status};

/// What health tells; the channel is closed when the agent stops, which ends every watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Serving {
    /// The first full pass is not over, or the agent is stopping.
    #[default]
    No,
    /// Answers are complete.
    Yes,
}

impl From<Serving> for HealthCheckResponse {
    fn from(serving: Serving) -> Self {
        let status = match serving {
            Serving::No => ServingStatus::NotServing,
            Serving::Yes => ServingStatus::Serving,
        };
        Self { status: status.into() }
    }
}

/// The service. All services of the socket share one state: they read the same placements and report.
#[derive(Debug, Clone)]
pub(crate) struct HealthAnswers {
    serving: watch::Receiver<Serving>,
    /// Services that can be asked about, besides `""` for the whole server.
    services: &'static [&'static str],
}

impl HealthAnswers {
    pub(crate) fn new(serving: watch::Receiver<Serving>, services: &'static [&'static str]) -> Self {
        Self { serving, services }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

#[tonic::async_trait]
impl Health for HealthAnswers {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !self.knows(&service) {
            return Err(status(&Refused::HealthUnknown { service }));
        }
        Ok(Response::new(HealthCheckResponse::from(*self.serving.borrow())))
    }

    type WatchStream = HealthWatch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthWatch>, Status> {
        let known = self.knows(&request.into_inner().service);
        Ok(Response::new(HealthWatch { serving: Some(WatchStream::new(self.serving.clone())), known }))
    }
}

/// Each change of state, until the agent stops: then code UNAVAILABLE.
#[derive(Debug)]
pub(crate) struct HealthWatch {
    /// `None` after the end.
    serving: Option<WatchStream<Serving>>,
    known: bool,
}

impl Stream for HealthWatch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let known = self.known;
        let Some(serving) = self.serving.as_mut() else { return Poll::Ready(None) };
        match Pin::new(serving).poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(serving)) if known => Poll::Ready(Some(Ok(HealthCheckResponse::from(serving)))),
            // health.proto: an unknown service is told so and the call stays open, as it may appear later.
            Poll::Ready(Some(_)) => {
                Poll::Ready(Some(Ok(HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() })))
            }
            Poll::Ready(None) => {
                self.serving = None;
                Poll::Ready(Some(Err(status(&Refused::Stopping))))
            }
        }
    }
}
