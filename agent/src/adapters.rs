//! The ports on a real node. Adapters do not see one another, nor the subsystems; the exceptions: what
//! iptables-nft writes lives in nf_tables, so `iptables` asks `nftables`, and `conntrack` speaks netfilter's netlink as
//! `nftables` does; `driver_files` has the texts of `runtime_config`, and `migration_file` keeps its places.

pub mod api_server;
pub mod certificate_files;
pub mod cgroup_fs;
pub mod config_map_files;
pub mod conntrack;
pub mod cri;
pub mod drift;
pub mod driver_files;
pub mod history_file;
pub mod hold_file;
pub mod host_fs;
pub mod instance_lock;
pub mod iptables;
mod known_processes;
pub mod kubelet_config;
pub mod ledger;
pub mod links;
pub mod masq_files;
pub mod migration_file;
pub mod modprobe;
pub mod nat_writers;
pub mod nftables;
pub mod nri;
pub mod pod_failure;
pub mod pod_names;
pub mod pod_resources;
pub mod process_table;
pub mod profile_file;
pub mod profile_object;
pub mod reach;
pub mod runtime_config;
pub mod systemd;
pub mod thread_masks;
pub mod topology_sysfs;
pub mod trial_file;
pub mod uevents;
