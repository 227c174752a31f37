//! What the program answers on a real node: why a container has its CPUs, and what another profile would change.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::namespace::{Mounts, in_fresh_namespaces};
use crate::support::node::{Node, read};

const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

/// A profile with this value of a sysctl and these reserved CPUs.
fn profile(somaxconn: u32, reserved: &str) -> String {
    format!(
        "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: test}}\nspec:\n  \
         sysctls: {{values: {{net.core.somaxconn: {somaxconn}}}}}\n  \
         resourceManagers: {{cpuManagerPolicy: static, reservedSystemCPUs: '{reserved}'}}\n"
    )
}

/// Asks the running agent; the exit code and what was printed.
fn ask(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    let output = command.args(arguments).arg("--socket").arg(node.path("socket")).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.concat())
}

fn on_a_node(test: impl FnOnce(Node) + Send) {
    in_fresh_namespaces(Mounts::Inherited, || {
        if let Some(mut node) = Node::new() {
            node.write_profile(&profile(16384, "0"));
            node.pods.make("kubepods/poda");
            node.pods.container("kubepods/poda", 1, "app", Some(1));
            test(node);
        }
    });
}

/// The only container that the agent tells of.
fn container(node: &Node) -> Value {
    let (code, text) = ask(node, &["pods", "-o", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let data: Value = serde_json::from_str(&text).unwrap();
    data["pods"][0]["containers"][0].clone()
}

#[test]
fn a_container_is_explained_by_its_name_or_id() {
    on_a_node(|node| {
        let mut agent = node.start_ready();
        agent.until("it is pinned", || container(&node)["exclusiveCpus"].as_str().is_some_and(|cpus| !cpus.is_empty()));
        let told = container(&node);
        let cpus = told["exclusiveCpus"].as_str().unwrap();
        // As the kubelet shows it.
        let id = format!("containerd://{}", told["id"].as_str().unwrap());
        for name in [told["name"].as_str().unwrap(), &id] {
            let (code, text) = ask(&node, &["explain", name]);
            assert_eq!(code, Some(0), "{name}: {text}");
            for part in [format!("CPUs {cpus} are its own"), "entitled to 1 CPUs".into(), "CPUs static".into()] {
                assert!(text.contains(&part), "{name}: {part:?} is not in\n{text}");
            }
        }
        let (code, text) = ask(&node, &["explain", cpus, "-o", "json"]);
        assert_eq!(code, Some(0), "{text}");
        let stories: Value = serde_json::from_str(&text).unwrap();
        assert!(stories[0]["answer"].as_str().unwrap().contains("holds it"), "{stories}");
    });
}

#[test]
fn another_profile_is_rehearsed_by_the_running_agent_without_taking_effect() {
    on_a_node(|node| {
        let mut agent = node.start_ready();
        agent.until("it is pinned", || container(&node)["exclusiveCpus"].as_str().is_some_and(|cpus| !cpus.is_empty()));
        let held = container(&node);
        let before = (read(SOMAXCONN), node.pods.cpusets());
        let candidate = node.path("candidate.yaml");
        let file = candidate.to_str().unwrap();
        let rehearse = || ask(&node, &["plan", "--running", "--candidate", file]);

        fs::write(&candidate, profile(20000, "0")).unwrap();
        let (code, text) = rehearse();
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("net.core.somaxconn: 16384 -> 20000"), "{text}");

        fs::write(&candidate, profile(16384, "0")).unwrap();
        let (code, text) = rehearse();
        assert_eq!(code, Some(0), "what is in force would change nothing: {text}");

        fs::write(&candidate, profile(16384, "0").replace("somaxconn", "somaxcon: nn")).unwrap();
        let (code, text) = rehearse();
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains("candidate.yaml"), "{text}");

        let (code, text) = ask(&node, &["plan", "--running"]);
        assert_eq!(code, Some(0), "what was rehearsed is not wished: {text}");
        assert_eq!((read(SOMAXCONN), node.pods.cpusets()), before, "nothing was written");
        assert_eq!(container(&node), held, "and what is told is of the profile in force");
        assert_eq!(agent.terminate(), Some(0));
    });
}
