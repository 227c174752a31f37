//! Control groups as text: mounts, names, values, and who manages the tree. Reading them must not live here.

mod answers;
mod convert;
mod driver;
mod mounts;
mod name;
mod strays;
pub mod tree;

pub use answers::{RuntimeDrivers, weigh_drivers};
pub use convert::{
    ControlError, CpuControl, Limit, Quota, Weight, milli_to_quota, milli_to_shares, parse_cpu_max, parse_limit,
    parse_quota_v1, parse_weight, shares_to_milli, shares_to_weight_new, shares_to_weight_old, weight_to_shares,
};
pub use driver::{Component, Configured, DriverFacts, TreeFacts, driver_findings, running_driver};
pub use mounts::{CgroupMode, CgroupMounts, Hierarchy, MountsError, Version};
pub use name::{CgroupRoot, Leaf, LeafKind, NameError, PodsLayout, parse_leaf};
pub use strays::literal_systemd_path;
