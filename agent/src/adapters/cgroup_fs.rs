//! The cgroup hierarchies of the host: mounts, the tree of pods, and writes to it.

mod evidence;
mod hierarchies;
mod walk;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use trimtab_domain::cgroup::tree::PodTree;
use trimtab_domain::cgroup::{CgroupMounts, CgroupRoot, Hierarchy, PodsLayout, Version, running_driver};
use trimtab_domain::spec::cgroup::CgroupDriver;

use crate::ports::cgroups::{CgroupError, CgroupTree, TreeEvidence, Written};
use crate::ports::{FileError, HostFiles};

/// The controller of CPUs and memory nodes.
const CPUSET: &str = "cpuset";
/// Mounts as the host's first process sees them, and as this one does where that is hidden.
const MOUNTINFO: [&str; 2] = ["/proc/1/mountinfo", "/proc/self/mountinfo"];

/// The cgroup tree, read and written through the host's files.
pub struct CgroupFs {
    files: Arc<dyn HostFiles>,
    root: CgroupRoot,
    /// The mounts, once found: a node has thousands of others to read through, and these never change while it runs.
    mounts: OnceLock<CgroupMounts>,
}

impl CgroupFs {
    /// The tree below the kubelet's `--cgroup-root`, `/` by default.
    ///
    /// # Errors
    /// [`CgroupError::Root`] for a root that is no absolute path.
    pub fn new(files: Arc<dyn HostFiles>, cgroup_root: &str) -> Result<Self, CgroupError> {
        Ok(Self { files, root: CgroupRoot::parse(cgroup_root)?, mounts: OnceLock::new() })
    }

    fn mounts(&self) -> Result<CgroupMounts, CgroupError> {
        if let Some(mounts) = self.mounts.get() {
            return Ok(mounts.clone());
        }
        for path in MOUNTINFO.map(Path::new) {
            // The first process of the host may be hidden from this one, which is as good as absent.
            let Ok(Some(text)) = self.files.read(path) else { continue };
            let mounts =
                CgroupMounts::parse(&text).map_err(|source| CgroupError::Mounts { path: path.to_owned(), source })?;
            if mounts.mode().is_some() {
                return Ok(self.mounts.get_or_init(|| mounts).clone());
            }
        }
        Ok(CgroupMounts::default())
    }

    /// The layouts whose directory of all pods exists in the hierarchy.
    fn layouts(&self, hierarchy: &Hierarchy) -> Result<Vec<PodsLayout>, CgroupError> {
        let mut layouts = Vec::new();
        for driver in [CgroupDriver::Systemd, CgroupDriver::Cgroupfs] {
            if let Some(layout) = self.root.layout(driver)
                && self.files.list(&at(hierarchy, &layout.root()))?.is_some()
            {
                layouts.push(layout);
            }
        }
        Ok(layouts)
    }

    /// The layout in use; `None` if no directory of all pods exists.
    fn layout_in_use(&self, hierarchy: &Hierarchy) -> Result<Option<PodsLayout>, CgroupError> {
        let mut layouts = self.layouts(hierarchy)?;
        if layouts.len() < 2 {
            return Ok(layouts.pop());
        }
        let trees = layouts.iter().map(|layout| evidence::tree_facts(&*self.files, hierarchy, layout));
        let trees = trees.collect::<Result<Vec<_>, _>>()?;
        match running_driver(&trees) {
            Some(driver) => Ok(layouts.into_iter().find(|layout| layout.driver() == driver)),
            None => Err(CgroupError::Ambiguous(layouts.iter().map(PodsLayout::root).collect())),
        }
    }
}

