//! Changes of settings under running pods.

use super::*;

fn config(cpu: &str, topology: &str, reserved: &str, options: &[(&str, &str)]) -> Arc<ManagersConfig> {
    let kubelet = ResourceManagersSpec {
        cpu_manager_policy: cpu.into(),
        topology_manager_policy: topology.into(),
        reserved_system_cpus: reserved.into(),
        cpu_manager_policy_options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..ResourceManagersSpec::default()
    };
    Arc::new(ManagersConfig { kubelet, extensions: Extensions::default() })
}

fn running(config: Arc<ManagersConfig>, pods: &[Arc<Pod>]) -> ResourceManagers {
    let mut managers = ResourceManagers::start(&machine(), config, Restored::default(), BTreeMap::new()).unwrap();
    pods.iter().for_each(|pod| managers.admit(pod).unwrap());
    managers
}

fn shown(plan: &Replan) -> Vec<String> {
    let cpus = |place: &Option<Assignment>| match place.as_ref().and_then(|place| place.cpus.as_ref()) {
        Some(cpus) => cpus.to_string(),
        None => "shared".to_owned(),
    };
    plan.moves
        .iter()
        .map(|m| format!("{}/{} {} -> {} {:?}", m.pod, m.container, cpus(&m.from), cpus(&m.to), m.reason))
        .collect()
}

#[test]
fn nobody_moves_if_everybody_conforms() {
    let old = running(config("static", "best-effort", "0-1", &[]), &[pod("a", &["4"]), pod("b", &["2", "8"])]);
    let plan = replan(&old, &config("static", "restricted", "0-1", &[("full-pcpus-only", "true")])).unwrap();
    assert_eq!(shown(&plan), [""; 0]);
    assert!(plan.minimal && plan.stuck.is_empty());
    assert!(plan.managers.assignments().map(|a| a.cpus).eq(old.assignments().map(|a| a.cpus)));
}

#[test]
fn only_owners_of_newly_reserved_cpus_move() {
    let old = running(config("static", "none", "0-1", &[]), &[pod("a", &["2"]), pod("b", &["2"])]);
    let plan = replan(&old, &config("static", "none", "0-3", &[])).unwrap();
    assert_eq!(shown(&plan), ["a/c0 2-3 -> 6-7 Settings"]);
    assert!(plan.minimal);
}

#[test]
fn a_policy_is_switched_on_and_off() {
    let pods = [pod("a", &["2"]), pod("b", &["4"])];
    let on = running(config("static", "restricted", "0-1", &[]), &pods);
    let off = replan(&on, &config("none", "none", "0-1", &[])).unwrap();
    assert_eq!(shown(&off), ["a/c0 2-3 -> shared Settings", "b/c0 4-7 -> shared Settings"]);
    let again = replan(&off.managers, &config("static", "restricted", "0-1", &[])).unwrap();
    assert_eq!(shown(&again), ["a/c0 shared -> 2-3 Settings", "b/c0 shared -> 4-7 Settings"]);
}

#[test]
fn one_pod_makes_room_rather_than_all() {
    // Six of eight CPUs of node 0 can be owned: `a` and `b` are on node 0, `c` and `d` on node 1, and `e` lies across.
    let mut old = running(config("static", "none", "0-1", &[]), &[]);
    let pods = ["a", "b", "c", "d"].map(|uid| pod(uid, &["2"]));
    for (pod, list) in pods.iter().zip(["2-3", "4-5", "8-9", "10-11"]) {
        old.adopt(pod, "c0", &cpus(list), None).unwrap();
    }
    let across = pod("e", &["6"]);
    old.adopt(&across, "c0", &cpus("6-7,12-15"), None).unwrap();
    let plan = replan(&old, &config("static", "single-numa-node", "0-1", &[])).unwrap();
    assert_eq!(shown(&plan), ["c/c0 8-9 -> 6-7 Room", "e/c0 6-7,12-15 -> 8-9,12-15 Settings"]);
    assert!(plan.minimal && plan.stuck.is_empty());
}

#[test]
fn a_pod_without_a_place_stays_where_it_is() {
    let mut old = running(config("static", "none", "0-1", &[]), &[]);
    let wide = pod("wide", &["12"]);
    old.adopt(&wide, "c0", &cpus("2-13"), None).unwrap();
    let plan = replan(&old, &config("static", "single-numa-node", "0-1", &[])).unwrap();
    assert_eq!(shown(&plan), [""; 0]);
    assert_eq!(plan.stuck.len(), 1);
    assert!(plan.stuck[0].recorded);
    assert_eq!(plan.managers.cpus_of(&wide.uid, "c0"), Some(&cpus("2-13")));
    let plan = replan(&old, &config("static", "single-numa-node", "0-3", &[])).unwrap();
    assert!(!plan.stuck[0].recorded, "its CPUs are reserved now");
    assert_eq!(plan.managers.shared_cpus(), &cpus("0-3,14-15"), "the rest of its CPUs is given to nobody");
}
