//! The answer to a container that is about to be created.

use tokio::time::Instant;
use trimtab_domain::placement::Rejection;
use trimtab_domain::roster::isolation::sandboxed;
use trimtab_domain::roster::{Sandbox, SandboxContainer, ToldResources};
use trimtab_domain::workload::{Pod, PodUid, QosClass};

use super::claim::{self, Newcomer};
use super::live::Living;
use super::standing::{Rules, Standing};
use super::state::State;
use super::tally::Decided;
use crate::ports::admission::{Created, Refused};

/// Reason of a refusal that the kubelet does not know: it would not ask before it knows the node.
pub(super) const NOT_READY: &str = "NodeNotObserved";

impl State {
    pub(super) fn create(&mut self, sandbox: &Sandbox, container: &SandboxContainer) -> Result<Created, Refused> {
        self.roster.put_sandbox(sandbox.clone());
        let sandbox = self.roster.sandbox(&sandbox.id).unwrap_or(sandbox).clone();
        let runtime = self.peer.as_ref().map(|peer| peer.name.clone()).unwrap_or_default();
        if self.foreign.look_at_new(&runtime, &sandbox, container) {
            self.yield_to_foreign();
        }
        let answer = self.decide_new(&sandbox, container);
        match &answer {
            Ok(created) => {
                self.version += 1;
                self.held.created(&sandbox.uid, &container.name);
                self.roster.put_container(container.clone());
                let live = self.admit_to_living(&sandbox, container);
                live.told(created.cpus.as_ref(), created.mems.as_ref());
                live.born_pinned = created.cpus.is_some() || created.mems.is_some();
            }
            Err(refused) => self.held.refuse(&sandbox, &container.name, refused),
        }
        answer
    }

    fn decide_new(&mut self, sandbox: &Sandbox, container: &SandboxContainer) -> Result<Created, Refused> {
        let nothing = ToldResources::default();
        let told = container.resources.as_ref().unwrap_or(&nothing);
        let rules = match &mut self.standing {
            Standing::Silent => return Ok(Created::default()),
            Standing::Unknown => return before_first_pass(sandbox, container, told),
            Standing::Holding(_) if sandboxed(&sandbox.runtime_handler, &self.handlers).is_some() => {
                return Ok(Created::default());
            }
            Standing::Holding(rules) => rules,
        };
        let known = rules.managers.active().get(&sandbox.uid);
        // A request that cannot be told entitles to nothing.
        if let Some(newcomer) = Newcomer::new(&self.roster, known, sandbox, (container, told)) {
            let (placed, decided) = place_timed(rules, &self.living, &newcomer, &container.name);
            self.tally.note(&decided);
            placed.map_err(|rejection| refused(&rejection))?;
        }
        Ok(answer(rules, &mut self.living, &sandbox.uid, &container.name))
    }
}

/// The answer to a container whose place is known.
fn answer(rules: &Rules, living: &mut Living, uid: &PodUid, name: &str) -> Created {
    let wish = rules.wish(uid, name);
    let cpus = match wish.cpus {
        Some(cpus) if !wish.exclusive => {
            // Whoever is about to move away still runs where it was.
            let free = cpus.difference(&living.not_left(rules));
            let shared = if free.is_empty() { cpus } else { free };
            (!rules.is_everything(&shared)).then_some(shared)
        }
        cpus => cpus,
    };
    let lift_quota = wish.exclusive && rules.lift_quota;
    Created { cpus, mems: wish.mems, lift_quota, updates: living.narrow(rules, None) }
}

/// Finds a place for a container; one that was there before keeps its own.
fn place(rules: &mut Rules, living: &Living, newcomer: &Newcomer, name: &str) -> Result<(), Rejection> {
    let pod = &newcomer.pod;
    if lent_to_another(rules, living, pod, name) {
        rules.managers.remove_container(&pod.uid, name);
    }
    rules.managers.admit_containers(pod, &[name], newcomer.outlook.as_ref())
}

/// The same, with what there is to be counted of it.
pub(super) fn place_timed(
    rules: &mut Rules,
    living: &Living,
    newcomer: &Newcomer,
    name: &str,
) -> (Result<(), Rejection>, Decided) {
    let began = Instant::now();
    let placed = place(rules, living, newcomer, name);
    let decided = Decided::new(&rules.managers, (&newcomer.pod, name), placed.as_ref().copied(), began.elapsed());
    (placed, decided)
}

/// True if a container that lives in the pod has got CPUs of this one, because this one had ended before it came and was
/// taken for an init container.
fn lent_to_another(rules: &Rules, living: &Living, pod: &Pod, name: &str) -> bool {
    let Some(own) = rules.managers.cpus_of(&pod.uid, name) else { return false };
    let others = living.0.values().filter(|live| live.uid == pod.uid && live.name != name);
    others.filter_map(|live| rules.managers.cpus_of(&pod.uid, &live.name)).any(|cpus| !cpus.is_disjoint(own))
}

/// Without knowing the node nothing can be promised: who is entitled to CPUs of its own has to wait, all others run
/// anywhere until the first pass.
fn before_first_pass(
    sandbox: &Sandbox,
    container: &SandboxContainer,
    told: &ToldResources,
) -> Result<Created, Refused> {
    let qos = claim::qos(sandbox, &container.cgroups_path);
    let whole = claim::resources(told, qos).and_then(|asked| asked.cpu_request().whole()).unwrap_or(0);
    if qos != QosClass::Guaranteed || whole == 0 {
        return Ok(Created::default());
    }
    Err(Refused {
        reason: NOT_READY.to_owned(),
        message: format!(
            "trimtab has just started and does not know yet who runs on which CPUs, so {whole} exclusive CPUs cannot be \
             given; try again"
        ),
    })
}

/// The kubelet's reason and words.
pub(super) fn refused(rejection: &Rejection) -> Refused {
    Refused { reason: rejection.reason().as_str().to_owned(), message: rejection.to_string() }
}
