//! What was asked: one entry per call, so that tests can state what the agent costs.

use std::collections::BTreeMap;

use axum::http::{Method, request::Parts};
use serde_json::Value;

use super::path::Place;

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`.
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    /// With its subresource: `nodes/status`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The query, decoded.
    pub(crate) query: BTreeMap<String, String>,
    /// What was sent; null if nothing.
    pub(crate) body: Value,
    /// `Authorization` without `Bearer`.
    pub(crate) token: String,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    pub(crate) user_agent: String,
    /// When, by the clock that tests can pause.
    pub(crate) at: tokio::time::Instant,
    /// Bytes of the body that was sent.
    pub(crate) bytes: usize,
}

impl Call {
    pub(super) fn of(parts: &Parts, place: &Place, body: &[u8]) -> Self {
        let query = query(parts.uri.query().unwrap_or_default());
        let header =
            |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let content_type = header("content-type");
        let one = !place.name.is_empty();
        let asked = |name: &str| query.get(name).is_some_and(|value| value == "true" || value == "1");
        let verb = match parts.method {
            Method::GET if asked("watch") => "watch",
            Method::GET if one => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH if content_type.starts_with("application/apply-patch") => "apply",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        Self {
            verb,
            group: place.group.clone(),
            resource: place.resource(),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
            query,
            body: serde_json::from_slice(body).unwrap_or_default(),
            token: header("authorization").trim_start_matches("Bearer ").to_owned(),
            content_type,
            accept: header("accept"),
            user_agent: header("user-agent"),
            at: tokio::time::Instant::now(),
            bytes: body.len(),
        }
    }

    /// A parameter of the query; empty if absent.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// Percent-decoding; what is no valid escape stays.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
