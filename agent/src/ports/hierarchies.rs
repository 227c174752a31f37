//! Where each controller of the cgroups of the node is.

use trimtab_domain::cgroup::Hierarchy;

use super::cgroups::CgroupError;

/// The mounted hierarchies.
pub trait Hierarchies: Send + Sync + 'static {
    /// The hierarchy that has the controller (`cpu`, `memory`, `pids`, `hugetlb`, `cpuset`); `None`: none has it, or the
    /// kernel offers no such controller.
    ///
    /// # Errors
    /// [`CgroupError`] when the mounts cannot be read.
    fn hierarchy(&self, controller: &str) -> Result<Option<Hierarchy>, CgroupError>;
}
