//! The ports on a real node. Adapters do not see one another, nor the subsystems.

pub mod drift;
pub mod host_fs;
pub mod instance_lock;
pub mod ledger;
