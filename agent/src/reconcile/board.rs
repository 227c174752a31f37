//! Where the subsystems pin up their reports; everything that answers reads the one picture of the node from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use trimtab_domain::plan::Finding;

use super::report::{NodeReport, ProfileReport, State, SubsystemReport};

/// Collects the reports of all subsystems and publishes the node's.
#[derive(Debug)]
pub struct Board {
    report: Mutex<Draft>,
    out: watch::Sender<Arc<NodeReport>>,
}

#[derive(Debug)]
struct Draft {
    node: NodeReport,
    findings: BTreeMap<&'static str, Vec<Finding>>,
}

impl Board {
    /// A board for these subsystems, none of which has ended a pass.
    #[must_use]
    pub fn new(node: String, subsystems: &[&'static str]) -> Self {
        let report = NodeReport {
            node,
            version: env!("CARGO_PKG_VERSION"),
            started: SystemTime::now(),
            profile: ProfileReport::default(),
            subsystems: subsystems.iter().map(|name| Arc::new(SubsystemReport::pending(name))).collect(),
            findings: Vec::new(),
            ready: false,
        };
        let (out, _) = watch::channel(Arc::new(report.clone()));
        Self { report: Mutex::new(Draft { node: report, findings: BTreeMap::new() }), out }
    }

    /// Follows the node's report.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<NodeReport>> {
        self.out.subscribe()
    }

    /// Replaces the report of one subsystem.
    pub fn publish(&self, subsystem: SubsystemReport) {
        self.change(|draft| {
            if let Some(slot) = draft.node.subsystems.iter_mut().find(|slot| slot.name == subsystem.name) {
                *slot = Arc::new(subsystem);
            }
        });
    }

    /// Replaces what is known of the profile.
    pub fn publish_profile(&self, profile: ProfileReport) {
        self.change(|draft| draft.node.profile = profile);
    }

    /// Replaces the findings that one part of the agent (`ledger`, `profile`) has about itself.
    pub fn publish_findings(&self, part: &'static str, findings: Vec<Finding>) {
        self.change(|draft| {
            draft.findings.insert(part, findings);
            draft.node.findings = draft.findings.values().flatten().cloned().collect();
        });
    }

    fn change(&self, change: impl FnOnce(&mut Draft)) {
        let mut draft = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut draft);
        // Ready: a profile is known and every subsystem has ended a pass over it, so that what depends on the agent
        // finds the node as ordered or an honest report of why not.
        let node = &mut draft.node;
        let settled = |report: &Arc<SubsystemReport>| report.state != State::Pending && report.unready.is_none();
        node.ready = node.profile.generation > 0 && node.subsystems.iter().all(settled);
        self.out.send_replace(Arc::new(node.clone()));
    }
}
