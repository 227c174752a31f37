//! Categories `scenarios` and `scenarios_podlevel`: sequences of admissions, starts, removals and restarts.
//!
//! Each step is replayed on [`ResourceManagers`], and what it shows is compared with the recording as JSON. Scenarios in
//! which the kubelet broke its own promises are replayed only for safety ([`safety`]): those marked `violates`, and those
//! whose recorded CPUs are reserved ones or given twice, from that step on ([`promise`]).

mod config;
mod pod;
mod promise;
mod safety;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use trimtab_domain::placement::{Refused, ResourceManagers, Restored, StartError};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::topology::Machine;
use trimtab_domain::workload::{Pod, PodUid};

use self::config::RecordedConfig;
use self::pod::RecordedPod;
use crate::category::{Mismatch, Verdict, malformed};
use crate::machine::Machines;

#[derive(Deserialize)]
struct Case {
    machine: String,
    config: RecordedConfig,
    #[serde(default)]
    violates: Vec<String>,
    start: Value,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(rename = "final")]
    remaining: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Step {
    op: String,
    pod: Option<RecordedPod>,
    pod_uid: Option<String>,
    container: Option<String>,
    expect: Value,
}

/// Replays one scenario.
pub(crate) fn judge(case: &Value, machines: &Machines) -> Verdict {
    let case = Case::deserialize(case).map_err(|error| malformed(&error.to_string()))?;
    let machine = machines.named(&case.machine).ok_or_else(|| malformed("an unknown machine"))?;
    let mut compare = case.violates.is_empty();
    let (managers, shown) = match start(machine, case.config) {
        Ok(managers) => {
            let mut shown = show::started(&managers);
            show::shared(&managers, &mut shown);
            show::all_memory(&managers, &mut shown);
            (Some(managers), shown)
        }
        Err(error) => (None, start_error(&error)),
    };
    if compare {
        same("start", &case.start, shown)?;
    }
    let Some(managers) = managers else { return Ok(()) };
    let mut replay = Replay { managers, pods: BTreeMap::new(), known: BTreeSet::new() };
    for (index, step) in case.steps.into_iter().enumerate() {
        let label = format!("step {index} ({})", step.op);
        let before = replay.managers.clone();
        let expected = step.expect.clone();
        let uid = step.pod.as_ref().map(|pod| pod.uid().to_owned()).or_else(|| step.pod_uid.clone());
        let (shown, go_on) = replay.step(step, &before)?;
        let pod = uid.and_then(|uid| replay.pods.get(&uid));
        compare &= pod.is_none_or(|pod| promise::is_kept(&expected, pod, &before));
        safety::check(&label, &replay.managers)?;
        if compare {
            same(&label, &expected, shown)?;
        }
        if !go_on {
            return Ok(());
        }
    }
    match case.remaining {
        Some(expected) if compare => replay.compare_rest(&expected),
        _ => Ok(()),
    }
}

/// The kubelet settings of a recorded case.
pub(crate) fn settings(config: &Value) -> Result<ResourceManagersSpec, Mismatch> {
    let config = RecordedConfig::deserialize(config).map_err(|error| malformed(&error.to_string()))?;
    Ok(config.build().kubelet.clone())
}

fn start(machine: &Arc<Machine>, config: RecordedConfig) -> Result<ResourceManagers, StartError> {
    ResourceManagers::start(machine, config.build(), Restored::default(), BTreeMap::new())
}

fn start_error(error: &StartError) -> Map<String, Value> {
    let shown = json!({ "stage": error.stage.as_str(), "message": error.message });
    Map::from_iter([("start_error".to_owned(), shown)])
}

fn same(label: &str, expected: &Value, got: Map<String, Value>) -> Verdict {
    let got = Value::Object(got);
    if *expected == got {
        return Ok(());
    }
    Err(Mismatch { expected: format!("{label}: {expected}"), got: format!("{label}: {got}") })
}

