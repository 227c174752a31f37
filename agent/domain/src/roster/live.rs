//! The roster as it lives: fed with the events of NRI and the listings of CRI, in the order in which they come.
//!
//! Rules: a container lives once, so its state never goes back; a sandbox that was stopped stays so; what a source leaves
//! out (an empty text, an absent number) does not wipe out what another one told. A container that has exited stays until
//! the runtime removes it or one of the same name takes its place, because the kubelet restarts it under the same name
//! and its CPUs are kept for that.

mod kinds;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ContainerState, Sandbox, SandboxContainer, SandboxId, ToldResources};
use crate::workload::{ContainerId, PodUid};

/// Everything that a runtime told of, as far as it is not over. A copy shares what is not changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    sandboxes: BTreeMap<SandboxId, Known>,
    containers: BTreeMap<ContainerId, Entry>,
    /// Grows with everything that is new or ends, so that the order of events can be told.
    clock: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    sandbox: Arc<Sandbox>,
    /// Moment at which it was first told of.
    came: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    container: Arc<SandboxContainer>,
    /// Moment at which it was first told of.
    came: u64,
    /// Moment at which a container of its name was first told of in its sandbox; 0: before anybody listened.
    name_came: u64,
    /// Moment at which it ended.
    ended: Option<u64>,
    /// True if one of its name ran beside a container that came later: then it is no init container.
    ran_beside_later: bool,
}

impl Roster {
    /// Replaces everything (NRI `Synchronize`): what is not told is over. What is told of again keeps its place in time
    /// and the facts that this telling leaves out. A container whose sandbox is missing is kept: the sandbox may follow.
    pub fn replace(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<SandboxContainer>) {
        let listed: BTreeSet<SandboxId> = sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        self.sandboxes.retain(|id, _| listed.contains(id));
        let listed: BTreeSet<ContainerId> = containers.iter().map(|container| container.id.clone()).collect();
        self.containers.retain(|id, _| listed.contains(id));
        self.put_all(sandboxes, containers);
    }

    /// Takes a listing of all *ready* sandboxes, of those others in which something runs, and of *created or running*
    /// containers (CRI). A sandbox that is missing is over; a container that is missing has exited, and stays as such while
    /// its sandbox is listed. A runtime that was restarted does not know of every sandbox at once that it is ready.
    pub fn refresh(&mut self, sandboxes: Vec<Sandbox>, containers: Vec<SandboxContainer>) {
        let listed: BTreeMap<SandboxId, bool> =
            sandboxes.iter().map(|sandbox| (sandbox.id.clone(), sandbox.ready)).collect();
        self.sandboxes.retain(|id, _| listed.contains_key(id));
        for (id, known) in &mut self.sandboxes {
            let ready = listed.get(id).is_some_and(|ready| *ready);
            if known.sandbox.ready != ready {
                Arc::make_mut(&mut known.sandbox).ready = ready;
            }
        }
        self.containers.retain(|_, entry| listed.contains_key(&entry.container.sandbox));
        let listed: BTreeSet<ContainerId> = containers.iter().map(|container| container.id.clone()).collect();
        let missing: Vec<ContainerId> = self.containers.keys().filter(|id| !listed.contains(id)).cloned().collect();
        for id in &missing {
            self.stop_container(id);
        }
        self.put_all(sandboxes, containers);
    }

    /// Takes facts about what is known already and ignores the rest: a listing that was made while events come in tells
    /// neither what is new nor what is over.
    pub fn complete(&mut self, sandboxes: &[Sandbox], containers: &[SandboxContainer]) {
        for sandbox in sandboxes {
            if let Some(known) = self.sandboxes.get_mut(&sandbox.id) {
                merge::fill_sandbox(&mut known.sandbox, sandbox);
            }
        }
        for container in containers {
            if let Some(known) = self.containers.get_mut(&container.id) {
                merge::fill_container(&mut known.container, container);
            }
        }
    }

