//! What Trimtab knows and decides about a node: pure data and pure functions.
//!
//! Nothing here performs IO, waits, reads a clock or draws a random number, so every decision can be replayed.

pub mod allocatable;
pub mod cgroup;
pub mod checkpoint;
pub mod cluster;
pub mod confirmation;
pub mod cpu;
pub mod cpuset;
pub mod device;
pub mod disruption;
pub mod hint;
pub mod kernel;
pub mod kernel_file;
pub mod masquerade;
pub mod memory;
pub mod migration;
pub mod placement;
pub mod plan;
pub mod quantity;
pub mod quote;
pub mod record;
pub mod reservation;
pub mod reserved_memory;
pub mod rollout;
pub mod roster;
pub mod spec;
pub mod sysctl;
pub mod topology;
pub mod workload;
