//! Which pod it is: a static pod has one uid on the node and another one in the API.

use super::told::Told;
use crate::workload::{Labels, PodUid};

/// Hash of the configuration of a static pod, which the kubelet and the runtime take for its uid.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// The same hash, in the mirror pod that the kubelet makes in the API.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// `api`, `file` or `http`.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// Where the kubelet has a pod from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodOrigin {
    /// The API server.
    Api,
    /// A file or an address; an API server shows only its mirror.
    Static,
}

/// The uid under which the node knows a pod, whichever side tells of it: for a static pod and its mirror alike the hash
/// of the configuration.
#[must_use]
pub fn node_uid(uid: &PodUid, annotations: &Labels) -> PodUid {
    let hash = annotations.get(CONFIG_MIRROR).or_else(|| match origin(annotations) {
        Told::Exact(PodOrigin::Static) => annotations.get(CONFIG_HASH),
        _ => None,
    });
    hash.filter(|hash| !hash.is_empty()).map_or_else(|| uid.clone(), |hash| PodUid(hash.to_owned()))
}

/// Where the pod is from, by its annotations; the kubelet sets the source on every pod.
#[must_use]
pub fn origin(annotations: &Labels) -> Told<PodOrigin> {
    match annotations.get(CONFIG_SOURCE) {
        Some("api") => Told::Exact(PodOrigin::Api),
        Some("file" | "http") => Told::Exact(PodOrigin::Static),
        _ if annotations.get(CONFIG_MIRROR).is_some() => Told::Exact(PodOrigin::Static),
        _ => Told::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(list: &[(&str, &str)]) -> Labels {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_static_pod_and_its_mirror_are_one() {
        let on_node = annotations(&[(CONFIG_HASH, "d4f0"), (CONFIG_SOURCE, "file")]);
        let in_api = annotations(&[(CONFIG_HASH, "d4f0"), (CONFIG_MIRROR, "d4f0"), (CONFIG_SOURCE, "file")]);
        let ordinary = annotations(&[(CONFIG_SOURCE, "api")]);
        let forged = annotations(&[(CONFIG_HASH, "d4f0"), (CONFIG_SOURCE, "api")]);
        let rows = [
            ("d4f0", &on_node, "d4f0", Told::Exact(PodOrigin::Static)),
            ("7b1e-uid", &in_api, "d4f0", Told::Exact(PodOrigin::Static)),
            ("7b1e-uid", &ordinary, "7b1e-uid", Told::Exact(PodOrigin::Api)),
            ("7b1e-uid", &forged, "7b1e-uid", Told::Exact(PodOrigin::Api)),
            ("7b1e-uid", &Labels::default(), "7b1e-uid", Told::Unknown),
        ];
        for (uid, annotations, node, from) in rows {
            assert_eq!(node_uid(&PodUid(uid.into()), annotations), PodUid(node.into()), "{annotations:?}");
            assert_eq!(origin(annotations), from, "{annotations:?}");
        }
    }
}