    /// A sandbox is new or has changed. One of which nothing but the id is told (some events of NRI) is not added.
    pub fn put_sandbox(&mut self, sandbox: Sandbox) {
        match self.sandboxes.get_mut(&sandbox.id) {
            Some(known) => merge::take_sandbox(&mut known.sandbox, sandbox),
            None if sandbox.uid.0.is_empty() => {}
            None => {
                self.clock += 1;
                self.sandboxes.insert(sandbox.id.clone(), Known { sandbox: Arc::new(sandbox), came: self.clock });
            }
        }
    }

    /// A container is new or has changed. It takes the place of those of its sandbox and name that have exited.
    pub fn put_container(&mut self, container: SandboxContainer) {
        if let Some(known) = self.containers.get_mut(&container.id) {
            let (over, id) = (container.state == ContainerState::Exited, container.id.clone());
            merge::take_container(&mut known.container, container);
            if over {
                self.note_end(&id);
            }
            return;
        }
        let named_alike =
            |entry: &Entry| entry.container.sandbox == container.sandbox && entry.container.name == container.name;
        let before: Vec<&Entry> = self.containers.values().filter(|entry| named_alike(entry)).collect();
        self.clock += 1;
        let unheard = if kinds::restarts(&container) > 0 { 0 } else { self.clock };
        let name_came = before.iter().map(|entry| entry.name_came).min().unwrap_or(unheard);
        let ran_beside_later = before.iter().any(|entry| entry.ran_beside_later || self.has_later(entry));
        self.containers.retain(|_, entry| !named_alike(entry) || entry.ended.is_none());
        let (id, over) = (container.id.clone(), container.state == ContainerState::Exited);
        let ended = over.then_some(self.clock);
        let container = Arc::new(container);
        self.containers.insert(id, Entry { container, came: self.clock, name_came, ended, ran_beside_later });
    }

    /// Resources of a container were changed; what `change` leaves out stays as it was told before.
    pub fn update_container(&mut self, id: &ContainerId, change: &ToldResources) {
        if let Some(entry) = self.containers.get_mut(id) {
            Arc::make_mut(&mut entry.container).resources.get_or_insert_default().update(change);
        }
    }

    /// A container has exited; may be told twice, and of one that is not known.
    pub fn stop_container(&mut self, id: &ContainerId) {
        self.note_end(id);
        if let Some(entry) = self.containers.get_mut(id) {
            Arc::make_mut(&mut entry.container).state = ContainerState::Exited;
        }
    }

    /// Notes the moment of an end, and who ran then. What was only made and not started says nothing: the end of one
    /// container may be told after the making of the next.
    fn note_end(&mut self, id: &ContainerId) {
        let Some(ending) = self.containers.get(id).filter(|entry| entry.ended.is_none()) else { return };
        let beside = |other: &Entry| other.container.state == ContainerState::Running && is_later(other, ending);
        let ran_beside_later = ending.ran_beside_later || self.containers.values().any(beside);
        self.clock += 1;
        if let Some(entry) = self.containers.get_mut(id) {
            (entry.ended, entry.ran_beside_later) = (Some(self.clock), ran_beside_later);
        }
    }

    /// True if a container of another name came after this one for the first time: one that is made again after that is
    /// no init container.
    fn has_later(&self, entry: &Entry) -> bool {
        self.containers.values().any(|other| is_later(other, entry))
    }

    /// The runtime has forgotten a container.
    pub fn remove_container(&mut self, id: &ContainerId) {
        self.containers.remove(id);
    }

    /// A sandbox is stopped, and with it all of its containers.
    pub fn stop_sandbox(&mut self, id: &SandboxId) {
        if let Some(known) = self.sandboxes.get_mut(id) {
            Arc::make_mut(&mut known.sandbox).ready = false;
        }
        let inside: Vec<ContainerId> = self.containers_of(id).map(|container| container.id.clone()).collect();
        for container in &inside {
            self.stop_container(container);
        }
    }

    /// The runtime has forgotten a sandbox, and with it all of its containers.
    pub fn remove_sandbox(&mut self, id: &SandboxId) {
        self.sandboxes.remove(id);
        self.containers.retain(|_, entry| entry.container.sandbox != *id);
    }

