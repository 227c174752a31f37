//! Paths of the API: the kinds that the agent speaks of, and names that come from outside.

use std::fmt::Write as _;

/// All objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// `api/v1` or `apis/GROUP/VERSION`.
    pub prefix: &'static str,
    /// Plural name.
    pub plural: &'static str,
    /// `apiVersion` of its objects.
    pub api_version: &'static str,
    /// `kind` of its objects.
    pub kind: &'static str,
}

/// Nodes.
pub const NODES: Collection = Collection { prefix: "api/v1", plural: "nodes", api_version: "v1", kind: "Node" };
/// Pods.
pub const PODS: Collection = Collection { prefix: "api/v1", plural: "pods", api_version: "v1", kind: "Pod" };
/// ConfigMaps.
pub const CONFIG_MAPS: Collection =
    Collection { prefix: "api/v1", plural: "configmaps", api_version: "v1", kind: "ConfigMap" };
/// Events.
pub const EVENTS: Collection =
    Collection { prefix: "apis/events.k8s.io/v1", plural: "events", api_version: "events.k8s.io/v1", kind: "Event" };
/// Leases.
pub const LEASES: Collection = Collection {
    prefix: "apis/coordination.k8s.io/v1",
    plural: "leases",
    api_version: "coordination.k8s.io/v1",
    kind: "Lease",
};
/// Profiles.
pub const NODE_PROFILES: Collection = Collection {
    prefix: "apis/trimtab.dev/v1alpha1",
    plural: "nodeprofiles",
    api_version: "trimtab.dev/v1alpha1",
    kind: "NodeProfile",
};
/// What the agents tell of their nodes.
pub const NODE_STATES: Collection = Collection {
    prefix: "apis/trimtab.dev/v1alpha1",
    plural: "nodestates",
    api_version: "trimtab.dev/v1alpha1",
    kind: "NodeState",
};
/// What the scheduler's plug-in is told of NUMA nodes.
pub const TOPOLOGIES: Collection = Collection {
    prefix: "apis/topology.node.k8s.io/v1alpha2",
    plural: "noderesourcetopologies",
    api_version: "topology.node.k8s.io/v1alpha2",
    kind: "NodeResourceTopology",
};

impl Collection {
    /// Path of all objects over the cluster.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}/{}", self.prefix, self.plural)
    }

    /// Path of a cluster-scoped object.
    #[must_use]
    pub fn object(&self, name: &str) -> String {
        format!("/{}/{}/{}", self.prefix, self.plural, escape(name))
    }

    /// Path of all objects of a namespace.
    #[must_use]
    pub fn of_namespace(&self, namespace: &str) -> String {
        format!("/{}/namespaces/{}/{}", self.prefix, escape(namespace), self.plural)
    }

    /// Path of an object of a namespace.
    #[must_use]
    pub fn namespaced(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.of_namespace(namespace), escape(name))
    }
}

/// Percent-encoding of everything that is not unreserved (RFC 3986): a name never becomes a path or a query.
#[must_use]
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // A single or a double dot would be a step in the tree of paths.
    let dots = matches!(text, "." | "..");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !dots) {
            out.push(char::from(byte));
        } else {
            let _always_fits = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_never_leave_their_place_in_a_path() {
        let cases = [
            ("n1.example", "/api/v1/nodes/n1.example"),
            ("../pods", "/api/v1/nodes/..%2Fpods"),
            ("..", "/api/v1/nodes/%2E%2E"),
            ("a?watch=true&b", "/api/v1/nodes/a%3Fwatch%3Dtrue%26b"),
            ("a\r\nX: y", "/api/v1/nodes/a%0D%0AX%3A%20y"),
            ("ä", "/api/v1/nodes/%C3%A4"),
        ];
        for (name, path) in cases {
            assert_eq!(NODES.object(name), path);
        }
        assert_eq!(PODS.namespaced("a/b", "c"), "/api/v1/namespaces/a%2Fb/pods/c");
    }
}
