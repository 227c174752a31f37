//! The CPUs that pods never own.

use super::options::{CpuOptions, StaticPolicyError};
use super::picker;
use crate::cpuset::CpuSet;
use crate::topology::Machine;
use crate::workload::MilliCpu;

/// How many CPUs, and perhaps which, the node keeps for the system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuReservation {
    /// kube-reserved plus system-reserved CPU; absent if neither names any.
    pub total: Option<MilliCpu>,
    /// `reservedSystemCPUs`; empty if not set. If set, `total` is its size.
    pub listed: CpuSet,
}

/// The reserved CPUs: the listed ones, or else what the picker takes first on the empty machine.
///
/// # Errors
/// [`StaticPolicyError::Reservation`] if their number is not `count`.
pub(super) fn reserve(
    machine: &Machine,
    listed: &CpuSet,
    count: usize,
    options: &CpuOptions,
) -> Result<CpuSet, StaticPolicyError> {
    let reserved = if listed.is_empty() {
        picker::take(machine, machine.online(), count, options).unwrap_or_default()
    } else {
        listed.clone()
    };
    if reserved.len() == count {
        Ok(reserved)
    } else {
        Err(StaticPolicyError::Reservation { reserved: reserved.to_string(), count })
    }
}
