//! What is asked, in the few words that metrics may use.

use std::time::SystemTime;

use http::StatusCode;
use tokio::time::Instant;

use crate::ports::api_stats::{ApiStats, ApiVerb};

/// Resources that are counted by their own name.
const KNOWN: [&str; 16] = [
    "nodes",
    "nodes/status",
    "pods",
    "pods/status",
    "pods/eviction",
    "events",
    "leases",
    "nodeprofiles",
    "nodeprofiles/status",
    "nodestates",
    "nodestates/status",
    "noderesourcetopologies",
    "configmaps",
    "daemonsets",
    "poddisruptionbudgets",
    "namespaces",
];
/// Every other one.
const OTHER: &str = "other";

/// One request under way; counted once, also if whoever asks gives up waiting.
pub(super) struct Asked<'a> {
    stats: &'a ApiStats,
    verb: ApiVerb,
    resource: &'static str,
    begun: Instant,
    code: Option<u16>,
}

impl<'a> Asked<'a> {
    pub(super) fn begin(stats: &'a ApiStats, verb: ApiVerb, path: &str) -> Self {
        Self { stats, verb, resource: resource(path), begun: Instant::now(), code: None }
    }

    /// An answer came.
    pub(super) fn answered(mut self, status: StatusCode) {
        self.code = Some(status.as_u16());
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let request = (self.verb, self.resource, self.code);
        self.stats.record_request(request, self.begun.elapsed(), SystemTime::now());
    }
}

/// The resource of a path, with its subresource.
fn resource(path_and_query: &str) -> &'static str {
    let path = path_and_query.split('?').next().unwrap_or_default();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // `api/VERSION`, `apis/GROUP/VERSION`.
    let before = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => return OTHER,
    };
    let rest: Vec<&str> = parts.skip(before).collect();
    let (plural, sub) = match rest.as_slice() {
        ["namespaces", _, plural] | [plural] | ["namespaces", _, plural, _] | [plural, _] => (*plural, ""),
        ["namespaces", _, plural, _, sub] | [plural, _, sub] => (*plural, *sub),
        _ => return OTHER,
    };
    let named = |known: &&str| match known.split_once('/') {
        Some(pair) => pair == (plural, sub),
        None => *known == plural && sub.is_empty(),
    };
    KNOWN.into_iter().find(named).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_resource_of_a_closed_set() {
        let cases = [
            ("/api/v1/nodes?watch=true", "nodes"),
            ("/api/v1/nodes/n1", "nodes"),
            ("/api/v1/nodes/n1/status?force=true", "nodes/status"),
            ("/api/v1/namespaces/shop/pods/a/eviction", "pods/eviction"),
            ("/api/v1/namespaces/shop/pods/a", "pods"),
            ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "pods"),
            ("/apis/events.k8s.io/v1/namespaces/default/events", "events"),
            ("/apis/trimtab.dev/v1alpha1/nodeprofiles/web", "nodeprofiles"),
            ("/apis/trimtab.dev/v1alpha1/nodestates/nodes%2Fstatus", "nodestates"),
            ("/api/v1/namespaces/shop", "namespaces"),
            ("/api/v1/secrets", "other"),
            ("/api/v1/nodes/n1/proxy", "other"),
            ("/readyz", "other"),
            ("", "other"),
        ];
        for (path, expected) in cases {
            assert_eq!(resource(path), expected, "{path}");
        }
    }
}
