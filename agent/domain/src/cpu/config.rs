//! Settings of the CPU manager, and why they may be refused.

use std::collections::BTreeMap;

use super::extensions::CpuExtensions;
use super::options::{CpuGates, StaticPolicyError};
use super::reservation::CpuReservation;

/// Settings of the CPU manager, in the words of the kubelet configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuConfig {
    /// `cpuManagerPolicy`: `none` or `static`.
    pub policy: String,
    /// `cpuManagerPolicyOptions`: name to boolean text.
    pub options: BTreeMap<String, String>,
    /// Which options may be used at all.
    pub gates: CpuGates,
    /// True with the topology manager policy `single-numa-node`, which excludes `align-by-socket`.
    pub single_numa_node: bool,
    /// CPUs that pods never own.
    pub reservation: CpuReservation,
    /// What goes beyond the kubelet.
    pub extensions: CpuExtensions,
}

/// The CPU manager cannot be made; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuConfigError {
    /// Neither `none` nor `static`.
    #[error("unknown policy: {0:?}")]
    UnknownPolicy(String),
    /// Options without the policy that has them; the text is `name:value`, joined by blanks.
    #[error("new none policy error: None policy: received unsupported options=map[{0}]")]
    OptionsOfNone(String),
    /// The node reserves no CPU.
    #[error("[cpumanager] unable to determine reserved CPU resources for static policy")]
    NoReservation,
    /// The node reserves zero CPUs.
    #[error("[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")]
    ZeroReservation,
    /// The options, the machine or the reservation do not suit the static policy.
    #[error("new static policy error: {0}")]
    Static(StaticPolicyError),
}
