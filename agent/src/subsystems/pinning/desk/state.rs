//! What the desk knows, and what becomes of it as containers come and go.

use std::collections::{BTreeMap, BTreeSet};

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::isolation::{HandlerTypes, sandboxed};
use trimtab_domain::roster::{ContainerState, Roster, Sandbox, SandboxContainer, SandboxId};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::workload::{ContainerId, PodUid};

use super::foreign::ForeignPinner;
use super::held::HeldContainers;
use super::live::{Live, Living};
use super::standing::{Rules, Standing};
use super::tally::{Decided, Tally};
use crate::ports::admission::RuntimePeer;

/// Everything behind the lock.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Grows with every change of who lives and who has what.
    pub(super) version: u64,
    /// The runtime at the other end of NRI, while there is one.
    pub(super) peer: Option<RuntimePeer>,
    pub(super) roster: Roster,
    /// What the runtime told of its handlers.
    pub(super) handlers: HandlerTypes,
    pub(super) standing: Standing,
    pub(super) living: Living,
    /// Where containers ran when a pass looked last; some of them nobody has told of yet.
    pub(super) seen: BTreeMap<ContainerId, CpuSet>,
    pub(super) foreign: ForeignPinner,
    /// The settings in force; `None`: none has been told yet.
    pub(super) settings: Option<Option<ResourceManagersSpec>>,
    pub(super) held: HeldContainers,
    /// Sets that are about to be told to the runtime by the agent itself.
    pub(super) announced: BTreeMap<ContainerId, Vec<CpuSet>>,
    /// What has been counted.
    pub(super) tally: Tally,
}

impl State {
    /// The rules, unless somebody else pins.
    pub(super) fn rules(&self) -> Option<&Rules> {
        match &self.standing {
            Standing::Holding(rules) => Some(rules),
            Standing::Unknown | Standing::Silent => None,
        }
    }

    /// Somebody else pins: from now on nothing of his is decided, said or written, and what is pinned stays.
    pub(super) fn yield_to_foreign(&mut self) {
        if let Standing::Holding(rules) = &mut self.standing {
            rules.cpus &= self.foreign.cpus.is_none();
            rules.mems &= self.foreign.mems.is_none();
            if !rules.cpus && !rules.mems {
                self.standing = Standing::Silent;
            }
        }
        self.version += 1;
    }

    /// Looks at the annotations of the pods that run already; `runtime` is who answers where nobody announces.
    pub(super) fn look_at_pods(&mut self, runtime: &str) {
        let runtime = self.peer.as_ref().map_or(runtime, |peer| peer.name.as_str());
        let foreign = &mut self.foreign;
        let ready = |sandbox: &&Sandbox| sandbox.ready;
        let is_news = self.roster.sandboxes().filter(ready).any(|sandbox| foreign.look_at_pod(runtime, sandbox));
        if is_news {
            self.yield_to_foreign();
        }
    }

    /// Name for people.
    pub(super) fn display_name(&self, sandbox: &SandboxId, container: &SandboxContainer) -> String {
        match self.roster.sandbox(sandbox) {
            Some(sandbox) => format!("{}/{}/{}", sandbox.namespace, sandbox.name, container.name),
            None => container.name.clone(),
        }
    }

    /// A container lives from now on.
    pub(super) fn admit_to_living(&mut self, sandbox: &Sandbox, container: &SandboxContainer) -> &mut Live {
        let told = container.resources.as_ref();
        let set =
            |text: Option<&String>| text.filter(|text| !text.is_empty()).and_then(|text| CpuSet::parse(text).ok());
        // What the runtime was told may have been changed behind its back.
        let seen = self.seen.get(&container.id).cloned();
        self.living.0.entry(container.id.clone()).or_insert_with(|| Live {
            uid: sandbox.uid.clone(),
            name: container.name.clone(),
            sandboxed: sandboxed(&sandbox.runtime_handler, &self.handlers).is_some(),
            cpus: seen.or_else(|| set(told.map(|told| &told.cpus))),
            mems: set(told.map(|told| &told.mems)),
            born_pinned: false,
            answered: None,
        })
    }

