//! Pods that pinning refuses are failed in the kubelet's words, once each, and those that must not be are not.

use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass::Guaranteed;

use super::*;
use crate::pinning::{agent, converge, static_cpus};
use crate::support::api_server::Fault;
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::node_runtime::NodeRuntime;

/// A node of four CPUs whose pinning refuses every pod that asks for five.
async fn refusing(spec: &NodeSpec) -> (NodeRuntime, Pinning) {
    let shape = Shape { nodes: 1, cores_per_node: 4, threads: 1 };
    let node = FakeCgroups::new(Version::V2, CgroupDriver::Systemd, shape);
    let pinning = agent(&node);
    converge(&pinning, spec).await;
    let mut runtime = NodeRuntime::new(&node);
    runtime.connect(pinning.desk());
    (runtime, pinning)
}

fn pod(uid: &str) -> String {
    format!("/api/v1/namespaces/shop/pods/{uid}")
}

/// A pod that was refused twice, and its object.
fn refuse(runtime: &mut NodeRuntime, server: &Double, uid: &str, object: Value) {
    runtime.run_pod(Guaranteed, uid, &[]);
    let name = runtime.pods[uid].sandbox.name.clone();
    for _ in 0..2 {
        runtime.create(uid, "main", Ask::cpus(5)).unwrap_err();
    }
    let mut object = object;
    object["metadata"]["uid"] = uid.into();
    server.put(&pod(&name), object);
}

fn name_of(runtime: &NodeRuntime, uid: &str) -> String {
    runtime.pods[uid].sandbox.name.clone()
}

fn phase(server: &Double, name: &str) -> Value {
    server.object(&pod(name)).unwrap()["status"]["phase"].clone()
}

fn scene(server: &Double, pinning: &Pinning, spec: NodeSpec) -> Scene {
    let scene = Scene::with(server, Engine::new(pinning.desk()));
    scene.engine.hold(1, spec);
    scene.engine.converge();
    scene
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_is_failed_after_its_time_with_the_reason_of_the_kubelet_and_an_event() {
    let server = Scene::server();
    let spec = static_cpus("0");
    let (mut runtime, pinning) = refusing(&spec).await;
    refuse(&mut runtime, &server, "a", json!({"status": {"phase": "Pending"}}));
    let name = name_of(&runtime, "a");
    let _scene = scene(&server, &pinning, spec);
    pass(Duration::from_secs(55)).await;
    assert_eq!(phase(&server, &name), "Pending", "it may yet find room");
    pass(Duration::from_secs(10)).await;
    let status = server.object(&pod(&name)).unwrap()["status"].clone();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("UnexpectedAdmissionError")));
    assert!(status["message"].as_str().unwrap().starts_with("Pod was rejected: "), "{status}");
    pass(Duration::from_secs(3600)).await;
    assert_eq!(server.count("patch", "pods/status"), 1);
    let events = server.objects("/apis/events.k8s.io/v1/namespaces/shop/events");
    assert_eq!((events.len(), &events[0]["regarding"]["uid"]), (1, &json!("a")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn who_must_not_be_failed_is_not() {
    let mirror =
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "status": {"phase": "Pending"}});
    let over = json!({"status": {"phase": "Succeeded"}});
    for (case, object) in [("the image of a static pod", mirror), ("over already", over)] {
        let server = Scene::server();
        let (mut runtime, pinning) = refusing(&static_cpus("0")).await;
        refuse(&mut runtime, &server, "a", object.clone());
        let _scene = scene(&server, &pinning, static_cpus("0"));
        pass(Duration::from_secs(600)).await;
        assert_eq!(server.count("patch", "pods/status"), 0, "{case}");
        assert_eq!(phase(&server, &name_of(&runtime, "a")), object["status"]["phase"], "{case}");
    }
    type Change = fn(&mut NodeSpec);
    let changes: [(&str, Change); 2] = [
        ("a protected namespace", |spec| spec.kubernetes.held_pods.protected_namespaces = ["shop".to_owned()].into()),
        ("not wanted", |spec| spec.kubernetes.held_pods.fail = false),
    ];
    for (case, change) in changes {
        let server = Scene::server();
        let mut spec = static_cpus("0");
        change(&mut spec);
        let (mut runtime, pinning) = refusing(&spec).await;
        refuse(&mut runtime, &server, "a", json!({"status": {"phase": "Pending"}}));
        let _scene = scene(&server, &pinning, spec);
        pass(Duration::from_secs(600)).await;
        assert!(server.calls().iter().all(|call| !call.resource.starts_with("pods")), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_name_is_left_alone() {
    let server = Scene::server();
    let (mut runtime, pinning) = refusing(&static_cpus("0")).await;
    refuse(&mut runtime, &server, "a", json!({"status": {"phase": "Pending"}}));
    let name = name_of(&runtime, "a");
    server.remove(&pod(&name));
    server.put(&pod(&name), json!({"metadata": {"uid": "other"}, "status": {"phase": "Running"}}));
    let _scene = scene(&server, &pinning, static_cpus("0"));
    pass(Duration::from_secs(600)).await;
    assert_eq!(phase(&server, &name), "Running");
    assert_eq!(server.count("patch", "pods/status"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refused_pods_is_failed_one_by_one_and_an_outage_only_delays_it() {
    let server = Scene::server();
    let (mut runtime, pinning) = refusing(&static_cpus("0")).await;
    for number in 0..20 {
        refuse(&mut runtime, &server, &format!("u{number}"), json!({"status": {"phase": "Pending"}}));
    }
    server.fault(Fault::status(503).on("patch").of_resource("pods/status"));
    let _scene = scene(&server, &pinning, static_cpus("0"));
    pass(Duration::from_secs(300)).await;
    assert!(server.count("patch", "pods/status") <= 240 / 5 + 1, "{}", server.count("patch", "pods/status"));
    server.heal();
    server.forget_calls();
    pass(Duration::from_secs(300)).await;
    let calls = server.calls();
    let times: Vec<_> = calls.iter().filter(|call| call.resource == "pods/status").map(|call| call.at).collect();
    assert_eq!(times.len(), 20);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(5)));
}
