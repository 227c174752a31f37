//! What every call passes before a service sees it: who asks, how often, and what for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::limit::PeerLimiter;
use super::{Refused, status, unknown};
use crate::metrics::{Call, GrpcMethod, GrpcMetrics};
use crate::serve::peer::{Access, Peer};

/// Longest time to the first byte of an answer; a client's own deadline counts if it is shorter.
const ANSWER: Duration = Duration::from_secs(30);

/// The services behind the checks.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    routes: Routes,
    limiter: Arc<PeerLimiter>,
    /// A permit for each call in progress.
    places: Arc<Semaphore>,
    metrics: GrpcMetrics,
}

impl Guard {
    /// `calls`: how many may be in progress at once.
    pub(crate) fn new(routes: Routes, limiter: PeerLimiter, calls: usize, metrics: GrpcMetrics) -> Self {
        Self { routes, limiter: Arc::new(limiter), places: Arc::new(Semaphore::new(calls)), metrics }
    }

    /// # Errors
    /// Why the call goes no further.
    fn check(&self, request: &Request<Body>, method: GrpcMethod) -> Result<OwnedSemaphorePermit, Turned> {
        // Every connection of ours puts it there.
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Err(Turned::Http(StatusCode::FORBIDDEN));
        };
        if peer.access == Access::Refused {
            return Err(Turned::Refused(Refused::PeerNotAllowed { peer: peer.identity.clone() }));
        }
        if !self.limiter.admits(peer, Instant::now()) {
            self.metrics.rate_limited();
            return Err(Turned::Refused(Refused::RateLimited));
        }
        if request.method() != Method::POST {
            return Err(Turned::Http(StatusCode::METHOD_NOT_ALLOWED));
        }
        if !is_grpc(request.headers()) {
            return Err(Turned::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if method == GrpcMethod::Other {
            return Err(Turned::Refused(unknown(request.uri().path())));
        }
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Turned::Refused(Refused::Overloaded))
    }
}

/// A call that goes no further: with a status, or, if it is not gRPC at all, with an HTTP status as
/// "gRPC over HTTP2", section "Requests", asks for.
enum Turned {
    Refused(Refused),
    Http(StatusCode),
}

/// True for `application/grpc`, alone or with a suffix such as `+proto` or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    content_type
        .as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

impl Service<Request<Body>> for Guard {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = GrpcMethod::of_path(request.uri().path());
        let call = self.metrics.begin(method);
        match self.check(&request, method) {
            Ok(place) => {
                let answer = self.routes.call(request);
                Box::pin(async move {
                    let late = |_| Ok(status(&Refused::TooLate { after: ANSWER }).into_http());
                    let response = tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(late)?;
                    Ok(observed(response, call, Some(place)))
                })
            }
            Err(Turned::Refused(refused)) => {
                let response = observed(status(&refused).into_http(), call, None);
                Box::pin(std::future::ready(Ok(response)))
            }
            Err(Turned::Http(code)) => Box::pin(std::future::ready(Ok(not_grpc(code, call)))),
        }
    }
}

fn not_grpc(code: StatusCode, mut call: Call) -> Response<Body> {
    call.answered(Code::from_i32(if code == StatusCode::METHOD_NOT_ALLOWED { 13 } else { 2 }));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// The response, whose call ends with the status in its headers or trailers.
fn observed(response: Response<Body>, mut call: Call, place: Option<OwnedSemaphorePermit>) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        call.answered(status.code());
        return response;
    }
    response.map(|inner| if inner.is_end_stream() { inner } else { Body::new(Observed { inner, call, _place: place }) })
}

/// A body that takes note of the status in its trailers.
struct Observed {
    inner: Body,
    call: Call,
    /// Given back with the end of the call.
    _place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.answered(status.code());
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.answered(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