    /// The living are those of the roster that are not over.
    pub(super) fn follow_roster(&mut self) {
        let mut lives = BTreeSet::new();
        let containers: Vec<SandboxContainer> = self
            .roster
            .containers()
            .into_iter()
            .filter(|container| container.state != ContainerState::Exited)
            .cloned()
            .collect();
        for container in containers {
            if let Some(sandbox) = self.roster.sandbox(&container.sandbox).cloned() {
                self.admit_to_living(&sandbox, &container);
                lives.insert(container.id);
            }
        }
        self.living.0.retain(|id, _| lives.contains(id));
        self.learn_names();
        self.announced.retain(|id, _| lives.contains(id));
        let roster = &self.roster;
        self.held.retain_pods(|uid| roster.ready_sandbox(uid).is_some());
    }

    /// What a pass has placed by the id of a container, because nobody had told its name, is known by the name from now on.
    fn learn_names(&mut self) {
        if let Standing::Holding(rules) = &mut self.standing {
            for (id, live) in self.living.0.iter().filter(|(_, live)| !live.name.is_empty()) {
                // What was kept for the name while it did not run is not what it runs on now.
                if rules.managers.has_place(&live.uid, &id.0) {
                    rules.managers.remove_container(&live.uid, &live.name);
                }
                rules.managers.rename_container(&live.uid, &id.0, &live.name);
            }
        }
    }

    /// A container is over: it keeps what it has, because the kubelet starts it again.
    pub(super) fn stop(&mut self, sandbox: &Sandbox, id: &ContainerId) {
        self.roster.put_sandbox(sandbox.clone());
        self.roster.stop_container(id);
        self.bury(id);
    }

    /// A container is gone: what it has is given back unless a newer one of its name lives in its pod.
    pub(super) fn remove_container(&mut self, sandbox: &Sandbox, container: &SandboxContainer) {
        let known = self.roster.container(&container.id);
        let name = known.map_or(&container.name, |known| &known.name).clone();
        let uid = match self.roster.sandbox(&sandbox.id) {
            Some(known) => known.uid.clone(),
            None => sandbox.uid.clone(),
        };
        self.roster.remove_container(&container.id);
        self.bury(&container.id);
        if !self.roster.keeps(&uid, &name)
            && let Standing::Holding(rules) = &mut self.standing
        {
            rules.managers.remove_container(&uid, &name);
            self.version += 1;
        }
    }

    /// A sandbox is over, and with it everything that its pod has, unless the pod lives on in a newer one.
    pub(super) fn stop_sandbox(&mut self, sandbox: &Sandbox) {
        let uid = self.roster.sandbox(&sandbox.id).map_or(&sandbox.uid, |known| &known.uid).clone();
        self.roster.stop_sandbox(&sandbox.id);
        let over: Vec<ContainerId> =
            self.roster.containers_of(&sandbox.id).map(|container| container.id.clone()).collect();
        over.iter().for_each(|id| self.bury(id));
        self.release_pod(&uid);
    }

    /// The same, and the runtime forgets it.
    pub(super) fn remove_sandbox(&mut self, sandbox: &Sandbox) {
        self.stop_sandbox(sandbox);
        self.roster.remove_sandbox(&sandbox.id);
    }

    /// Takes back what a pod has that has no sandbox any more and of which nothing runs.
    pub(super) fn release_pod(&mut self, uid: &PodUid) {
        if self.roster.lives(uid) {
            return;
        }
        self.held.retain_pods(|held| held != uid);
        self.tally.retain_pods(|counted| counted != uid);
        if let Standing::Holding(rules) = &mut self.standing {
            rules.managers.remove(uid);
        }
        self.version += 1;
    }

    /// Counts what a pass has decided, and forgets the pods that it has not found any more.
    pub(super) fn tally_pass(&mut self, decided: &[Decided], standing: &Standing) {
        decided.iter().for_each(|decided| self.tally.note(decided));
        let roster = &self.roster;
        let active = match standing {
            Standing::Holding(rules) => Some(rules.managers.active()),
            Standing::Unknown | Standing::Silent => None,
        };
        self.tally.retain_pods(|uid| {
            active.is_some_and(|active| active.contains_key(uid))
                || roster.ready_sandbox(uid).is_some()
                || decided.iter().any(|decided| decided.uid() == uid)
        });
    }

    fn bury(&mut self, id: &ContainerId) {
        if self.living.0.remove(id).is_some() {
            self.version += 1;
        }
        self.announced.remove(id);
        self.foreign.bury(id);
    }
}
