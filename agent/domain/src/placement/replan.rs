//! A change of settings under running pods: who can stay, who must move, and where to.
//!
//! The kubelet refuses to start when its state was written under another policy; the operator drains the node. Here
//! the new settings are tried on what runs. A pod *conforms* if the new managers, on an otherwise empty machine, admit
//! it exactly where it is. Conforming pods are recorded where they are, the others are admitted anew between them. If that
//! fails for want of room, other pods have to move as well: one, then two, are tried in turn, those with the fewest
//! containers first, so that the plan moves as few containers as possible. A pod that finds no place in any way keeps
//! what it has: no running placement is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignment, ManagersConfig, Rejection, ResourceManagers, Restored, StartError};
use crate::cpuset::CpuSet;
use crate::hint::NumaMask;
use crate::workload::{Pod, PodUid};

/// What a change of settings means for running pods.
#[derive(Debug, Clone)]
pub struct Replan {
    /// The managers under the new settings, after all moves.
    pub managers: ResourceManagers,
    /// What has to be changed, by pod and container.
    pub moves: Vec<Move>,
    /// Pods that the new settings would refuse. They stay where they are, whatever the new policy promises.
    pub stuck: Vec<Stuck>,
    /// True if it is certain that no plan moves fewer pods.
    pub minimal: bool,
}

/// One container changes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its pod.
    pub pod: PodUid,
    /// Its name in the pod.
    pub container: String,
    /// Where it is; absent if it owns no CPUs and may use all memory.
    pub from: Option<Assignment>,
    /// Where it will be; absent as above.
    pub to: Option<Assignment>,
    /// Why.
    pub reason: MoveReason,
}

/// Why a container has to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// The new settings do not allow its old place, or give it one where it had none, or the reverse.
    Settings,
    /// It makes room for a pod that has to move.
    Room,
}

/// A pod that the new settings refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The pod.
    pub pod: PodUid,
    /// Why no place was found for it.
    pub rejection: Rejection,
    /// True if its old place is recorded; false if the new settings cannot express all of it, for instance because some
    /// of its CPUs are reserved now. It runs there all the same, and nobody else is given what is left of its place.
    pub recorded: bool,
}

/// What runs where, whatever settings it came from.
#[derive(Debug, Clone, Default)]
pub struct Running {
    pods: BTreeMap<PodUid, Arc<Pod>>,
    held: BTreeMap<PodUid, BTreeMap<String, Assignment>>,
}

impl Running {
    /// What these managers have given out.
    #[must_use]
    pub fn of(managers: &ResourceManagers) -> Self {
        let mut running = Self { pods: managers.active().clone(), held: BTreeMap::new() };
        for held in managers.assignments() {
            running.held.entry(held.pod.clone()).or_default().insert(held.container.clone(), held);
        }
        running
    }

    /// Adds a pod, or a newer version of it; it holds nothing yet.
    pub fn put_pod(&mut self, pod: &Arc<Pod>) {
        self.pods.insert(pod.uid.clone(), Arc::clone(pod));
    }

    /// Adds what a container of a known pod holds; absent: the shared CPUs, all memory.
    pub fn put_place(&mut self, pod: &PodUid, container: &str, cpus: Option<CpuSet>, memory_nodes: Option<NumaMask>) {
        let (uid, name) = (pod.clone(), container.to_owned());
        let held = Assignment { pod: uid, container: name, cpus, memory_nodes, memory: Vec::new(), hint: None };
        self.held.entry(pod.clone()).or_default().insert(container.to_owned(), held);
    }

    fn of_container(&self, pod: &PodUid, container: &str) -> Option<&Assignment> {
        self.held.get(pod)?.get(container)
    }

    fn of_pod(&self, pod: &PodUid) -> Vec<Assignment> {
        self.held.get(pod).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }
}

/// Plans that are tried before pods are left stuck.
const TRIALS: usize = 400;