/// The managers, and every pod seen so far.
struct Replay {
    managers: ResourceManagers,
    pods: BTreeMap<String, Arc<Pod>>,
    /// Containers whose ids the managers were told of; a restart forgets them.
    known: BTreeSet<(PodUid, String)>,
}

impl Replay {
    /// Makes a step; what it shows, and whether the scenario goes on.
    fn step(&mut self, step: Step, before: &ResourceManagers) -> Result<(Map<String, Value>, bool), Mismatch> {
        let pod = match step.pod {
            Some(recorded) => recorded.build().map_err(|problem| malformed(&problem))?,
            None => {
                let known = step.pod_uid.as_ref().and_then(|uid| self.pods.get(uid)).cloned();
                match known {
                    Some(pod) => pod,
                    None if step.op == "restart" => return Ok(self.restart(before)),
                    None => return Err(malformed("an unknown pod")),
                }
            }
        };
        let container = step.container.as_deref().unwrap_or_default();
        let mut shown = match step.op.as_str() {
            "admit" => self.admit(&pod),
            "start" => {
                self.managers.container_started(&pod.uid, container);
                self.known.insert((pod.uid.clone(), container.to_owned()));
                self.holders_of(&pod.uid)
            }
            "remove" => {
                self.managers.remove(&pod.uid);
                self.known.retain(|(known, _)| *known != pod.uid);
                Map::new()
            }
            "remove_container" => {
                // A release names the id of the container, and is of no effect if the id is not known.
                if self.known.remove(&(pod.uid.clone(), container.to_owned())) {
                    self.managers.remove_container(&pod.uid, container);
                }
                self.holders_of(&pod.uid)
            }
            _ => return Err(malformed("an unknown step")),
        };
        show::shared(&self.managers, &mut shown);
        show::changed_memory(before, &self.managers, &mut shown);
        Ok((shown, true))
    }

    fn admit(&mut self, pod: &Arc<Pod>) -> Map<String, Value> {
        self.pods.insert(pod.uid.0.clone(), Arc::clone(pod));
        let mut shown = Map::new();
        match self.managers.admit(pod) {
            Ok(()) => {
                shown.insert("admitted".to_owned(), true.into());
                shown.insert("containers".to_owned(), show::admitted(&self.managers, pod).into());
                show::whole_pod(&self.managers, &pod.uid, &mut shown);
            }
            Err(Refused { rejection, leftover }) => {
                shown.insert("admitted".to_owned(), false.into());
                shown.insert("reason".to_owned(), rejection.reason().as_str().into());
                shown.insert("message".to_owned(), rejection.to_string().into());
                let held = show::holders(&leftover);
                if !held.is_empty() {
                    shown.insert("leftover_before_cleanup".to_owned(), held.into());
                }
            }
        }
        shown
    }

    fn holders_of(&self, pod: &PodUid) -> Map<String, Value> {
        let held = show::holders(&self.managers.assignments_of(pod));
        if held.is_empty() { Map::new() } else { Map::from_iter([("containers".to_owned(), held.into())]) }
    }

    fn restart(&mut self, before: &ResourceManagers) -> (Map<String, Value>, bool) {
        self.known.clear();
        match before.restart() {
            Ok(managers) => {
                self.managers = managers;
                let mut shown = show::started(&self.managers);
                show::shared(&self.managers, &mut shown);
                show::different_memory(before, &self.managers, &mut shown);
                (shown, true)
            }
            Err(error) => (start_error(&error), false),
        }
    }

    fn compare_rest(&self, expected: &Map<String, Value>) -> Verdict {
        let mut shown = show::remaining(&self.managers);
        if expected.contains_key("cpu_manager_state") {
            shown.insert("cpu_manager_state".to_owned(), show::cpu_manager_state(&self.managers).into());
        }
        same("final", &Value::Object(expected.clone()), shown)
    }
}
