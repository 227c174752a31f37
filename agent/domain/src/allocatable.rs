//! Bounds of cgroups that the node keeps for itself, and what else keeps the system's work off the CPUs of pods: what
//! should be set where, and in which order.

pub mod interrupt;
pub mod knob;
mod name;
pub mod observation;
pub mod plan;
pub mod step;
pub mod wishes;

pub use name::{ReservedNameError, reserved_cgroup};
