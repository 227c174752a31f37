//! Which cgroup hierarchies and which driver the node has, and where kubelet, runtime and tree disagree.
//!
//! Nothing is written: changing a driver means draining the node.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use trimtab_domain::cgroup::{
    CgroupMode, Component, Configured, DriverFacts, RuntimeDrivers, driver_findings, running_driver, weigh_drivers,
};
use trimtab_domain::plan::{Finding, Plan, Severity};
use trimtab_domain::spec::{CgroupSpec, NodeSpec};

use crate::ports::cgroups::{CgroupTree, TreeEvidence};
use crate::ports::kubelet::{KubeletSource, RuntimeSource};
use crate::ports::runtime::{ContainerRuntime, RuntimeError};
use crate::reconcile::report::ObjectReport;
use crate::reconcile::{Error, Step, Subsystem};

/// The subsystem, over the tree and the configuration of kubelet and runtimes.
pub struct Cgroup {
    tree: Arc<dyn CgroupTree>,
    kubelet: Arc<dyn KubeletSource>,
    runtimes: Arc<dyn RuntimeSource>,
    runtime: Option<Arc<dyn ContainerRuntime>>,
}

impl Cgroup {
    /// Looks at the node through these ports.
    #[must_use]
    pub fn new(tree: Arc<dyn CgroupTree>, kubelet: Arc<dyn KubeletSource>, runtimes: Arc<dyn RuntimeSource>) -> Self {
        Self { tree, kubelet, runtimes, runtime: None }
    }

    /// Asks this runtime too; what it answers is the strongest source.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Option<Arc<dyn ContainerRuntime>>) -> Self {
        self.runtime = runtime;
        self
    }

    /// What the running runtime says. One that is away says nothing, and files are all that is known.
    async fn answers(&self, problems: &mut Vec<String>) -> Vec<Configured> {
        let Some(runtime) = &self.runtime else { return Vec::new() };
        match runtime.cgroup_drivers().await {
            Ok(drivers) => drivers,
            Err(RuntimeError::Away { .. }) => Vec::new(),
            Err(error) => {
                problems.push(error.to_string());
                Vec::new()
            }
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Mounts and trees.
    pub evidence: TreeEvidence,
    /// The kubelet's driver in force.
    pub kubelet: Option<Configured>,
    /// Everywhere else that a driver of the kubelet is set.
    pub kubelet_others: Vec<Configured>,
    /// Drivers of the runtimes.
    pub runtimes: RuntimeDrivers,
    /// What could not be read or understood.
    pub problems: Vec<String>,
}

impl Observed {
    fn facts(&self) -> DriverFacts {
        DriverFacts {
            mode: self.evidence.mode,
            trees: self.evidence.trees.clone(),
            kubelet: self.kubelet.clone(),
            runtimes: self.runtimes.in_force.clone(),
            literal_paths: self.evidence.literal_paths.clone(),
        }
    }
}

/// There is no step.
#[derive(Debug, Clone)]
pub struct NoStep(Infallible);

impl fmt::Display for NoStep {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl Step for NoStep {
    fn object(&self) -> Option<&str> {
        match self.0 {}
    }
}

impl Subsystem for Cgroup {
    const NAME: &'static str = "cgroup";
    type Desired = CgroupSpec;
    type Observed = Observed;
    type Step = NoStep;

    fn desired(spec: &NodeSpec) -> &CgroupSpec {
        &spec.cgroup
    }

    async fn observe(&self, _desired: &CgroupSpec) -> Result<Observed, Error> {
        let evidence =
            self.tree.evidence().map_err(|error| Error::transient("cannot look at the cgroup hierarchies", error))?;
        let kubelet = self.kubelet.settings();
        let runtimes = self.runtimes.drivers();
        let mut problems = kubelet.problems;
        problems.extend(runtimes.problems);
        let answers = self.answers(&mut problems).await;
        Ok(Observed {
            evidence,
            kubelet: kubelet.driver,
            kubelet_others: kubelet.other_drivers,
            runtimes: weigh_drivers(answers, runtimes.drivers),
            problems,
        })
    }

    fn plan(desired: &CgroupSpec, observed: &Observed) -> Plan<NoStep> {
        let mut findings = driver_findings(&observed.facts(), desired.driver);
        findings.extend(observed.runtimes.findings.iter().cloned());
        findings.extend(observed.problems.iter().map(|problem| Finding {
            severity: Severity::Warning,
            code: "cgroup-configuration-unclear",
            object: "cgroup driver".into(),
            message: problem.clone(),
            remedy: "correct the file, or let the agent read it; what it says is not part of the comparison".into(),
        }));
        Plan { findings, ..Plan::default() }
    }

    async fn apply(&self, step: &NoStep) -> Result<(), Error> {
        match step.0 {}
    }

    fn objects(desired: &CgroupSpec, observed: &Observed) -> Vec<ObjectReport> {
        let evidence = &observed.evidence;
        let mounts = evidence.mounts.iter().map(|(name, mount)| ("mount", format!("{name} at {mount}"))).collect();
        let mut objects = vec![
            ObjectReport {
                object: "cgroup mode".into(),
                desired: None,
                observed: evidence.mode.map(|mode: CgroupMode| mode.to_string()),
                attributes: mounts,
            },
            ObjectReport {
                object: "cgroup driver".into(),
                desired: desired.driver.map(|driver| driver.to_string()),
                observed: running_driver(&evidence.trees).map(|driver| driver.to_string()),
                attributes: vec![("source", "running tree".into())],
            },
        ];
        objects.extend(evidence.trees.iter().map(|tree| ObjectReport {
            object: format!("tree {}", tree.root),
            desired: None,
            observed: Some(format!("{} pods", tree.pods)),
            attributes: vec![
                ("driver", tree.driver.to_string()),
                ("populated", if tree.populated { "yes".into() } else { "no".into() }),
            ],
        }));
        objects.extend(observed.kubelet.iter().map(|configured| configuration(configured, "yes")));
        objects.extend(observed.kubelet_others.iter().map(|configured| configuration(configured, "no")));
        objects.extend(observed.runtimes.in_force.iter().map(|configured| configuration(configured, "yes")));
        objects.extend(observed.runtimes.others.iter().map(|configured| configuration(configured, "no")));
        objects
    }
}

fn configuration(configured: &Configured, in_force: &str) -> ObjectReport {
    let mut attributes = vec![("source", configured.source.clone()), ("in force", in_force.into())];
    if let Component::Containerd { default: true, .. } = configured.component {
        attributes.push(("handler", "default".into()));
    }
    ObjectReport {
        object: format!("{} cgroup driver", configured.component.describe()),
        desired: None,
        observed: Some(configured.driver.to_string()),
        attributes,
    }
}