    /// Keeps these pods only; the others are over, and nobody was there to tell.
    pub fn retain_pods(&mut self, lives: impl Fn(&PodUid) -> bool) {
        self.sandboxes.retain(|_, known| lives(&known.sandbox.uid));
        let sandboxes = &self.sandboxes;
        self.containers.retain(|_, entry| sandboxes.contains_key(&entry.container.sandbox));
    }

    /// A sandbox.
    #[must_use]
    pub fn sandbox(&self, id: &SandboxId) -> Option<&Sandbox> {
        self.sandboxes.get(id).map(|known| known.sandbox.as_ref())
    }

    /// A container.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&SandboxContainer> {
        self.containers.get(id).map(|entry| entry.container.as_ref())
    }

    /// All sandboxes by id.
    pub fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.sandboxes.values().map(|known| known.sandbox.as_ref())
    }

    /// All containers in the order in which they were made: by the runtime's clock if it told for all of them, else as
    /// they came.
    #[must_use]
    pub fn containers(&self) -> Vec<&SandboxContainer> {
        let mut entries: Vec<&Entry> = self.containers.values().collect();
        let dated = entries.iter().all(|entry| entry.container.created_at_ns != 0);
        entries.sort_by_key(|entry| (if dated { entry.container.created_at_ns } else { 0 }, entry.came));
        entries.into_iter().map(|entry| entry.container.as_ref()).collect()
    }

    /// The containers of a sandbox, by id.
    pub fn containers_of<'a>(&'a self, id: &'a SandboxId) -> impl Iterator<Item = &'a SandboxContainer> {
        let inside = self.containers.values().filter(move |entry| entry.container.sandbox == *id);
        inside.map(|entry| entry.container.as_ref())
    }

    /// The sandbox in which a pod lives: the youngest that is ready; `None` if none is.
    #[must_use]
    pub fn ready_sandbox(&self, uid: &PodUid) -> Option<&Sandbox> {
        self.youngest_sandbox(uid).filter(|sandbox| sandbox.ready)
    }

    /// The youngest ready sandbox of a pod, or, if none is ready, the youngest of all.
    #[must_use]
    pub fn youngest_sandbox(&self, uid: &PodUid) -> Option<&Sandbox> {
        let of_pod = self.sandboxes.values().filter(|known| known.sandbox.uid == *uid);
        of_pod.max_by_key(|known| (known.sandbox.ready, known.came)).map(|known| known.sandbox.as_ref())
    }

    /// True while what a container of this pod and name holds is kept for it: a sandbox of the pod is ready and the
    /// runtime has not removed the last container of the name from it, or the container runs, whatever has become of its
    /// sandbox.
    #[must_use]
    pub fn keeps(&self, uid: &PodUid, name: &str) -> bool {
        self.containers.values().any(|Entry { container, .. }| {
            let sandbox = self.sandbox(&container.sandbox).filter(|sandbox| sandbox.uid == *uid);
            container.name == name && sandbox.is_some_and(|sandbox| sandbox.ready || may_run(container))
        })
    }

    /// True if a pod is not over: a sandbox of it is ready, or a container of it runs all the same, because only its
    /// sandbox has died, or because the runtime was restarted and has not found it again.
    #[must_use]
    pub fn lives(&self, uid: &PodUid) -> bool {
        let runs = |sandbox: &Sandbox| self.containers_of(&sandbox.id).any(may_run);
        self.sandboxes().any(|sandbox| sandbox.uid == *uid && (sandbox.ready || runs(sandbox)))
    }

    /// True if nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    fn put_all(&mut self, mut sandboxes: Vec<Sandbox>, mut containers: Vec<SandboxContainer>) {
        sandboxes.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        for sandbox in sandboxes {
            self.put_sandbox(sandbox);
        }
        containers.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        for container in containers {
            self.put_container(container);
        }
    }
}

/// True if a container is of the same sandbox, of another name, and its name came later.
fn is_later(other: &Entry, than: &Entry) -> bool {
    other.container.sandbox == than.container.sandbox
        && other.container.name != than.container.name
        && other.name_came > than.name_came
}

/// True if there may be processes of it.
fn may_run(container: &SandboxContainer) -> bool {
    container.state != ContainerState::Exited
}

#[cfg(test)]
mod tests;
