//! The admission of pods: which CPUs, which memory, on which NUMA nodes, or why not.

mod rejection;

pub use rejection::{AllocationError, Rejection, RejectionReason, StartError, StartStage};
