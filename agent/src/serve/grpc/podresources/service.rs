//! The two versions of the service: which answer belongs to which method.
//!
//! Written by hand, not generated, because a generated service encodes its answer anew for every call.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use trimtab_proto::podresources::{v1, v1alpha1};

use super::unary::{self, Told};
use super::{Lister, Refused};
use crate::metrics::GrpcMethod;
use crate::serve::grpc::unknown;

/// A version of the service.
pub(crate) trait Version: Send + Sync + 'static {
    /// Full name of the service.
    const NAME: &'static str;

    /// The answer to a call.
    fn answer(lister: &Lister, path: &str, body: Body) -> impl Future<Output = Result<Told, Refused>> + Send;
}

/// Version v1.
pub(crate) struct V1;

impl Version for V1 {
    const NAME: &'static str = "v1.PodResourcesLister";

    async fn answer(lister: &Lister, path: &str, body: Body) -> Result<Told, Refused> {
        match GrpcMethod::of_path(path) {
            GrpcMethod::List => {
                let v1::ListPodResourcesRequest {} = unary::read(body).await?;
                Ok(lister.list().await)
            }
            GrpcMethod::GetAllocatableResources => {
                let v1::AllocatableResourcesRequest {} = unary::read(body).await?;
                Ok(lister.allocatable().await)
            }
            GrpcMethod::Get => lister.pod(unary::read(body).await?).await,
            _ => Err(unknown(path)),
        }
    }
}

/// Version v1alpha1.
pub(crate) struct V1Alpha1;

impl Version for V1Alpha1 {
    const NAME: &'static str = "v1alpha1.PodResourcesLister";

    async fn answer(lister: &Lister, path: &str, body: Body) -> Result<Told, Refused> {
        match GrpcMethod::of_path(path) {
            GrpcMethod::ListV1Alpha1 => {
                let v1alpha1::ListPodResourcesRequest {} = unary::read(body).await?;
                Ok(lister.list_v1alpha1().await)
            }
            _ => Err(unknown(path)),
        }
    }
}

/// `v1.PodResourcesLister`.
pub(crate) type PodResourcesV1 = PodResources<V1>;

/// `v1alpha1.PodResourcesLister`.
pub(crate) type PodResourcesV1Alpha1 = PodResources<V1Alpha1>;

/// One version of the service over the shared answers.
pub(crate) struct PodResources<V> {
    lister: Arc<Lister>,
    version: PhantomData<V>,
}

impl<V> PodResources<V> {
    pub(crate) fn new(lister: Arc<Lister>) -> Self {
        Self { lister, version: PhantomData }
    }
}

impl<V> Clone for PodResources<V> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.lister))
    }
}

impl<V: Version> NamedService for PodResources<V> {
    const NAME: &'static str = V::NAME;
}

impl<V: Version> Service<Request<Body>> for PodResources<V> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lister = Arc::clone(&self.lister);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            Ok(unary::respond(V::answer(&lister, head.uri.path(), body).await))
        })
    }
}
