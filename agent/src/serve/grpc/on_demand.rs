//! A service that is made when it is first called: the tables of reflection are large, and most nodes are never asked.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::{Refused, status};

/// The service, once it is made. `None`: it cannot be made, and is unknown to who asks for it.
pub(super) struct OnDemand<S> {
    made: Arc<OnceLock<Option<S>>>,
    make: fn() -> Option<S>,
}

impl<S> OnDemand<S> {
    /// Made by this when it is first called.
    pub(super) fn by(make: fn() -> Option<S>) -> Self {
        Self { made: Arc::default(), make }
    }
}

impl<S> Clone for OnDemand<S> {
    fn clone(&self) -> Self {
        Self { made: Arc::clone(&self.made), make: self.make }
    }
}

impl<S: NamedService> NamedService for OnDemand<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for OnDemand<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService + Clone,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    /// The services that are made like this are always ready.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.made.get_or_init(self.make).clone() {
            Some(mut service) => Box::pin(service.call(request)),
            None => {
                let unknown = Refused::UnknownService { service: S::NAME.to_owned() };
                Box::pin(ready(Ok(status(&unknown).into_http())))
            }
        }
    }
}
