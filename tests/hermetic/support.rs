//! Doubles of the node's ports, shared by all hermetic tests.
#![allow(dead_code, reason = "each test uses the part of a double that it needs")]

pub(crate) mod api_server;
pub(crate) mod authority;
pub(crate) mod chromium;
pub(crate) mod fake_admission;
pub(crate) mod fake_cgroups;
pub(crate) mod fake_cri;
pub(crate) mod fake_host;
pub(crate) mod fake_kubelet;
pub(crate) mod fake_ledger;
pub(crate) mod fake_masq_config;
pub(crate) mod fake_modules;
pub(crate) mod fake_nat;
pub(crate) mod fake_services;
pub(crate) mod fake_units;
pub(crate) mod fake_writers;
pub(crate) mod machines;
pub(crate) mod node_runtime;
pub(crate) mod nri_runtime;
pub(crate) mod raw_http2;
pub(crate) mod recorded_masquerade;
pub(crate) mod server;
pub(crate) mod toy;
