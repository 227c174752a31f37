//! The API server: single requests with a deadline, and watches, with every failure sorted by what it means.
//!
//! Thin on purpose. Objects are JSON, so no generated type is linked for what is only looked at; nothing is tried again
//! here, since only the caller knows what that would cost the server.

mod asked;
pub mod budget;
mod connect;
mod error;
mod path;
mod trust;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use kube::client::Body;
use serde_json::Value;

use self::asked::Asked;
use self::budget::Budget;
pub use self::connect::{Access, ConnectError, address, connect};
pub use self::error::ApiError;
pub(crate) use self::path::escape;
pub use self::path::{CONFIG_MAPS, Collection, EVENTS, LEASES, NODE_PROFILES, NODE_STATES, NODES, PODS, TOPOLOGIES};
pub(crate) use self::watch::version;
pub use self::watch::{Watch, WatchEvent};
use crate::ports::api_stats::{ApiStats, ApiVerb};

/// Longest time for one answer; the API server itself gives up after 60 s.
const PATIENCE: Duration = Duration::from_secs(15);
/// Largest answer that is read: a list of profiles, of at most 1.5 MiB each.
const MAX_ANSWER: usize = 64 << 20;

/// Name under which the agent's fields are owned.
pub const FIELD_MANAGER: &str = "trimtab";

/// A connection to the API server; clones share it.
#[derive(Clone)]
pub struct ApiServer {
    link: Link,
    token: Option<connect::TokenFile>,
    namespace: String,
    budget: Arc<Budget>,
    stats: Arc<ApiStats>,
}

/// The client of each request.
#[derive(Clone)]
enum Link {
    /// Always this one.
    Fixed(kube::Client),
    /// One that trusts whom a file names now.
    Trusting(Arc<trust::Trust>),
}

impl Link {
    fn client(&self) -> kube::Client {
        match self {
            Self::Fixed(client) => client.clone(),
            Self::Trusting(trust) => trust.client(),
        }
    }
}

/// How a body changes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
    /// Lists of maps are merged by their keys; built-in kinds only.
    Strategic,
}

impl Patch {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// How much of an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
    /// `metadata` alone, which for a Node is a tenth.
    Metadata,
    /// The printer columns, as `kubectl get -o wide` shows them (Kubernetes API concepts, "Receiving resources as Tables").
    Table,
}

impl Form {
    const fn accept(self, list: bool) -> &'static str {
        match (self, list) {
            (Self::Whole, _) => "application/json",
            (Self::Metadata, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            (Self::Table, _) => "application/json;as=Table;g=meta.k8s.io;v=v1",
            (Self::Metadata, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        }
    }
}

impl ApiServer {
    /// Speaks through this client, whose own retries should be off.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self::over(Link::Fixed(client))
    }

    fn over(link: Link) -> Self {
        let namespace = link.client().default_namespace().to_owned();
        Self { link, token: None, namespace, budget: Arc::default(), stats: Arc::default() }
    }

    /// The agent's own namespace: that of its pod, else that of the kubeconfig.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Counts here what is asked and how it is answered.
    #[must_use]
    pub fn counting(self, stats: Arc<ApiStats>) -> Self {
        Self { stats, ..self }
    }

    /// What was asked so far, and how it was answered.
    #[must_use]
    pub fn stats(&self) -> &ApiStats {
        &self.stats
    }

