//! Section `kernel` of a profile.

use std::collections::BTreeMap;

/// Kernel settings that are not sysctls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelSpec {
    /// `transparentHugePages.enabled`: `always`, `madvise` or `never`.
    pub thp_enabled: Option<String>,
    /// `transparentHugePages.defrag`: `always`, `defer`, `defer+madvise`, `madvise` or `never`.
    pub thp_defrag: Option<String>,
    /// Huge pages: (page size in bytes, NUMA node) to number of pages.
    pub huge_pages: BTreeMap<(u64, u32), u64>,
    /// Modules to load, in order.
    pub modules_load: Vec<String>,
    /// Modules that must not be loaded from now on.
    pub modules_block: Vec<String>,
}
