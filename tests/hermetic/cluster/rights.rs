//! The role of the agent: with it everything works, and there is nothing in it that is not used.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::pinning::{converge, static_cpus};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::node_runtime::NodeRuntime;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource};
use trimtab_domain::workload::QosClass::Guaranteed;

/// Group, resource, verb, name; no name: all of them.
pub(super) type Right = (String, String, String, String);

/// Resources of which the role names the objects; creating cannot be bound to a name.
const NAMED: [&str; 2] = ["leases", "configmaps"];

/// What the roles of a file of the components grant.
pub(super) fn rights_of(file: &str) -> BTreeSet<Right> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/components").join(file);
    let text = fs::read_to_string(path).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let documents = text.split("\n---\n").map(|part| serde_saphyr::from_str::<Value>(part).unwrap());
    let rules: Vec<Value> = documents.flat_map(|one| one["rules"].as_array().cloned().unwrap_or_default()).collect();
    let mut rights = BTreeSet::new();
    for rule in &rules {
        let names = if rule["resourceNames"].is_null() { vec![String::new()] } else { texts(&rule["resourceNames"]) };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let right = |name: &String| (group.clone(), resource.clone(), verb.clone(), name.clone());
                    rights.extend(names.iter().map(right));
                }
            }
        }
    }
    rights
}

/// What a call needs; applying may make the object, which needs the right to create, too.
pub(super) fn needed(call: &Call) -> Vec<Right> {
    let right = |verb: &str| {
        let is_named = NAMED.contains(&call.resource.as_str()) && verb != "create";
        // A list of one object is one of that object to the API server, too.
        let selected = call.parameter("fieldSelector").strip_prefix("metadata.name=").unwrap_or(&call.name);
        let name = if is_named { selected.to_owned() } else { String::new() };
        (call.group.clone(), call.resource.clone(), verb.to_owned(), name)
    };
    match call.verb {
        "apply" if call.resource.contains('/') => vec![right("patch")],
        "apply" => vec![right("patch"), right("create")],
        verb => vec![right(verb)],
    }
}

#[tokio::test(start_paused = true)]
async fn the_role_is_enough_and_not_too_much() {
    let (granted, server) = (rights_of("objects/role.yaml"), Scene::server());
    assert!(granted.iter().all(|(group, resource, verb, _)| ![group, resource, verb].contains(&&"*".to_owned())));
    let allowed = granted.clone();
    server.permit(move |call| needed(call).iter().all(|right| allowed.contains(right)));
    server.put(&profile("web"), for_pool("web", 1, 1));
    let taint = json!({"key": "trimtab.dev/not-ready", "effect": "NoSchedule"});
    server.edit(NODE, |node| node["spec"] = json!({"taints": [taint]}));
    let mut spec = static_cpus("0");
    spec.name = "web".into();
    spec.kubernetes.node_resource_topology = true;
    spec.kubernetes.extended_resources = [("example.com/dongle".to_owned(), 1)].into();
    let node = FakeCgroups::new(Version::V2, CgroupDriver::Systemd, Shape { nodes: 1, cores_per_node: 4, threads: 1 });
    let (pinning, view) = trimtab::subsystems::pinning::Pinning::new(node.ports());
    converge(&pinning, &spec).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(pinning.desk());
    runtime.run_pod(Guaranteed, "a", &[]);
    (0..2).for_each(|_| drop(runtime.create("a", "main", Ask::cpus(5)).unwrap_err()));
    let name = runtime.pods["a"].sandbox.name.clone();
    server.put(
        &format!("/api/v1/namespaces/shop/pods/{name}"),
        json!({"metadata": {"uid": "a"}, "status": {"phase": "Pending"}}),
    );
    let scene = Scene::with(&server, Engine::new(pinning.desk()));
    scene.engine.view.send_replace(view.borrow().clone());
    scene.engine.hold(1, spec);
    scene.engine.converge();
    pass(Duration::from_secs(30)).await;
    // A change whose first step is not this node's.
    server.edit(&profile("web"), |web| {
        web["spec"]["sysctls"]["values"] = json!({"net.core.somaxconn": 2});
        let steps = json!([{"percent": 1, "soakSeconds": 1}]);
        web["spec"]["rollout"] = json!({"steps": steps, "maxUnhealthyPercent": 50});
    });
    for count in 1..=650 {
        super::telling::drift(&scene.engine, count, "net.core.somaxconn");
        pass(Duration::from_secs(1)).await;
    }
    for (generation, agent) in [(2, Compat::Azure), (3, Compat::KubernetesSigs)] {
        let config = Some(ConfigSource::of_config_maps(agent));
        let ip_masq = Some(IpMasqSpec { config, ..IpMasqSpec::default() });
        let spec = NodeSpec { name: "web".into(), ip_masq, ..NodeSpec::default() };
        scene.engine.hold(generation, spec);
        pass(Duration::from_secs(60)).await;
    }
    drop(scene);
    // The uninstallation has the same role.
    let (_, error) = trimtab::cluster::farewell::take_leave(&ApiServer::new(server.client()), "n1").await;
    assert_eq!(error, None);
    let calls = server.calls();
    let refused: Vec<&Call> =
        calls.iter().filter(|call| !needed(call).iter().all(|right| granted.contains(right))).collect();
    assert_eq!(refused.len(), 0, "{refused:?}");
    let used: BTreeSet<Right> = calls.iter().flat_map(needed).collect();
    assert_eq!(used, granted, "what is used, and what is granted");
}

#[tokio::test(start_paused = true)]
async fn without_any_right_the_node_is_held_all_the_same_and_the_server_is_asked_rarely() {
    let server = Scene::server();
    server.permit(|_| false);
    let scene = Scene::new(&server);
    pass(Duration::from_secs(3600)).await;
    assert_eq!(*scene.offers.borrow(), Offer::Unknown);
    assert!(server.calls().len() <= 2 * 62, "{} calls in an hour", server.calls().len());
}
