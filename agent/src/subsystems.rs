//! The parts of the node that are held. They see ports and the domain, never one another.

pub mod allocatable;
pub mod cgroup;
pub mod kernel;
pub mod masquerade;
pub mod pinning;
pub mod sysctl;
