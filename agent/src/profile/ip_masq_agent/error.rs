//! Why a configuration is refused, in the words of the agent whose file it is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::value::Unreadable;

/// A configuration that the agent would not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// As kubernetes-sigs' agent logs it before it goes on with the old rules.
    #[error("Error syncing configuration: {0}")]
    KubernetesSigs(Cause),
    /// As Azure's agent says it before it ends.
    #[error("the daemon encountered an error: error syncing configuration: {0}")]
    Azure(FileError),
}

/// Which file of Azure's directory is refused, and at which step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The directory cannot be listed.
    #[error("failed to read config directory, error: {0}")]
    Directory(String),
    /// A file cannot be read.
    #[error("failed to read config file {name:?}, error: {error}")]
    Read {
        /// Its name.
        name: String,
        /// The system's text.
        error: String,
    },
    /// It is no YAML.
    #[error("failed to convert config file {name:?} to JSON, error: {error}")]
    Syntax {
        /// Its name.
        name: String,
        /// What the reader of YAML said.
        error: String,
    },
    /// It is no JSON, or a key has a value of a wrong type.
    #[error("failed to unmarshal config file {name:?}, error: {error}")]
    Unmarshal {
        /// Its name.
        name: String,
        /// What the reader said.
        error: String,
    },
    /// A value is not allowed.
    #[error("config file {name:?} is invalid: {cause}")]
    Invalid {
        /// Its name.
        name: String,
        /// Which.
        cause: Cause,
    },
}

/// What is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It cannot be read; the system's text.
    #[error("{0}")]
    Read(String),
    /// It is no YAML or JSON, or a key has a value of a wrong type.
    #[error("{0}")]
    Library(String),
    /// More entries than allowed, repetitions counted.
    #[error(
        "the daemon can only accept up to {limit} CIDRs (excluding link-local), but got {count} CIDRs (excluding link local)"
    )]
    TooMany {
        /// Entries allowed; may be negative.
        limit: i64,
        /// Entries found.
        count: usize,
    },
    /// Not a prefix.
    #[error("CIDR {0:?} could not be parsed, invalid CIDR address: {shown}", shown = without_line_end(.0))]
    NotCidr(String),
    /// Host bits are set.
    #[error("CIDR {text:?} is not aligned to a CIDR block, ip: \"{address}\" network: \"{network}\"")]
    NotAligned {
        /// As written.
        text: String,
        /// Its address.
        address: IpAddr,
        /// Its network.
        network: IpNet,
    },
    /// An IPv6 prefix while IPv6 is off.
    #[error("ipv6 is not enabled, but ipv6 cidr {0} provided. Enable ipv6 using --enable-ipv6 agent flag")]
    Ipv6Off(String),
}

/// A log line ends where its text does.
fn without_line_end(text: &str) -> &str {
    text.trim_end_matches('\n')
}

impl From<Unreadable> for Cause {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Yaml(error) | Unreadable::Json(error) => Self::Library(error),
        }
    }
}
