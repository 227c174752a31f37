//! Kernel settings that are no sysctls: transparent huge pages, huge pages per NUMA node and size, modules.

pub mod blocklist;
pub mod huge_pages;
pub mod module;
pub mod observation;
pub mod plan;
pub mod step;
pub mod thp;