impl CgroupTree for CgroupFs {
    fn evidence(&self) -> Result<TreeEvidence, CgroupError> {
        let mounts = self.mounts()?;
        let mut evidence = TreeEvidence { mode: mounts.mode(), ..TreeEvidence::default() };
        evidence.mounts.extend(mounts.controllers().map(|(name, mount)| (name.to_owned(), mount.to_owned())));
        evidence.mounts.extend(mounts.unified().map(|mount| ("unified".to_owned(), mount.to_owned())));
        // On version 1 not every controller holds every pod, but `cpu` does; `cpuset` matters for pinning.
        let Some(hierarchy) = mounts.hierarchy_of("cpu").or_else(|| mounts.hierarchy_of("cpuset")) else {
            return Ok(evidence);
        };
        for layout in self.layouts(&hierarchy)? {
            evidence.trees.push(evidence::tree_facts(&*self.files, &hierarchy, &layout)?);
        }
        evidence.literal_paths = evidence::literal_paths(&*self.files, &hierarchy)?;
        Ok(evidence)
    }

    fn pods(&self) -> Result<Option<PodTree>, CgroupError> {
        let mounts = self.mounts()?;
        let hierarchy = hierarchy_of(&mounts, CPUSET)?;
        let Some(layout) = self.layout_in_use(&hierarchy)? else { return Ok(None) };
        Ok(Some(walk::Walk::new(&*self.files, &mounts, hierarchy, &layout).read()?))
    }

    fn read(&self, path: &str, file: &str) -> Result<Option<String>, CgroupError> {
        let hierarchy = match hierarchy_of(&self.mounts()?, file) {
            // Without the controller there is no such file.
            Err(CgroupError::NoController(_)) => return Ok(None),
            hierarchy => hierarchy?,
        };
        Ok(read_trimmed(&*self.files, &at(&hierarchy, path).join(file))?)
    }

    fn is_populated(&self, path: &str) -> Result<bool, CgroupError> {
        let hierarchy = hierarchy_of(&self.mounts()?, CPUSET)?;
        Ok(evidence::is_populated(&*self.files, hierarchy.version, &at(&hierarchy, path))?)
    }

    fn write(&self, path: &str, file: &str, value: &str) -> Result<Written, CgroupError> {
        let hierarchy = hierarchy_of(&self.mounts()?, file)?;
        // An empty write(2) never reaches the kernel's handler; a line feed is the empty list.
        let text = if value.is_empty() { "\n" } else { value };
        match self.files.write(&at(&hierarchy, path).join(file), text) {
            Ok(()) => Ok(Written::Done),
            Err(error) if vanished(&error) => Ok(Written::Vanished),
            Err(error) => Err(error.into()),
        }
    }
}

/// The hierarchy that has the controller of a file: `cpu` for `cpu.max`, `cpuset` for `cpuset.cpus`.
fn hierarchy_of(mounts: &CgroupMounts, file: &str) -> Result<Hierarchy, CgroupError> {
    let controller = file.split_once('.').map_or(file, |(controller, _)| controller);
    mounts.hierarchy_of(controller).ok_or_else(|| match controller {
        CPUSET => CgroupError::NoCpuset,
        _ => CgroupError::NoController(controller.to_owned()),
    })
}

/// ENOENT: the directory is gone; ENODEV: it went between open and write.
fn vanished(error: &FileError) -> bool {
    error.source.kind() == ErrorKind::NotFound || error.source.raw_os_error() == Some(Errno::ENODEV as i32)
}

fn at(hierarchy: &Hierarchy, path: &str) -> PathBuf {
    Path::new(&hierarchy.mount).join(path)
}

fn read_trimmed(files: &dyn HostFiles, path: &Path) -> Result<Option<String>, FileError> {
    Ok(files.read(path)?.map(|text| text.trim_end_matches('\n').to_owned()))
}

/// The files of the controller `cpuset` that show what the kernel really grants.
const fn effective_files(version: Version) -> (&'static str, &'static str) {
    match version {
        Version::V1 => ("cpuset.effective_cpus", "cpuset.effective_mems"),
        Version::V2 => ("cpuset.cpus.effective", "cpuset.mems.effective"),
    }
}
