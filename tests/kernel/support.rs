//! What the kernel tests share.
#![allow(dead_code, reason = "each test uses the part that it needs")]

pub(crate) mod cgroups;
#[path = "../hermetic/support/fake_ledger.rs"]
pub(crate) mod fake_ledger;
#[path = "../hermetic/support/fake_masq_config.rs"]
pub(crate) mod fake_masq_config;
pub(crate) mod namespace;
pub(crate) mod node;
#[path = "../hermetic/support/recorded_masquerade.rs"]
pub(crate) mod recorded_masquerade;
pub(crate) mod tables;
pub(crate) mod world;
