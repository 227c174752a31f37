//! The answer to everything that runs, when a session with a runtime begins.

use std::collections::BTreeSet;

use trimtab_domain::roster::{ContainerState, Sandbox, SandboxContainer};
use trimtab_domain::workload::PodUid;

use super::claim::Newcomer;
use super::create::place_timed;
use super::standing::Standing;
use super::state::State;
use crate::ports::admission::CpusetUpdate;

impl State {
    /// Adopts what runs: who has a place keeps it, who started while nobody listened gets one, who is gone gives back.
    /// Answers with what others have to leave for that.
    pub(super) fn synchronize(
        &mut self,
        sandboxes: Vec<Sandbox>,
        containers: Vec<SandboxContainer>,
    ) -> Vec<CpusetUpdate> {
        let before: BTreeSet<PodUid> = self.roster.sandboxes().map(|sandbox| sandbox.uid.clone()).collect();
        self.roster.replace(sandboxes, containers);
        self.follow_roster();
        self.version += 1;
        // What only the cgroup tree knew is for the pass to judge.
        before.iter().for_each(|uid| self.release_pod(uid));
        self.look_at_pods("");
        self.place_the_unplaced();
        match &self.standing {
            Standing::Holding(rules) => self.living.narrow(rules, None),
            Standing::Unknown | Standing::Silent => Vec::new(),
        }
    }

    fn place_the_unplaced(&mut self) {
        let Standing::Holding(rules) = &mut self.standing else { return };
        for container in self.roster.containers() {
            let Some(sandbox) = self.roster.sandbox(&container.sandbox) else { continue };
            let Some(told) = &container.resources else { continue };
            let lives = self.living.0.get(&container.id).is_some_and(|live| !live.sandboxed);
            if !lives || container.state == ContainerState::Exited {
                continue;
            }
            let known = rules.managers.active().get(&sandbox.uid);
            let has_place = rules.managers.cpus_of(&sandbox.uid, &container.name).is_some();
            if has_place {
                continue;
            }
            if let Some(newcomer) = Newcomer::new(&self.roster, known, sandbox, (container, told)) {
                // It runs: one that does not fit stays on the shared CPUs, and the pass says why.
                let (_, decided) = place_timed(rules, &self.living, &newcomer, &container.name);
                self.tally.note(&decided);
            }
        }
    }
}
