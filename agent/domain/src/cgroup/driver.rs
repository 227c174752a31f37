//! Which driver is in use, which ones are configured, and where they disagree.

use super::CgroupMode;
use crate::plan::{Finding, Severity};
use crate::spec::cgroup::CgroupDriver;

/// What the cgroup tree shows of one driver's pods; made only if the directory of all pods exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFacts {
    /// The driver whose names these are.
    pub driver: CgroupDriver,
    /// Directory of all pods, relative to the mount point.
    pub root: String,
    /// Number of pod directories.
    pub pods: usize,
    /// True if a process runs in one of them.
    pub populated: bool,
}

/// Whose configuration it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The kubelet.
    Kubelet,
    /// containerd, one runtime handler of it.
    Containerd {
        /// Name of the handler, usually `runc`.
        handler: String,
        /// True for the handler that pods get without a RuntimeClass.
        default: bool,
    },
    /// CRI-O.
    CriO,
    /// Docker, with cri-dockerd.
    Docker,
}

impl Component {
    /// `kubelet`, `containerd handler runc` …
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Kubelet => "kubelet".into(),
            Self::Containerd { handler, .. } => format!("containerd handler {handler}"),
            Self::CriO => "CRI-O".into(),
            Self::Docker => "docker".into(),
        }
    }
}

/// A driver that is configured somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// Whose it is.
    pub component: Component,
    /// The driver.
    pub driver: CgroupDriver,
    /// The file, flag or default that says so.
    pub source: String,
}

/// Everything that is known about cgroup drivers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriverFacts {
    /// Version of the hierarchies; absent: none is mounted.
    pub mode: Option<CgroupMode>,
    /// The trees of pods that exist.
    pub trees: Vec<TreeFacts>,
    /// The kubelet's configuration; absent where no kubelet is known.
    pub kubelet: Option<Configured>,
    /// Configurations of the runtimes.
    pub runtimes: Vec<Configured>,
    /// Directories literally named `…slice:cri-containerd:<id>`, absolute.
    pub literal_paths: Vec<String>,
}

/// The driver that the running tree shows: the only tree, or of two the one with processes, or else the only one with
/// pods. `None` if there is no tree, or if nothing tells which of two is in use.
#[must_use]
pub fn running_driver(trees: &[TreeFacts]) -> Option<CgroupDriver> {
    let only = |wanted: &dyn Fn(&TreeFacts) -> bool| {
        let mut matching = trees.iter().filter(|tree| wanted(tree));
        let first = matching.next()?;
        matching.all(|tree| tree.driver == first.driver).then_some(first.driver)
    };
    only(&|_| true).or_else(|| only(&|tree| tree.populated)).or_else(|| {
        let nobody = trees.iter().all(|tree| !tree.populated);
        nobody.then(|| only(&|tree| tree.pods > 0)).flatten()
    })
}

/// How to bring kubelet and runtime to one driver (Kubernetes documentation, "Migrating to the systemd driver").
fn migration(driver: CgroupDriver) -> String {
    format!(
        "drain the node; stop the kubelet, then the runtime; set the runtime to {driver}; set cgroupDriver: {driver} in \
         the kubelet's configuration (and in ConfigMap kubelet-config, so that joins and upgrades keep it); remove left \
         containers or reboot; start the runtime, then the kubelet; uncordon the node"
    )
}

/// What a person should know about these facts; empty where all agree. `wish` is the driver of the profile.
#[must_use]
pub fn driver_findings(facts: &DriverFacts, wish: Option<CgroupDriver>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let running = running_driver(&facts.trees);
    mode_findings(facts, &mut findings);
    tree_findings(facts, running, &mut findings);
    for path in &facts.literal_paths {
        findings.push(Finding {
            severity: Severity::Error,
            code: "cgroup-literal-systemd-path",
            object: path.clone(),
            message: "containers run outside the cgroups of their pods, so no limit applies to them: the runtime uses \
                      cgroupfs while the kubelet uses systemd"
                .into(),
            remedy: migration(wish.unwrap_or(CgroupDriver::Systemd)),
        });
    }
    findings.extend(disagreements(facts, running, wish));
    if let (Some(wish), Some(running)) = (wish, running)
        && wish != running
    {
        findings.push(Finding {
            severity: Severity::Warning,
            code: "cgroup-driver-unwanted",
            object: "cgroup driver".into(),
            message: format!("the profile asks for {wish}, the running tree shows {running}"),
            remedy: migration(wish),
        });
    }
    findings
}