    /// Reads an object; `None` if it is not there.
    ///
    /// # Errors
    /// [`ApiError`]; a kind that is not served counts as absent, too.
    pub async fn read(&self, path: &str, form: Form) -> Result<Option<Value>, ApiError> {
        let request = request(Method::GET, path).header(header::ACCEPT, form.accept(false));
        match self.ask(ApiVerb::Get, request, Vec::new()).await {
            Ok(object) => Ok(Some(object)),
            Err(ApiError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads one page of a collection: the list as the server sends it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn list(&self, path_and_query: &str, form: Form) -> Result<Value, ApiError> {
        let request = request(Method::GET, path_and_query).header(header::ACCEPT, form.accept(true));
        self.ask(ApiVerb::List, request, Vec::new()).await
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if one of its name is there.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, ApiError> {
        let path = format!("{collection}?fieldManager={FIELD_MANAGER}");
        let request = request(Method::POST, &path).header(header::CONTENT_TYPE, "application/json");
        self.ask(ApiVerb::Create, request, body(object)).await
    }

    /// Replaces an object; with a resource version in it only if it is still at that version.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if somebody was faster.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        let request = request(Method::PUT, &path).header(header::CONTENT_TYPE, "application/json");
        self.ask(ApiVerb::Update, request, body(object)).await
    }

    /// Makes an object have these fields and owns them in this manager's name, whoever owned them before; what the manager
    /// owned and is not among them any more is removed (KEP-555). An object that is not there is made.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn apply(&self, path: &str, manager: &str, object: &Value) -> Result<Value, ApiError> {
        let path = format!("{path}?fieldManager={manager}&force=true");
        // JSON is YAML, and every server from 1.16 on takes this type.
        let request = request(Method::PATCH, &path).header(header::CONTENT_TYPE, "application/apply-patch+yaml");
        self.ask(ApiVerb::Apply, request, body(object)).await
    }

    /// Changes an object.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn patch(&self, path: &str, patch: Patch, change: &Value) -> Result<Value, ApiError> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        let request = request(Method::PATCH, &path).header(header::CONTENT_TYPE, patch.content_type());
        self.ask(ApiVerb::Patch, request, body(change)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.ask(ApiVerb::Delete, request(Method::DELETE, path), Vec::new()).await
    }

    /// Watches a collection from a resource version on.
    ///
    /// # Errors
    /// [`ApiError`], [`ApiError::Gone`] if the server no longer knows what came after that version.
    pub async fn watch(&self, path_and_query: &str, form: Form) -> Result<Watch, ApiError> {
        let request = request(Method::GET, path_and_query).header(header::ACCEPT, form.accept(false));
        let request = whole(request, Vec::new())?;
        self.wait_for_turn().await;
        let opened = tokio::time::timeout(PATIENCE, self.send(ApiVerb::Watch, request));
        let response = opened.await.map_err(|_| ApiError::late(PATIENCE))??;
        Ok(Watch::new(response.into_body()))
    }

    async fn ask(&self, verb: ApiVerb, request: http::request::Builder, body: Vec<u8>) -> Result<Value, ApiError> {
        let request = whole(request, body)?;
        self.wait_for_turn().await;
        let answered = async {
            let response = self.send(verb, request).await?;
            let bytes = watch::collect(response.into_body(), MAX_ANSWER).await?;
            serde_json::from_slice(&bytes).map_err(|error| ApiError::Garbled { detail: error.to_string() })
        };
        tokio::time::timeout(PATIENCE, answered).await.map_err(|_| ApiError::late(PATIENCE))?
    }

    async fn wait_for_turn(&self) {
        let wait = self.budget.take();
        if !wait.is_zero() {
            self.stats.record_wait(wait);
            tokio::time::sleep(wait).await;
        }
    }

    /// The answer, if it is one without an error.
    async fn send(&self, verb: ApiVerb, request: Request<Vec<u8>>) -> Result<http::Response<Body>, ApiError> {
        // Read with each request, which costs microseconds: the kubelet rotates it, and an old one is of no use.
        let Some(file) = &self.token else { return self.send_as(verb, request, None).await };
        let token = file.read()?;
        let answered = self.send_as(verb, request.clone(), Some(&token)).await;
        if !matches!(answered, Err(ApiError::Unauthorized { .. })) {
            return answered;
        }
        // It may have been exchanged between the reading and the judging; the same one again is of no use.
        match file.read()? {
            fresh if fresh != token => self.send_as(verb, request, Some(&fresh)).await,
            _ => answered,
        }
    }

    async fn send_as(
        &self,
        verb: ApiVerb,
        mut request: Request<Vec<u8>>,
        token: Option<&str>,
    ) -> Result<http::Response<Body>, ApiError> {
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| ApiError::Unauthorized { detail: "the token has odd characters".to_owned() })?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let asked = Asked::begin(&self.stats, verb, request.uri().path());
        let response =
            self.link.client().send(request.map(Body::from)).await.map_err(|error| ApiError::away(&error))?;
        asked.answered(response.status());
        if response.status().is_success() {
            return Ok(response);
        }
        Err(error::of_answer(response).await)
    }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    let agent = concat!("trimtab/", env!("CARGO_PKG_VERSION"));
    Request::builder().method(method).uri(path).header(header::USER_AGENT, agent)
}

fn whole(request: http::request::Builder, body: Vec<u8>) -> Result<Request<Vec<u8>>, ApiError> {
    request.body(body).map_err(|error| ApiError::Garbled { detail: error.to_string() })
}

fn body(object: &Value) -> Vec<u8> {
    // A JSON value without foreign keys always has a text.
    serde_json::to_vec(object).unwrap_or_default()
}

/// True for answers that mean: there is no such object, or no such kind.
const fn is_absent(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND)
}
