//! Section `kubernetes`: what the API server is told of the node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trimtab_domain::cluster::extended;
use trimtab_domain::cluster::label::is_dns_subdomain;
use trimtab_domain::spec::kubernetes::{HeldPodsSpec, KubernetesSpec};

use super::diagnostic::Diagnostic;
use super::go_duration;
use super::reader::{Cursor, Problems, short};

/// Highest count of an extended resource: every JSON reader keeps it exactly.
const MAX_COUNT: u64 = 1 << 53;
/// Most resources of one profile; each is a field of every Node.
const MAX_RESOURCES: usize = 32;
/// A shorter hold would fail pods that the next pass can place.
const SHORTEST_HOLD: Duration = Duration::from_secs(5);

/// Fields:
/// - `extendedResources`: name to whole number, advertised in the Node's capacity, removed when it is removed here;
/// - `heldPods`: `fail` (default true), `failAfter` (default 60s), `protectedNamespaces` (default `[kube-system]`): pods
///   that pinning refuses are failed with the kubelet's own reason after that time, except static ones and those there;
/// - `nodeResourceTopology`: true: keep this node's object of that kind (default false), where its CRD is installed.
pub(super) fn read(section: &Cursor<'_>, problems: &mut Problems) -> Option<KubernetesSpec> {
    let section = section.object(&["extendedResources", "heldPods", "nodeResourceTopology"], problems)?;
    let resources = section.field("extendedResources");
    let held = section.field("heldPods");
    let topology = section.field("nodeResourceTopology").and_then(|cursor| cursor.boolean(problems));
    Some(KubernetesSpec {
        extended_resources: resources.map(|cursor| read_resources(&cursor, problems)).unwrap_or_default(),
        held_pods: held.and_then(|cursor| read_held(&cursor, problems)).unwrap_or_default(),
        node_resource_topology: topology.unwrap_or(false),
    })
}

fn read_resources(cursor: &Cursor<'_>, problems: &mut Problems) -> BTreeMap<String, u64> {
    let mut resources = BTreeMap::new();
    let items = cursor.mapping("a mapping of resource names to whole numbers", problems).unwrap_or_default();
    if items.len() > MAX_RESOURCES {
        problems.refuse(cursor.problem("too many resources").allowed(format!("at most {MAX_RESOURCES}")));
    }
    for item in items.iter().take(MAX_RESOURCES) {
        if let Err(error) = extended::check_name(item.key) {
            let bad = Diagnostic::at(item.key_at, item.value.path(), format!("not an extended resource: {error}"));
            problems.refuse(bad.found(format!("{:?}", short(item.key))).allowed("a name such as example.com/dongle"));
        }
        if let Some(count) = item.value.integer(0, MAX_COUNT, problems) {
            resources.insert(item.key.to_owned(), count);
        }
    }
    resources
}

fn read_held(cursor: &Cursor<'_>, problems: &mut Problems) -> Option<HeldPodsSpec> {
    let mut held = HeldPodsSpec::default();
    let section = cursor.object(&["fail", "failAfter", "protectedNamespaces"], problems)?;
    if let Some(fail) = section.field("fail").and_then(|cursor| cursor.boolean(problems)) {
        held.fail = fail;
    }
    let allowed = "a duration of at least 5s, such as 60s";
    let after = section.field("failAfter");
    if let Some(after) = after.and_then(|cursor| go_duration::read(&cursor, SHORTEST_HOLD, allowed, problems)) {
        held.fail_after = after;
    }
    if let Some(list) = section.field("protectedNamespaces") {
        held.protected_namespaces = read_namespaces(&list, problems);
    }
    Some(held)
}

fn read_namespaces(list: &Cursor<'_>, problems: &mut Problems) -> BTreeSet<String> {
    let mut namespaces = BTreeSet::new();
    for item in list.list("a list of namespaces", problems).unwrap_or_default() {
        let allowed = "the name of a namespace such as kube-system";
        let Some(name) = item.text(allowed, problems) else { continue };
        if name.len() > 63 || name.contains('.') || !is_dns_subdomain(name) {
            problems.refuse(item.problem("not a namespace").allowed(allowed));
        }
        namespaces.insert(name.to_owned());
    }
    namespaces
}
