//! The topology manager's configuration, checked: policy, scope and options.

use std::collections::BTreeMap;
use std::fmt;

use super::{Distances, MaskOrder, NumaMask, TopologyPolicy};

use crate::quote::Quoted;

/// What the topology manager looks at together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TopologyScope {
    /// Each container by itself, in turn.
    #[default]
    Container,
    /// All containers of a pod at once.
    Pod,
}

impl TopologyScope {
    /// The spelling of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Pod => "pod",
        }
    }
}

impl fmt::Display for TopologyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The topology settings as written in a kubelet configuration, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyConfig {
    /// `topologyManagerPolicy`.
    pub policy: String,
    /// `topologyManagerScope`.
    pub scope: String,
    /// `topologyManagerPolicyOptions`.
    pub options: BTreeMap<String, String>,
    /// Ours: NUMA nodes up to which the manager starts whatever `max-allowable-numa-nodes` says; absent means that the
    /// kubelet's limit holds.
    pub wide_machines: Option<u32>,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        Self { policy: "none".into(), scope: "container".into(), options: BTreeMap::new(), wide_machines: None }
    }
}

/// The topology settings cannot be used on this machine. The texts are those of kubelet 1.36.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyConfigError {
    /// An option that does not exist.
    #[error("unknown Topology Manager Policy option: {}", Quoted(.0))]
    UnknownOption(String),
    /// A value that is not a boolean.
    #[error("bad value for option {}: strconv.ParseBool: parsing {}: invalid syntax", Quoted(.option), Quoted(.value))]
    NotABool {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
    },
    /// A value that is not an integer.
    #[error("unable to convert policy option to integer {}: strconv.Atoi: parsing {}: {problem}", Quoted(.option), Quoted(.value))]
    NotAnInteger {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// `invalid syntax` or `value out of range`.
        problem: &'static str,
    },
    /// `max-allowable-numa-nodes` below 8.
    #[error("the minimum value of \"max-allowable-numa-nodes\" should not be less than 8")]
    LimitTooSmall,
    /// `prefer-closest-numa-nodes` on a machine that does not tell its distances.
    #[error("cannot discover NUMA topology: error getting NUMA distances from cadvisor")]
    NoDistances,
    /// More NUMA nodes than allowed.
    #[error("unsupported on machines with more than {0} NUMA Nodes")]
    TooManyNodes(i64),
    /// A policy that does not exist.
    #[error("unknown policy: {}", Quoted(.0))]
    UnknownPolicy(String),
    /// A scope that does not exist.
    #[error("unknown scope: {}", Quoted(.0))]
    UnknownScope(String),
    /// A NUMA node id above 63.
    #[error("bit number must be in range 0-63")]
    NodeIdTooLarge,
}

/// The topology manager: decides what the hints of the providers amount to. It stores nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyManager {
    policy: TopologyPolicy,
    scope: TopologyScope,
    nodes: NumaMask,
    /// Present with `prefer-closest-numa-nodes`.
    distances: Option<Distances>,
}

/// NUMA nodes that the kubelet allows without `max-allowable-numa-nodes`.
const DEFAULT_MAX_NUMA_NODES: i64 = 8;

impl TopologyManager {
    /// Checks the settings against the NUMA nodes of the machine: id and, if known, the row of distances, in the order
    /// of the nodes.
    ///
    /// # Errors
    /// In this order: an option, absent distances, too many nodes, the policy's name, the scope's name. With policy
    /// `none` nothing is looked at.
    pub fn new(config: &TopologyConfig, nodes: &[(u32, &[u32])]) -> Result<Self, TopologyConfigError> {
        let mask: NumaMask = nodes.iter().map(|(node, _)| *node).collect();
        if config.policy == TopologyPolicy::None.as_str() {
            let scope = if config.scope == "pod" { TopologyScope::Pod } else { TopologyScope::Container };
            return Ok(Self { policy: TopologyPolicy::None, scope, nodes: mask, distances: None });
        }
        let options = Options::parse(&config.options)?;
        if options.prefer_closest && nodes.iter().any(|(_, row)| row.is_empty()) {
            return Err(TopologyConfigError::NoDistances);
        }
        let limit = options.max_nodes.max(config.wide_machines.map_or(0, i64::from));
        if i64::try_from(nodes.len()).unwrap_or(i64::MAX) > limit {
            return Err(TopologyConfigError::TooManyNodes(options.max_nodes));
        }
        if nodes.iter().any(|(node, _)| *node > 63) {
            return Err(TopologyConfigError::NodeIdTooLarge);
        }
        let policy = match config.policy.as_str() {
            "best-effort" => TopologyPolicy::BestEffort,
            "restricted" => TopologyPolicy::Restricted,
            "single-numa-node" => TopologyPolicy::SingleNumaNode,
            other => return Err(TopologyConfigError::UnknownPolicy(other.to_owned())),
        };
        let scope = match config.scope.as_str() {
            "container" => TopologyScope::Container,
            "pod" => TopologyScope::Pod,
            other => return Err(TopologyConfigError::UnknownScope(other.to_owned())),
        };
        let distances = options.prefer_closest.then(|| Distances::from_rows(mask, nodes.iter().copied()));
        Ok(Self { policy, scope, nodes: mask, distances })
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> TopologyPolicy {
        self.policy
    }

    /// The scope; without meaning under policy `none`.
    #[must_use]
    pub const fn scope(&self) -> TopologyScope {
        self.scope
    }

    /// All NUMA nodes of the machine, those without CPUs included.
    #[must_use]
    pub const fn nodes(&self) -> NumaMask {
        self.nodes
    }

    /// Which node sets are better than others.
    #[must_use]
    pub fn order(&self) -> MaskOrder<'_> {
        match &self.distances {
            Some(distances) if self.policy != TopologyPolicy::SingleNumaNode => MaskOrder::Closest(distances),
            _ => MaskOrder::Narrowest,
        }
    }
}

/// `topologyManagerPolicyOptions`, parsed.
struct Options {
    prefer_closest: bool,
    max_nodes: i64,
}

impl Options {
    /// In the order of the names: the reference reports any of several faults.
    fn parse(options: &BTreeMap<String, String>) -> Result<Self, TopologyConfigError> {
        let mut parsed = Self { prefer_closest: false, max_nodes: DEFAULT_MAX_NUMA_NODES };
        for (name, value) in options {
            match name.as_str() {
                "prefer-closest-numa-nodes" => parsed.prefer_closest = parse_bool(value)?,
                "max-allowable-numa-nodes" => parsed.max_nodes = parse_limit(value)?,
                other => return Err(TopologyConfigError::UnknownOption(other.to_owned())),
            }
        }
        Ok(parsed)
    }
}

/// The boolean texts that Go accepts.
fn parse_bool(value: &str) -> Result<bool, TopologyConfigError> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(TopologyConfigError::NotABool { option: "prefer-closest-numa-nodes", value: value.to_owned() }),
    }
}

/// A decimal integer of at least 8, with an optional sign.
fn parse_limit(value: &str) -> Result<i64, TopologyConfigError> {
    let option = "max-allowable-numa-nodes";
    let fault = |problem| TopologyConfigError::NotAnInteger { option, value: value.to_owned(), problem };
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault("invalid syntax"));
    }
    let limit: i64 = value.parse().map_err(|_| fault("value out of range"))?;
    if limit < DEFAULT_MAX_NUMA_NODES { Err(TopologyConfigError::LimitTooSmall) } else { Ok(limit) }
}
