//! The configuration files of kubernetes-sigs/ip-masq-agent and Azure/ip-masq-agent-v2, read as these agents read them.
//!
//! What they accept and refuse, and in which words, is theirs to the letter; what they get wrong is not: a null is no
//! default, a length has no octal form, an IPv4 prefix in IPv6 clothes is an IPv4 prefix, an interval has a floor, and
//! what they would pass over in silence becomes a finding.

mod cidr;
mod error;
mod fields;
pub mod flags;
pub mod import;
mod json;
mod merged;
mod value;
mod yaml;

use trimtab_domain::plan::{Finding, Severity};
use trimtab_domain::spec::IpMasqSpec;

pub use self::error::{Cause, ConfigError, FileError};
use self::fields::Fields;

/// Prefix of the names that Azure's agent reads.
pub const NAME_PREFIX: &str = "ip-masq";
/// The one name that kubernetes-sigs' agent reads.
const FILE_NAME: &str = "ip-masq-agent";

/// What lies where the configuration should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Reading {
    /// One file.
    File {
        /// Its bytes; `None`: there is none. The error is the system's text.
        content: Result<Option<Vec<u8>>, String>,
        /// Names of other files in its directory.
        beside: Vec<String>,
    },
    /// The entries of a directory in byte order of their names, those that are not read without content; the error is
    /// the system's text.
    Directory(Result<Vec<Entry>, String>),
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its bytes, or the system's text.
    pub content: Result<Vec<u8>, String>,
}

/// The section of a profile with everything that the files say put into it, and what a person should know of them.
///
/// # Errors
/// [`ConfigError`] in the words of the agent whose files they are; nothing of them is used then.
pub fn resolve(spec: &IpMasqSpec, reading: &Reading) -> Result<(IpMasqSpec, Vec<Finding>), ConfigError> {
    let mut findings = Vec::new();
    let spec = match reading {
        Reading::File { content, beside } => {
            let fields = one_file(spec, content, &mut findings).map_err(ConfigError::KubernetesSigs)?;
            findings.extend(beside.iter().filter(|name| name.starts_with(NAME_PREFIX)).map(|name| not_read(name)));
            fields
        }
        Reading::Directory(Ok(entries)) => merged::merge(spec, entries, &mut findings).map_err(ConfigError::Azure)?,
        Reading::Directory(Err(error)) => return Err(ConfigError::Azure(FileError::Directory(error.clone()))),
    };
    if spec.enable_ipv6 && !spec.non_masquerade_cidrs.iter().any(|network| network.addr().is_ipv6()) {
        findings.push(no_ipv6_prefix());
    }
    Ok((IpMasqSpec { config: None, ..spec }, findings))
}

/// kubernetes-sigs' rules: every key that is absent keeps its default.
fn one_file(
    spec: &IpMasqSpec,
    content: &Result<Option<Vec<u8>>, String>,
    findings: &mut Vec<Finding>,
) -> Result<IpMasqSpec, Cause> {
    let Some(bytes) = content.as_ref().map_err(|error| Cause::Read(error.clone()))? else { return Ok(spec.clone()) };
    let tree = value::read(bytes).map_err(Cause::from)?;
    let fields = Fields::read(&tree, FILE_NAME, true, findings).map_err(Cause::Library)?;
    let listed = fields.cidrs.clone();
    let count = listed.as_ref().map_or(spec.non_masquerade_cidrs.len(), Vec::len);
    cidr::check_count(count, fields.cidr_limit)?;
    let cidrs = match listed {
        Some(list) => cidr::parse_all(&list, spec.enable_ipv6, FILE_NAME, findings)?,
        None => spec.non_masquerade_cidrs.clone(),
    };
    Ok(IpMasqSpec {
        non_masquerade_cidrs: cidrs,
        masq_link_local: fields.masq_link_local,
        masq_link_local_ipv6: fields.masq_link_local_ipv6,
        resync_interval: fields.resync_interval,
        ..spec.clone()
    })
}

fn doubt(severity: Severity, code: &'static str, object: &str, message: String, remedy: &str) -> Finding {
    Finding { severity, code, object: object.to_owned(), message, remedy: remedy.to_owned() }
}

fn not_read(name: &str) -> Finding {
    let message = format!("file {name} lies beside {FILE_NAME}, and kubernetes-sigs' agent does not read it");
    let remedy = "rename it or merge the two; Azure's agent reads both: ipMasq.configDir instead of ipMasq.configFile";
    doubt(Severity::Warning, "masquerade-config-not-read", name, message, remedy)
}

fn no_ipv6_prefix() -> Finding {
    let message = "IPv6 is on and no IPv6 prefix is exempt: everything but link-local is masqueraded, inbound connections \
                   to pods too, whose clients are then hidden";
    let remedy = "list the cluster's IPv6 prefixes in nonMasqueradeCIDRs, or turn IPv6 off";
    doubt(Severity::Warning, "masquerade-hides-ipv6-clients", FILE_NAME, message.to_owned(), remedy)
}

#[cfg(test)]
mod tests;
