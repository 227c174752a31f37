//! The lab: the agent on booted machines with several NUMA nodes, systemd, cgroup v2 and a real containerd.
//!
//! The same program boots the machines and, inside them, plays the kubelet and whoever else disturbs a node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests stop at the first surprise, and say how far they got"
)]
#![allow(clippy::disallowed_methods, reason = "tests play the part of other programs")]

mod agent;
#[allow(dead_code, unused_imports, unreachable_pub, reason = "what the hermetic tests ask of it is more")]
#[path = "../hermetic/support"]
mod support {
    pub(crate) mod api_server;
}
mod alignment;
mod churn;
mod cluster;
mod disturb;
mod evidence;
mod host;
mod migration;
mod scenario;
mod units;

use std::process::ExitCode;

const USAGE: &str = "\
the lab boots machines; it is run by `make lab`:
  lab boot [--agent FILE] [--churn PODS] [TOPOLOGY...]   boots a machine for each (two, four, memory-only, forky);
                                                         `migration` moves `two` to another cgroup driver
  lab inside TOPOLOGY PODS                               what runs in the machine
  lab units                                              only what is asked of systemd, in the machine
  lab migration                                          only the move to another cgroup driver, in the machine";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["boot", ref rest @ ..] => host::boot(&host::Order::parse(rest)),
        ["inside", topology, pods] => {
            evidence::shown_on_panic();
            scenario::run(topology, pods.parse().unwrap());
            ExitCode::SUCCESS
        }
        ["units"] => {
            units::run();
            println!("ok  units");
            ExitCode::SUCCESS
        }
        ["migration"] => {
            evidence::shown_on_panic();
            migration::run();
            println!("ok  migration");
            ExitCode::SUCCESS
        }
        // `cargo test` starts every test program.
        _ => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
    }
}
