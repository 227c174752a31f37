//! The envelope: `apiVersion`, `kind`, `metadata`, and the sections of `spec`.

use trimtab_domain::cluster::label::is_dns_subdomain;
use trimtab_domain::cluster::selection::Reach;
use trimtab_domain::spec::NodeSpec;

use super::reader::{Cursor, Object, Problems};
use super::{cgroup, confirm, ip_masq, kernel, kubernetes, pause, reach, resource_managers, rollout, sysctls};

/// The one version of the format.
pub const API_VERSION: &str = "trimtab.dev/v1alpha1";
/// The one kind of document.
pub const KIND: &str = "NodeProfile";

/// Fields of `spec`: whom it is for, then the sections.
const SECTIONS: [&str; 11] = [
    "nodeSelector",
    "weight",
    "sysctls",
    "kernel",
    "cgroup",
    "resourceManagers",
    "ipMasq",
    "kubernetes",
    "confirm",
    "rollout",
    "pause",
];

/// Reads a document. Every problem is collected; `None` only if nothing can be made of it.
pub(super) fn read(root: &Cursor<'_>, problems: &mut Problems) -> Option<(NodeSpec, Reach)> {
    let document = root.object(&["apiVersion", "kind", "metadata", "spec"], problems)?;
    for (field, word) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        if let Some(cursor) = document.required(field, word, problems) {
            cursor.choice(&[word], problems);
        }
    }
    let metadata = document.required("metadata", "a mapping with name", problems);
    let name = metadata.and_then(|cursor| read_name(&cursor, problems));
    let spec = document.required("spec", "a mapping of sections", problems)?;
    let spec = spec.object(&SECTIONS, problems)?;
    let reach = reach::read(&spec, problems);
    let node = NodeSpec {
        name: name.unwrap_or_default(),
        sysctls: section(&spec, "sysctls", problems, sysctls::read).unwrap_or_default(),
        kernel: section(&spec, "kernel", problems, kernel::read).unwrap_or_default(),
        cgroup: section(&spec, "cgroup", problems, cgroup::read).unwrap_or_default(),
        resource_managers: section(&spec, "resourceManagers", problems, resource_managers::read),
        ip_masq: section(&spec, "ipMasq", problems, ip_masq::read),
        kubernetes: section(&spec, "kubernetes", problems, kubernetes::read).unwrap_or_default(),
        confirm: section(&spec, "confirm", problems, confirm::read).unwrap_or_default(),
        rollout: section(&spec, "rollout", problems, rollout::read).unwrap_or_default(),
        pause: section(&spec, "pause", problems, pause::read),
    };
    Some((node, reach))
}

/// Reads of a document only whom it is for, whatever the rest is like.
pub(super) fn read_reach(root: &Cursor<'_>, problems: &mut Problems) -> Option<Reach> {
    let mut others = Problems::default();
    let document = root.object(&["apiVersion", "kind", "metadata", "spec"], &mut others)?;
    let spec = document.required("spec", "a mapping of sections", problems)?.object(&SECTIONS, &mut others)?;
    Some(reach::read(&spec, problems))
}

fn section<T>(
    spec: &Object<'_>,
    name: &str,
    problems: &mut Problems,
    read: impl Fn(&Cursor<'_>, &mut Problems) -> Option<T>,
) -> Option<T> {
    spec.field(name).and_then(|cursor| read(&cursor, problems))
}

/// `metadata.name`; labels and annotations are allowed and ignored.
fn read_name(metadata: &Cursor<'_>, problems: &mut Problems) -> Option<String> {
    let metadata = metadata.object(&["name", "labels", "annotations"], problems)?;
    for field in ["labels", "annotations"] {
        let entries = metadata.field(field).and_then(|cursor| cursor.mapping("a mapping of texts", problems));
        for entry in entries.unwrap_or_default() {
            entry.value.text("text", problems);
        }
    }
    let allowed = "a DNS subdomain: lower case letters, digits, '-' and '.', at most 253 characters";
    let cursor = metadata.required("name", allowed, problems)?;
    let name = cursor.text(allowed, problems)?;
    if !is_dns_subdomain(name) {
        problems.refuse(cursor.problem("not a name").allowed(allowed));
        return None;
    }
    Some(name.to_owned())
}
