//! Azure's directory: every file whose name begins with `ip-masq`, merged.

use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::IpMasqSpec;

use super::error::{Cause, FileError};
use super::fields::{DEFAULT_LIMIT, Fields};
use super::value::{self, Unreadable};
use super::{Entry, NAME_PREFIX, cidr, doubt};

/// End of the name of the file that AKS keeps itself.
const RECONCILED: &str = "-reconciled";

/// Without a file the defaults hold; with one, only what the files list. Lists are joined without textual repetitions,
/// in the order of the names; a flag is on if one file has it on.
pub(super) fn merge(
    spec: &IpMasqSpec,
    entries: &[Entry],
    findings: &mut Vec<Finding>,
) -> Result<IpMasqSpec, FileError> {
    let files: Vec<&Entry> = entries.iter().filter(|entry| entry.name.starts_with(NAME_PREFIX)).collect();
    if files.is_empty() {
        return Ok(spec.clone());
    }
    let (mut masq_link_local, mut masq_link_local_ipv6) = (false, false);
    let mut listed: Vec<String> = Vec::new();
    let mut cidrs = Vec::new();
    for entry in &files {
        let fields = read(entry, findings)?;
        masq_link_local |= fields.masq_link_local;
        masq_link_local_ipv6 |= fields.masq_link_local_ipv6;
        let invalid = |cause: Cause| FileError::Invalid { name: entry.name.clone(), cause };
        let list = fields.cidrs.unwrap_or_default();
        cidr::check_count(list.len(), DEFAULT_LIMIT).map_err(invalid)?;
        let parsed = cidr::parse_all(&list, spec.enable_ipv6, &entry.name, findings).map_err(invalid)?;
        for (text, network) in list.into_iter().zip(parsed) {
            if !listed.contains(&text) {
                listed.push(text);
                cidrs.push(network);
            }
        }
    }
    if cidrs.is_empty() {
        findings.push(nothing_listed(&files));
    }
    findings.extend(legacy(&files));
    Ok(IpMasqSpec { non_masquerade_cidrs: cidrs, masq_link_local, masq_link_local_ipv6, ..spec.clone() })
}

fn read(entry: &Entry, findings: &mut Vec<Finding>) -> Result<Fields, FileError> {
    let name = || entry.name.clone();
    let bytes = entry.content.as_ref().map_err(|error| FileError::Read { name: name(), error: error.clone() })?;
    let tree = value::read(bytes).map_err(|unreadable| match unreadable {
        Unreadable::Yaml(error) => FileError::Syntax { name: name(), error },
        Unreadable::Json(error) => FileError::Unmarshal { name: name(), error },
    })?;
    Fields::read(&tree, &entry.name, false, findings).map_err(|error| FileError::Unmarshal { name: name(), error })
}

fn nothing_listed(files: &[&Entry]) -> Finding {
    let names: Vec<&str> = files.iter().map(|entry| entry.name.as_str()).collect();
    let message = format!(
        "{} list no prefix: everything but link-local is masqueraded, also between pods of different nodes",
        names.join(", ")
    );
    let remedy = "list the cluster's prefixes in nonMasqueradeCIDRs, or remove the files to have the private ranges";
    doubt(Severity::Warning, "masquerade-config-empty", NAME_PREFIX, message, remedy)
}

/// A file that a person left beside the one that AKS keeps: what it lists is exempt too, whatever the network is now.
fn legacy(files: &[&Entry]) -> Vec<Finding> {
    if !files.iter().any(|entry| entry.name.ends_with(RECONCILED)) {
        return Vec::new();
    }
    let beside = files.iter().filter(|entry| !entry.name.ends_with(RECONCILED));
    beside
        .map(|entry| {
            let message = format!(
                "file {} counts beside the one that the provider keeps; after a change of the pod network (CNI Overlay) \
                 its prefixes stay exempt and pods cannot reach them",
                entry.name
            );
            let remedy = "if it is a leftover, delete its ConfigMap (azure-ip-masq-agent-config)";
            doubt(Severity::Warning, "masquerade-legacy-config", &entry.name, message, remedy)
        })
        .collect()
}
