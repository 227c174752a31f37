//! The picture as text, as SVG and as data.

use std::path::Path;

use trimtab::cli::output::Detail;
use trimtab::cli::{pods, status, topology};
use trimtab::picture::text::{self, Detail as Marks};
use trimtab::picture::{Topology, svg};
use trimtab::reconcile::node_view::NodeView;

use crate::support::machines::{HOSTILE, LARGE, SMALL, Shape, busy};
use crate::support::server::{Setup, TestServer, two_pods, within};

/// Compares with a file of `tests/golden`.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("TRIMTAB_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "run the tests once with TRIMTAB_BLESS=1 and look at tests/golden/{name}");
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn draw(view: &NodeView, width: usize, detail: Marks) -> String {
    plain(&text::render(&Topology::new("node-1", view), width, detail))
}

/// A small machine with one of everything.
fn mixed() -> NodeView {
    let two = Shape { numas: 2, ..SMALL };
    let mut view = busy(two, &[("db", 1), ("cache", 2)]);
    view.machine.offline_cpus = vec![16, 17];
    view.machine.isolated_cpus = vec![7];
    view.allocatable_cpus.retain(|cpu| ![6, 7, 14, 15].contains(cpu));
    view.shared_cpus.retain(|cpu| ![7, 15].contains(cpu));
    view
}

#[test]
fn a_small_machine_with_one_of_everything() {
    let view = mixed();
    let marks = draw(&view, 100, Marks::Marks);
    let numbers = draw(&view, 100, Marks::Numbers);
    golden("topology.txt", &format!("{marks}\n---- wide ----\n{numbers}"));
}

#[test]
fn large_machines_fit_the_terminal() {
    let names: Vec<String> = (0..40).map(|number| format!("pod-{number}")).collect();
    let holders: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 3)).collect();
    let view = busy(LARGE, &holders);
    let one_cache = busy(Shape { sockets: 1, numas: 1, caches: 1, cores: 256, threads: 2 }, &holders);
    for (view, detail) in [(&view, Marks::Marks), (&view, Marks::Numbers), (&one_cache, Marks::Marks)] {
        let text = draw(view, 80, detail);
        let cells = text.lines().filter(|line| line.starts_with("    ") && !line.contains('['));
        let longest = cells.map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= 80, "{longest} columns in\n{text}");
    }
    let text = draw(&view, 80, Marks::Marks);
    assert!(text.contains("AN  data/pod-39/main  118-120,374-376\n"), "{text}");
}

#[test]
fn a_machine_that_was_not_read_says_so() {
    assert_eq!(draw(&NodeView::default(), 80, Marks::Marks), "node-1: the machine has not been read yet\n");
}

#[test]
fn hostile_names_do_not_drive_the_terminal() {
    let holders = HOSTILE.map(|name| (name, 1));
    let text = draw(&busy(LARGE, &holders), 80, Marks::Marks);
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{ffff}';
    assert!(!text.contains(bad), "{text:?}");
    assert!(text.contains(r"\u{202e}gnp.exe\u{1b}[2J\u{0}\u{ffff}"), "{text}");
}

