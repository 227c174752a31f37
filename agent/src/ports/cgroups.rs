//! The cgroup hierarchies of the node, as far as they concern pods.

use std::path::PathBuf;

use trimtab_domain::cgroup::tree::PodTree;
use trimtab_domain::cgroup::{CgroupMode, MountsError, NameError, TreeFacts};

use super::FileError;

/// The cgroup tree of the node.
pub trait CgroupTree: Send + Sync + 'static {
    /// What the hierarchies say about the driver in use.
    ///
    /// # Errors
    /// [`CgroupError`] when the hierarchies cannot be read.
    fn evidence(&self) -> Result<TreeEvidence, CgroupError>;

    /// The pods with everything that their cgroups tell; `None` if the tree of pods does not exist.
    ///
    /// # Errors
    /// [`CgroupError`] when it cannot be read as a whole. What vanishes meanwhile is left out.
    fn pods(&self) -> Result<Option<PodTree>, CgroupError>;

    /// Text of a file, without the final newline; `None` if the cgroup or the file does not exist. `path` is relative to
    /// the hierarchy with the controller that the file's name begins with (`cpuset.cpus`, `cpu.max`).
    ///
    /// # Errors
    /// [`CgroupError`] when it exists and cannot be read.
    fn read(&self, path: &str, file: &str) -> Result<Option<String>, CgroupError>;

    /// True if a process runs in the cgroup or in one inside it; false if the cgroup is gone. `path` is relative to the
    /// hierarchy of the controller `cpuset`.
    ///
    /// # Errors
    /// [`CgroupError`] when it exists and cannot be read.
    fn is_populated(&self, path: &str) -> Result<bool, CgroupError>;

    /// Writes a file; `path` as in [`Self::read`].
    ///
    /// # Errors
    /// [`CgroupError`]; a cgroup that has vanished is [`Written::Vanished`], not an error.
    fn write(&self, path: &str, file: &str, value: &str) -> Result<Written, CgroupError>;
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The kernel took it, which on version 2 proves nothing about the effective set.
    Done,
    /// The cgroup is gone.
    Vanished,
}

/// Evidence of the driver in use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeEvidence {
    /// Which hierarchies are mounted; `None`: none.
    pub mode: Option<CgroupMode>,
    /// Where: controller (or `unified`) to mount point.
    pub mounts: Vec<(String, String)>,
    /// The trees of pods that exist.
    pub trees: Vec<TreeFacts>,
    /// Directories literally named `…slice:cri-containerd:<id>`, absolute.
    pub literal_paths: Vec<String>,
}

/// The cgroup tree could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list of mounts is no such list.
    #[error("cannot understand {}", path.display())]
    Mounts {
        /// Which list.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: MountsError,
    },
    /// The kubelet's cgroup root is no path.
    #[error("cannot use the kubelet's cgroup root")]
    Root(#[from] NameError),
    /// No hierarchy has the controller.
    #[error("no mounted cgroup hierarchy has the controller cpuset; mount /sys/fs/cgroup of the host into the agent")]
    NoCpuset,
    /// No hierarchy has another controller.
    #[error("no mounted cgroup hierarchy has the controller {0}; mount /sys/fs/cgroup of the host into the agent")]
    NoController(String),
    /// Both drivers' trees exist, and nothing tells which one is in use.
    #[error("the trees {} both exist and both or neither run pods; remove the one left over (rmdir, leaves first)", .0.join(" and "))]
    Ambiguous(Vec<String>),
}
