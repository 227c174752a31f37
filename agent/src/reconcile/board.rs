//! Where the subsystems pin up their reports; everything that answers reads the one picture of the node from here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use trimtab_domain::plan::Finding;

use super::report::{NodeReport, ProfileReport, State, SubsystemReport};

/// Collects the reports of all subsystems and publishes the node's.
#[derive(Debug)]
pub struct Board {
    report: Mutex<NodeReport>,
    out: watch::Sender<Arc<NodeReport>>,
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
        Self { report: Mutex::new(report), out }
    }

    /// Follows the node's report.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<NodeReport>> {
        self.out.subscribe()
    }

    /// Replaces the report of one subsystem.
    pub fn publish(&self, subsystem: SubsystemReport) {
        self.change(|node| {
            if let Some(slot) = node.subsystems.iter_mut().find(|slot| slot.name == subsystem.name) {
                *slot = Arc::new(subsystem);
            }
        });
    }

    /// Replaces what is known of the profile.
    pub fn publish_profile(&self, profile: ProfileReport) {
        self.change(|node| node.profile = profile);
    }

    /// Adds a finding of the agent as a whole.
    pub fn publish_finding(&self, finding: Finding) {
        self.change(|node| node.findings.push(finding));
    }

    fn change(&self, change: impl FnOnce(&mut NodeReport)) {
        let mut node = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut node);
        // Ready: a profile is known and every subsystem has ended a pass over it, so that what depends on the agent
        // finds the node as ordered or an honest report of why not.
        node.ready =
            node.profile.generation > 0 && node.subsystems.iter().all(|subsystem| subsystem.state != State::Pending);
        self.out.send_replace(Arc::new(node.clone()));
    }
}