/// Elements of a text that is XML; fails where it is not.
fn elements(xml: &str) -> Vec<&str> {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    let mut rest = xml;
    while let Some((before, after)) = rest.split_once('<') {
        assert!(!before.contains('>'), "a bare > in {before:?}");
        let (tag, after) = after.split_once('>').expect("a tag that ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closes what is not open");
        } else {
            seen.push(name);
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        rest = after;
        if name == "style" && !tag.starts_with('/') {
            rest = &rest[rest.find("</style").unwrap()..];
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    seen
}

#[test]
fn the_image_is_well_formed_and_names_stay_text() {
    let holders = HOSTILE.map(|name| (name, 2));
    for view in [mixed(), busy(LARGE, &holders), NodeView::default()] {
        let image = svg::document(&Topology::new("<node>&\"", &view));
        let known = ["svg", "tspan", "title", "style", "defs", "pattern", "rect", "text", "g"];
        for element in elements(&image) {
            assert!(known.contains(&element), "{element} in the image");
        }
        assert!(image.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" "));
        let cells = image.matches("<title>CPU ").count();
        assert_eq!(cells, view.machine.cpus.len() + view.machine.offline_cpus.len());
        assert!(!image.contains("://") || image.matches("://").count() == 1, "nothing is loaded from elsewhere");
    }
}

#[tokio::test]
async fn data_for_programs_keeps_its_form() {
    let mut setup = Setup::new();
    setup.view = NodeView { machine: mixed().machine, ..two_pods() };
    setup.view.machine.cpus.truncate(4);
    let server = setup.start().await;
    let mut client = trimtab::client::connect(&server.socket()).await.unwrap();
    let facts = topology::from_wire(within(client.topology()).await.unwrap());
    assert_eq!(facts, Topology::new("node-1", &server.view.borrow()), "what the socket tells is what the agent knows");
    let pretty = |value: serde_json::Value| serde_json::to_string_pretty(&value).unwrap() + "\n";
    let data = serde_json::to_value(topology::TopologyData::from(&facts)).unwrap();
    golden("topology.json", &pretty(data));
    let placements = pods::Placements::from(within(client.placements()).await.unwrap());
    golden("pods.json", &pretty(serde_json::to_value(&placements).unwrap()));
    let report = status::Status::from(within(client.report()).await.unwrap());
    golden("status.json", &pretty(serde_json::to_value(&report).unwrap()));
    for (normal, wide, more) in [
        (pods::render(&placements, Detail::Normal), pods::render(&placements, Detail::Wide), "id-of-server"),
        (status::render(&report, Detail::Normal), status::render(&report, Detail::Wide), "PASSES"),
    ] {
        assert!(!normal.contains(more) && wide.contains(more), "{normal}\n{wide}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn an_agent_without_a_pass_has_an_empty_topology() {
    let server = TestServer::start().await;
    let mut client = trimtab::client::connect(&server.socket()).await.unwrap();
    let facts = topology::from_wire(within(client.topology()).await.unwrap());
    assert!(facts.cpus.is_empty() && facts.numa_nodes.is_empty());
    server.shut_down().await;
}

/// One container on CPUs of its own and one in the shared pool that do not run as ordered.
fn stray(reason: &str) -> NodeView {
    let mut view = mixed();
    for pod in &mut view.pods {
        for container in &mut pod.containers {
            container.mispinned = ["db", "dns"].contains(&pod.name.as_str()).then(|| reason.to_owned());
        }
    }
    view
}

#[test]
fn who_does_not_run_as_ordered_is_marked() {
    let view = stray("it may run on 0-15");
    let text = draw(&view, 100, Marks::Marks);
    for expected in [
        "; 2 containers mispinned; ",
        "A!/A!",
        " A! data/db/main  1,9  mispinned: it may run on 0-15\n",
        " B  data/cache/main  2-3,10-11\n",
        "  ! kube-system/dns/dns  mispinned: it may run on 0-15\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert_eq!(draw(&mixed(), 100, Marks::Marks).matches('!').count(), 0);
    let image = svg::document(&Topology::new("node-1", &view));
    assert_eq!(image.matches("class=\"cpu exclusive k0 mispinned\"").count(), 3, "two CPUs and the legend");
    assert!(image.contains("held by data/db/main; mispinned: it may run on 0-15 (core 1"), "{image}");
    assert!(image.contains("kube-system/dns/dns; mispinned: it may run on 0-15"), "{image}");
}

#[tokio::test]
async fn who_does_not_run_as_ordered_is_told_over_the_socket_too() {
    let mut setup = Setup::new();
    setup.view = stray(HOSTILE[4]);
    let expected = Topology::new("node-1", &setup.view);
    let server = setup.start().await;
    let mut client = trimtab::client::connect(&server.socket()).await.unwrap();
    let told = topology::from_wire(within(client.topology()).await.unwrap());
    assert_eq!(told, expected);
    let data = serde_json::to_value(topology::TopologyData::from(&told)).unwrap();
    assert_eq!(data["holders"][0]["mispinned"], HOSTILE[4]);
    assert!(data["holders"][1].get("mispinned").is_none());
    assert_eq!(data["mispinnedSharing"][0]["pod"], "dns");
    assert!(!draw(&stray(HOSTILE[4]), 80, Marks::Marks).contains(['\u{202e}', '\u{1b}']));
    server.shut_down().await;
}

#[test]
fn who_waits_for_its_next_start_is_drawn_with_what_it_keeps() {
    let mut view = mixed();
    view.pods.iter_mut().find(|pod| pod.name == "db").unwrap().containers[0].waiting = true;
    let text = draw(&view, 100, Marks::Marks);
    assert!(text.contains(" data/db/main  1,9  waits for its next start\n"), "{text}");
    assert_eq!(text.matches("waits for").count(), 1, "{text}");
    let topology = Topology::new("node-1", &view);
    assert!(svg::document(&topology).contains("data/db/main: 1,9; waits for its next start"));
    let data = serde_json::to_value(topology::TopologyData::from(&topology)).unwrap();
    assert_eq!((&data["holders"][0]["waiting"], data["holders"][1].get("waiting")), (&serde_json::json!(true), None));
}