fn mode_findings(facts: &DriverFacts, findings: &mut Vec<Finding>) {
    let (severity, code, message, remedy) = match facts.mode {
        Some(CgroupMode::V2) => return,
        Some(CgroupMode::V1) => (
            Severity::Info,
            "cgroup-v1",
            "the node uses cgroup v1, which kubelets since 1.35 refuse unless failCgroupV1 is false",
            "plan the move to cgroup v2 (kernel parameter systemd.unified_cgroup_hierarchy=1)",
        ),
        Some(CgroupMode::Hybrid) => (
            Severity::Info,
            "cgroup-hybrid",
            "the node mounts cgroup v1 controllers beside the unified hierarchy; Kubernetes counts it as v1",
            "plan the move to cgroup v2 (kernel parameter systemd.unified_cgroup_hierarchy=1)",
        ),
        None => (
            Severity::Error,
            "cgroup-not-mounted",
            "no cgroup hierarchy is mounted, or none can be seen below the host root",
            "mount /sys/fs/cgroup of the host into the agent",
        ),
    };
    findings.push(Finding {
        severity,
        code,
        object: "cgroup mode".into(),
        message: message.into(),
        remedy: remedy.into(),
    });
}

fn tree_findings(facts: &DriverFacts, running: Option<CgroupDriver>, findings: &mut Vec<Finding>) {
    if facts.trees.iter().any(|tree| Some(tree.driver) != running) && !facts.trees.is_empty() {
        let roots: Vec<_> = facts.trees.iter().map(|tree| tree.root.as_str()).collect();
        let (severity, verdict) = match running {
            Some(driver) => (Severity::Info, format!("the one of {driver} is in use")),
            None => (Severity::Warning, "nothing tells which of them is in use".into()),
        };
        findings.push(Finding {
            severity,
            code: "cgroup-two-trees",
            object: roots.join(", "),
            message: format!("the trees of pods of both drivers exist; {verdict}"),
            remedy: "remove the one left over, leaves first, with rmdir; a reboot does the same".into(),
        });
    }
}

/// Kubelet against runtimes, runtimes against one another, configuration against the running tree.
fn disagreements(facts: &DriverFacts, running: Option<CgroupDriver>, wish: Option<CgroupDriver>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(kubelet) = &facts.kubelet {
        for runtime in facts.runtimes.iter().filter(|runtime| runtime.driver != kubelet.driver) {
            let target = wish.unwrap_or(CgroupDriver::Systemd);
            findings.push(Finding {
                // A kubelet that asks its runtime ignores its own file, and then the tree agrees with the runtime.
                severity: if running == Some(runtime.driver) { Severity::Warning } else { Severity::Error },
                code: "cgroup-driver-mismatch",
                object: runtime.component.describe(),
                message: format!(
                    "the kubelet is set to {} ({}), {} to {} ({}); kubelets since 1.31 take the driver of a runtime that \
                     answers RuntimeConfig (containerd 2.0, CRI-O 1.28 and later), others fail or run containers outside \
                     their pods",
                    kubelet.driver,
                    kubelet.source,
                    runtime.component.describe(),
                    runtime.driver,
                    runtime.source
                ),
                remedy: migration(target),
            });
        }
    } else if let Some((first, others)) = facts.runtimes.split_first() {
        for runtime in others.iter().filter(|runtime| runtime.driver != first.driver) {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "cgroup-driver-mismatch",
                object: runtime.component.describe(),
                message: format!(
                    "{} is set to {} ({}), {} to {} ({}), and only one of them can suit the kubelet",
                    first.component.describe(),
                    first.driver,
                    first.source,
                    runtime.component.describe(),
                    runtime.driver,
                    runtime.source
                ),
                remedy: migration(wish.unwrap_or(CgroupDriver::Systemd)),
            });
        }
    }
    let agreed = facts.kubelet.iter().chain(&facts.runtimes).map(|configured| configured.driver);
    let mut agreed: Vec<_> = agreed.collect();
    agreed.dedup();
    if let (Some(running), [configured]) = (running, agreed.as_slice())
        && running != *configured
    {
        findings.push(Finding {
            severity: Severity::Warning,
            code: "cgroup-driver-pending",
            object: "cgroup driver".into(),
            message: format!("everything is set to {configured}, yet the running tree shows {running}"),
            remedy: "restart runtime and kubelet on the drained node, or reboot it, to put the change into force"
                .into(),
        });
    }
    findings
}

#[cfg(test)]
mod tests;