/// Plans the change of `old` to new settings. Nothing is changed; apply the moves, then use the managers of the plan.
///
/// # Errors
/// [`StartError`] if the settings cannot be used on this machine.
pub fn replan(old: &ResourceManagers, config: &Arc<ManagersConfig>) -> Result<Replan, StartError> {
    let mut empty = ResourceManagers::start(old.machine(), Arc::clone(config), Restored::default(), BTreeMap::new())?;
    empty.devices = old.devices.clone();
    Ok(replan_running(&Running::of(old), empty))
}

/// The same for whatever runs; `empty` are the managers under the new settings, without any pod.
#[must_use]
pub fn replan_running(old: &Running, empty: ResourceManagers) -> Replan {
    let planner = Planner { old, empty };
    let (settled, mut movers): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        old.pods.values().partition(|pod| planner.conforms(pod));
    let mut stuck: Vec<(&Arc<Pod>, Rejection)> = Vec::new();
    let mut minimal = true;
    loop {
        let fixed: Vec<&Arc<Pod>> = settled.iter().copied().chain(stuck.iter().map(|(pod, _)| *pod)).collect();
        let task = Task { fixed: &fixed, movable: &settled, movers: &movers };
        match planner.search(&task, &mut minimal) {
            Ok((managers, roomy)) => return planner.report(managers, &roomy, stuck, minimal),
            Err((pod, rejection)) => {
                movers.retain(|mover| mover.uid != pod.uid);
                stuck.push((pod, rejection));
            }
        }
    }
}

/// What one search is about.
struct Task<'t, 'a> {
    /// Pods that are recorded first, where they are.
    fixed: &'t [&'a Arc<Pod>],
    /// Those of them that may move if need be.
    movable: &'t [&'a Arc<Pod>],
    /// Pods that must move.
    movers: &'t [&'a Arc<Pod>],
}

/// The first pod without a place, and why.
type Failure<'a> = (&'a Arc<Pod>, Rejection);

struct Planner<'a> {
    old: &'a Running,
    /// The new managers without any pod.
    empty: ResourceManagers,
}

impl<'a> Planner<'a> {
    /// True if the new managers, on an empty machine, admit the pod exactly where it is.
    fn conforms(&self, pod: &Arc<Pod>) -> bool {
        let mut managers = self.empty.clone();
        self.record(&mut managers, pod) && managers.admit(pod).is_ok() && self.is_as_before(&managers, pod)
    }

    fn is_as_before(&self, managers: &ResourceManagers, pod: &Pod) -> bool {
        let places = |held: &[Assignment]| held.iter().map(place).collect::<Vec<_>>();
        places(&managers.assignments_of(&pod.uid)) == places(&self.old.of_pod(&pod.uid))
    }

    /// Records a pod where it is; false if that cannot be expressed under the new settings.
    fn record(&self, managers: &mut ResourceManagers, pod: &Arc<Pod>) -> bool {
        let before = managers.clone();
        managers.activate(pod);
        for container in &pod.containers {
            let held = self.old.of_container(&pod.uid, &container.name);
            let cpus = held.and_then(|held| held.cpus.clone()).unwrap_or_default();
            let nodes = held.and_then(|held| held.memory_nodes);
            let bound = nodes.filter(|_| managers.memory().is_static());
            if managers.cpu().breaks_promise(&cpus) || managers.adopt(pod, &container.name, &cpus, bound).is_err() {
                *managers = before;
                return false;
            }
        }
        true
    }

    /// Records what the new settings can express of a pod that stays, so that nobody else is given its CPUs.
    fn record_what_can_be(&self, managers: &mut ResourceManagers, pod: &Arc<Pod>) {
        let allocatable = managers.allocatable_cpus();
        for held in self.old.of_pod(&pod.uid) {
            let cpus = held.cpus.map(|cpus| cpus.intersection(&allocatable)).unwrap_or_default();
            // What cannot be recorded even so is reported as stuck.
            let _ = managers.adopt(pod, &held.container, &cpus, None);
        }
    }

