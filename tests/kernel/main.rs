//! Tests on the real kernel, inside fresh namespaces: nothing outlives them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests stop at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "tests play the part of other programs")]

mod allocatable;
mod answers;
#[path = "../lab/cluster.rs"]
mod cluster;
mod confirm;
mod containerd;
mod crash;
mod cri;
mod daemon;
mod firewalld;
mod foreign_nat;
mod kernel_knobs;
#[path = "../hermetic/laws.rs"]
mod laws;
mod masquerade;
mod masquerade_connections;
mod masquerade_crash;
mod masquerade_daemon;
mod masquerade_traffic;
mod metadata;
mod nftables;
mod packets;
mod pinning;
mod pod;
mod support;
mod sysctl;
