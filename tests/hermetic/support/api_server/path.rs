//! Where an object or a collection is: the parts of a path of the API.

use super::log::decode;

/// A path below `/api` or `/apis`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Group; empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    /// Plural name of the resource.
    pub(crate) plural: String,
    /// Namespace; empty for cluster-scoped resources and lists over all namespaces.
    pub(crate) namespace: String,
    /// Name; empty for a collection.
    pub(crate) name: String,
    /// `status`, `eviction`, …; empty for the object itself.
    pub(crate) subresource: String,
}

impl Place {
    /// Reads a path without its query; `None` if it is not one of an object or a collection.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let mut parts = parts.into_iter();
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let mut plural = parts.next()?;
        let mut namespace = String::new();
        let mut rest: Vec<String> = parts.collect();
        if plural == "namespaces" && rest.len() >= 2 {
            namespace = rest.remove(0);
            plural = rest.remove(0);
        }
        let mut rest = rest.into_iter();
        let name = rest.next().unwrap_or_default();
        let subresource = rest.next().unwrap_or_default();
        rest.next().is_none().then_some(Self { group, version, plural, namespace, name, subresource })
    }

    /// `nodes`, `nodes/status`: the words of a role.
    pub(crate) fn resource(&self) -> String {
        if self.subresource.is_empty() { self.plural.clone() } else { format!("{}/{}", self.plural, self.subresource) }
    }

    /// Its value in the field `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The object of this name in the collection.
    pub(crate) fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }
}
