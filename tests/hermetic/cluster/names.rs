//! What others have named: profiles, labels, pods and what the kernel says are text, never more, and never endless.

use trimtab::reconcile::report::Fight;
use trimtab_domain::cluster::selection::Outcome;
use trimtab_domain::plan::{Cause, Refusal};

use super::*;

const STATE: &str = "/apis/trimtab.dev/v1alpha1/nodestates/n1";
/// Steps of paths, a query, a header, a terminal's command, Go's and a shell's templates.
const HARM: &str = "../../n1/status?force=true&x=\r\nX-Y: z\u{1b}[2J\u{0}%2e%2e$(id){{.}}";

/// Every text of a document.
fn texts(value: &Value, seen: &mut Vec<String>) {
    match value {
        Value::String(text) => seen.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, seen)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            seen.push(key.clone());
            texts(item, seen);
        }),
        _ => {}
    }
}

/// The same trouble in every part, by name and by detail.
fn trouble(engine: &Engine, text: &str, many: usize) {
    for name in PARTS {
        engine.publish(name, |report| {
            let refusal = |number| Refusal {
                object: format!("{number}{text}"),
                wish: text.to_owned(),
                cause: Cause::Absent,
                detail: text.to_owned(),
            };
            report.refusals = (0..many).map(refusal).collect();
            report.fights = (0..many)
                .map(|number| Fight {
                    object: format!("{number}{text}"),
                    rewrites: 5,
                    likely_writer: Some(text.to_owned()),
                    held_until: std::time::SystemTime::UNIX_EPOCH,
                })
                .collect();
            report.last_error = Some(text.to_owned());
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_have_named_is_told_without_what_it_could_do() {
    let server = Scene::server();
    server.put(NODE, json!({"metadata": {"labels": {"pool": HARM, HARM: HARM}, "annotations": {HARM: HARM}}}));
    let escaped: String = HARM.bytes().map(|byte| format!("%{byte:02X}")).collect();
    server.put(&profile(&escaped), json!({"spec": {"nodeSelector": {"matchLabels": {"pool": HARM}}}}));
    server.put(&profile("b"), json!({"spec": {"nodeSelector": {"matchLabels": {HARM: "other"}}}}));
    let scene = Scene::new(&server);
    pass(Duration::from_secs(20)).await;
    scene.engine.hold(1, NodeSpec { name: HARM.into(), ..NodeSpec::default() });
    scene.engine.converge();
    trouble(&scene.engine, HARM, 3);
    pass(Duration::from_secs(60)).await;
    let verdicts = scene.views.choice.borrow().verdicts.clone();
    let outcome = |name: &str| verdicts.iter().find(|verdict| verdict.profile == name).map(|verdict| verdict.outcome);
    assert_eq!(outcome(HARM), Some(Outcome::Unreadable), "no label has such a value");
    let calls = server.calls();
    let known = ["nodes", "nodes/status", "nodeprofiles", "nodestates", "events"];
    assert!(calls.iter().all(|call| known.contains(&call.resource.as_str())), "{calls:?}");
    assert!(calls.iter().all(|call| ["", "n1"].contains(&call.name.as_str())), "{calls:?}");
    assert!(calls.iter().any(|call| call.resource == "events"), "something was told");
    for call in calls.iter().filter(|call| !call.body.is_null()) {
        let mut seen = Vec::new();
        texts(&call.body, &mut seen);
        let odd: Vec<&String> = seen.iter().filter(|text| text.chars().any(char::is_control)).collect();
        assert!(odd.is_empty(), "{} {}: {odd:?}", call.verb, call.resource);
    }
    assert!(server.object(STATE).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_bounded_whatever_there_is_to_tell() {
    let server = Scene::server();
    let long = "ä".repeat(5_000);
    for number in 0..100 {
        server.put(&profile(&format!("{}{number:03}", "p".repeat(250))), for_pool("web", number, 1));
    }
    let scene = Scene::new(&server);
    pass(Duration::from_secs(20)).await;
    scene.engine.hold(1, NodeSpec { name: "p".repeat(253), ..NodeSpec::default() });
    scene.engine.converge();
    trouble(&scene.engine, &long, 500);
    pass(Duration::from_secs(120)).await;
    // An object of a quarter of etcd's limit on each of 5,000 nodes would be a database of two gigabytes.
    for call in server.calls() {
        assert!(call.bytes < 256 << 10, "{} {}: {} bytes", call.verb, call.resource, call.bytes);
    }
    let events = server.objects("/apis/events.k8s.io/v1/namespaces/default/events");
    assert!(!events.is_empty());
    for event in events {
        // The limits of `events.k8s.io/v1`.
        for (field, most) in [("note", 1024), ("reason", 128), ("action", 128), ("reportingInstance", 128)] {
            assert!(event[field].as_str().unwrap().len() <= most, "{field}");
        }
    }
    assert!(server.object(STATE).unwrap()["refusals"] == 3000, "the count tells of the rest");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_the_longest_name_has_events_that_the_server_takes() {
    let server = Double::new();
    let name = format!("{}.{}", "n".repeat(199), "m".repeat(53));
    server.put(&format!("/api/v1/nodes/{name}"), json!({}));
    let scene = Scene::named(&server, &name, Engine::new(Arc::default()));
    pass(Duration::from_secs(20)).await;
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    super::telling::drift(&scene.engine, 1, "net.core.somaxconn");
    pass(Duration::from_secs(60)).await;
    let events = server.objects("/apis/events.k8s.io/v1/namespaces/default/events");
    assert!(!events.is_empty());
    for event in events {
        let name = event["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert!(event["reportingInstance"].as_str().unwrap().len() <= 128);
    }
}