    /// The fewest further pods to move, so that all that must move find a place.
    fn search(
        &self,
        task: &Task<'_, 'a>,
        minimal: &mut bool,
    ) -> Result<(ResourceManagers, Vec<&'a Arc<Pod>>), Failure<'a>> {
        let first = match self.attempt(task, &[]) {
            Ok(managers) => return Ok((managers, Vec::new())),
            Err(failure) => failure,
        };
        let mut movable = task.movable.to_vec();
        movable.sort_by_key(|pod| self.old.of_pod(&pod.uid).len());
        // Pods that hold nothing make no room.
        movable.retain(|pod| !self.old.of_pod(&pod.uid).is_empty());
        let one = movable.iter().map(|pod| vec![*pod]);
        let two = movable
            .iter()
            .enumerate()
            .flat_map(|(index, pod)| movable.iter().skip(index + 1).map(move |other| vec![*pod, *other]));
        let mut trials = 0;
        for extra in one.chain(two).take(TRIALS) {
            trials += 1;
            if let Ok(managers) = self.attempt(task, &extra) {
                return Ok((managers, extra));
            }
        }
        // More than two, or too many to try: everybody moves, or the pod is stuck.
        *minimal &= trials < TRIALS && movable.len() <= 2;
        self.attempt(task, &movable).map(|managers| (managers, movable)).map_err(|_| first)
    }

    /// Records the fixed pods, but for those that move, and admits the others.
    fn attempt(&self, task: &Task<'_, 'a>, extra: &[&'a Arc<Pod>]) -> Result<ResourceManagers, Failure<'a>> {
        let mut managers = self.empty.clone();
        let moves = |pod: &Arc<Pod>| extra.iter().any(|other| other.uid == pod.uid);
        for pod in task.fixed.iter().filter(|pod| !moves(pod)) {
            if !self.record(&mut managers, pod) {
                self.record_what_can_be(&mut managers, pod);
            }
        }
        for pod in task.movers.iter().chain(extra) {
            self.admit(&mut managers, pod).map_err(|rejection| (*pod, rejection))?;
        }
        Ok(managers)
    }

    /// Admits a pod, if it can be with its containers where they are, or else anew.
    fn admit(&self, managers: &mut ResourceManagers, pod: &Arc<Pod>) -> Result<(), Rejection> {
        let mut kept = managers.clone();
        if self.record(&mut kept, pod) && kept.admit(pod).is_ok() {
            *managers = kept;
            return Ok(());
        }
        managers.admit(pod).map_err(|refused| refused.rejection)
    }

    /// What differs between the old and the new placements.
    fn report(
        &self,
        managers: ResourceManagers,
        roomy: &[&Arc<Pod>],
        stuck: Vec<Failure<'_>>,
        minimal: bool,
    ) -> Replan {
        let stuck = stuck.into_iter().map(|(pod, rejection)| Stuck {
            pod: pod.uid.clone(),
            rejection,
            recorded: self.is_as_before(&managers, pod),
        });
        let stuck: Vec<Stuck> = stuck.collect();
        let mut moves = Vec::new();
        for pod in self.old.pods.values().filter(|pod| stuck.iter().all(|other| other.pod != pod.uid)) {
            let (before, after) = (self.old.of_pod(&pod.uid), managers.assignments_of(&pod.uid));
            let reason =
                if roomy.iter().any(|other| other.uid == pod.uid) { MoveReason::Room } else { MoveReason::Settings };
            for container in &pod.containers {
                let find = |list: &[Assignment]| list.iter().find(|held| held.container == container.name).cloned();
                let (from, to) = (find(&before), find(&after));
                if from.as_ref().map(place) != to.as_ref().map(place) {
                    let (pod, container) = (pod.uid.clone(), container.name.clone());
                    moves.push(Move { pod, container, from, to, reason });
                }
            }
        }
        Replan { managers, moves, stuck, minimal }
    }
}

/// Where a container is, without how it came there.
fn place(assignment: &Assignment) -> (String, Option<CpuSet>, Option<NumaMask>) {
    (assignment.container.clone(), assignment.cpus.clone(), assignment.memory_nodes)
}
