//! Hermetic tests: no privileges, no network, no kernel state; the node is played by doubles.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "tests stop at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "tests play the part of other programs")]

mod allocatable;
mod api_server;
mod authority;
mod cgroup;
mod cluster;
mod confirm;
mod cri;
mod docs;
mod engine;
mod fuzz_corpus;
mod kernel_knobs;
mod kubelet_metrics;
mod laws;
mod masquerade;
mod masquerade_config;
mod masquerade_connections;
mod masquerade_guard;
mod masquerade_recorded;
mod masquerade_traffic;
mod metrics;
mod monitoring;
mod node_state;
mod nri;
mod orders;
mod page;
mod picture;
mod pinning;
mod podresources;
mod profile;
mod profile_file;
mod serve;
mod support;
mod survey;
mod sysctl;

#[path = "../fuzz/src/replay.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of the domain")]
mod replay;
#[path = "../fuzz/src/wire.rs"]
#[allow(unreachable_pub, reason = "the bodies are public in the crate of the fuzz targets")]
mod wire;
