//! An agent's configuration written as a profile, and ConfigMaps taken apart into files.

use std::fmt::Write as _;
use std::time::Duration;

use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::Compat;

use super::value::{self, Value};
use super::{Entry, NAME_PREFIX};
use crate::profile::{API_VERSION, KIND};

/// Entries that a profile without `cidrLimit` may have.
const DEFAULT_LIMIT: usize = IpMasqSpec::DEFAULT_CIDR_LIMIT;

/// The files in a manifest of a ConfigMap, in byte order of their names; `None` if the text is none.
#[must_use]
pub fn files_of_config_map(bytes: &[u8]) -> Option<Vec<Entry>> {
    let Ok(Value::Map(manifest)) = value::read(bytes) else { return None };
    let field = |name: &str| manifest.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    if field("kind") != Some(&Value::Text("ConfigMap".to_owned())) {
        return None;
    }
    let Some(Value::Map(data)) = field("data") else { return Some(Vec::new()) };
    let files = data.iter().filter_map(|(name, value)| match value {
        Value::Text(text) => Some(Entry { name: name.clone(), content: Ok(text.as_bytes().to_vec()) }),
        _ => None,
    });
    Some(files.collect())
}

/// A file as Azure's agent would find it: a ConfigMap may name it otherwise where its volume renames it.
#[must_use]
pub fn renamed(entry: Entry) -> Entry {
    if entry.name.starts_with(NAME_PREFIX) {
        return entry;
    }
    Entry { name: format!("{NAME_PREFIX}-{}", entry.name), ..entry }
}

/// The profile that asks for the same.
#[must_use]
pub fn profile(name: &str, spec: &IpMasqSpec) -> String {
    let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n  name: {name}\nspec:\n  ipMasq:\n");
    let mut line = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {key}: {value}");
    };
    if let Some(compat) = spec.compat {
        line("compat", compat.as_str());
    }
    if spec.masq_chain != IpMasqSpec::DEFAULT_CHAIN {
        line("masqChain", &format!("{:?}", spec.masq_chain));
    }
    for (key, value, default) in [
        ("enableIPv6", spec.enable_ipv6, false),
        ("masqLinkLocal", spec.masq_link_local, false),
        ("masqLinkLocalIPv6", spec.masq_link_local_ipv6, false),
        ("randomFully", spec.random_fully, spec.compat != Some(Compat::Azure)),
    ] {
        if value != default {
            line(key, if value { "true" } else { "false" });
        }
    }
    if !spec.to_ports.is_empty() {
        let range =
            |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        line("toPorts", &format!("\"{}\"", spec.to_ports.iter().map(range).collect::<Vec<_>>().join(",")));
    }
    if let Some(interval) = spec.resync_interval {
        line("resyncInterval", &duration(interval));
    }
    if spec.non_masquerade_cidrs.len() > DEFAULT_LIMIT {
        line("cidrLimit", &spec.non_masquerade_cidrs.len().to_string());
    }
    if spec.non_masquerade_cidrs.is_empty() {
        line("nonMasqueradeCIDRs", "[]");
    } else {
        text.push_str("    nonMasqueradeCIDRs:\n");
        for network in &spec.non_masquerade_cidrs {
            let _ = writeln!(text, "      - \"{network}\"");
        }
    }
    text
}

fn duration(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ns", time.as_nanos()) }
}
