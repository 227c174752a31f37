//! Conditions against lists, through random admissions, starts and removals.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::random::{Step, managers, pod, step};
use super::*;

/// Both ways to ask and merge, for the pod and for each container.
fn compare(managers: &ResourceManagers, pod: &Pod) -> Result<(), TestCaseError> {
    let hints = managers.ask(|provider| provider.pod_hints(pod));
    let demands = managers.ask(|provider| provider.pod_demands(pod)).concat();
    let topology = managers.topology();
    prop_assert_eq!(topology.merge_demands(&demands), topology.merge(&hints), "pod: {:?} {:?}", hints, demands);
    for container in &pod.containers {
        let hints = managers.ask(|provider| provider.container_hints(pod, container));
        let demands = managers.ask(|provider| provider.container_demands(pod, container)).concat();
        prop_assert_eq!(topology.merge_demands(&demands), topology.merge(&hints), "{:?} {:?}", hints, demands);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn conditions_come_to_the_same_as_lists(
        steps in prop::collection::vec(step(), 1..25),
        policy in prop_oneof![Just("best-effort"), Just("restricted"), Just("single-numa-node")],
        scope in prop_oneof![Just("container"), Just("pod")],
        closest in any::<bool>(),
        by_socket in any::<bool>(),
    ) {
        let by_socket = by_socket && policy != "single-numa-node";
        let options = [("prefer-closest-numa-nodes", if closest { "true" } else { "false" })];
        let cpu_options = [("align-by-socket", if by_socket { "true" } else { "false" })];
        let mut managers = managers(policy, scope, &options, &cpu_options);
        let mut pods: Vec<Arc<Pod>> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Admit(wishes) => {
                    let pod = pod(number, &wishes);
                    compare(&managers, &pod)?;
                    if managers.admit(&pod).is_ok() {
                        compare(&managers, &pod)?;
                        pods.push(pod);
                    }
                }
                Step::Again(index) => {
                    if let Some(pod) = pods.get(index).cloned() {
                        compare(&managers, &pod)?;
                        if managers.admit(&pod).is_err() {
                            pods.remove(index);
                        }
                    }
                }
                Step::Start(index) => {
                    if let Some(pod) = pods.get(index) {
                        pod.containers.iter().for_each(|c| managers.container_started(&pod.uid, &c.name));
                    }
                }
                Step::Remove(index) => {
                    if index < pods.len() {
                        managers.remove(&pods.remove(index).uid);
                    }
                }
            }
            let active: BTreeSet<&PodUid> = pods.iter().map(|pod| &pod.uid).collect();
            prop_assert!(managers.assignments().all(|assignment| active.contains(&assignment.pod)));
        }
    }
}
