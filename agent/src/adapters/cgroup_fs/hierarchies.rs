//! Which hierarchy has a controller.

use trimtab_domain::cgroup::{Hierarchy, Version};

use super::{CgroupFs, at, read_trimmed};
use crate::ports::cgroups::CgroupError;
use crate::ports::hierarchies::Hierarchies;

impl Hierarchies for CgroupFs {
    fn hierarchy(&self, controller: &str) -> Result<Option<Hierarchy>, CgroupError> {
        let Some(hierarchy) = self.mounts()?.hierarchy_of(controller) else { return Ok(None) };
        if hierarchy.version == Version::V1 {
            return Ok(Some(hierarchy));
        }
        // The unified hierarchy lists what it has (cgroup-v2.rst, "cgroup.controllers").
        let offered = read_trimmed(&*self.files, &at(&hierarchy, "").join("cgroup.controllers"))?;
        let has = offered.is_some_and(|names| names.split_whitespace().any(|name| name == controller));
        Ok(has.then_some(hierarchy))
    }
}
