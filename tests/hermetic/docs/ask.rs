//! The recipes of "ask the node": every command can be typed, every method can be called, and what is shown as an answer
//! is what the program prints.

use std::path::{Path, PathBuf};

use clap::Parser;
use trimtab::cli::output::Detail;
use trimtab::cli::{Cli, pods, status, topology};
use trimtab::client;
use trimtab::picture::text;
use trimtab::reconcile::node_view::NodeView;
use trimtab_domain::plan::{Cause, Refusal};

use super::api::{fields_asked, methods};
use crate::support::machines::{Shape, busy};
use crate::support::server::{Setup, ready_report, within};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ask-the-node.md")
}

/// The lines of every block of a console that begin with a prompt, without it.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Words as a shell splits them, up to the first pipe.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in command.chars() {
        match (c, quote) {
            (c, Some(mark)) if c == mark => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => quote = Some(c),
            ('|', None) => break,
            (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            (c, None) => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_command_can_be_typed_and_every_method_called() {
    let text = std::fs::read_to_string(page()).unwrap();
    let commands = commands(&text);
    let inline = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("trimtab ")).map(str::to_owned);
    let (mut typed, mut called) = (0, 0);
    for command in commands.into_iter().chain(inline) {
        let words = words(&command);
        if let Some(at) = words.iter().position(|word| word == "trimtab") {
            Cli::try_parse_from(&words[at..]).unwrap_or_else(|error| panic!("{command}: {error}"));
            typed += 1;
        } else if words[0] == "grpcurl" {
            let method = words.last().unwrap();
            assert!(
                methods().contains(method) || method.starts_with("grpc.health.v1.Health/"),
                "{command}: no such method"
            );
            let data = words.iter().position(|word| word == "-d").map_or("{}", |at| &words[at + 1]);
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            let fields = fields_asked(method);
            for key in data.as_object().unwrap().keys() {
                assert!(fields.contains(key), "{command}: the request has no field {key}");
            }
            called += 1;
        } else {
            let known = ["kubectl", "curl"].contains(&words[0].as_str()) || words[0].starts_with("POD=");
            assert!(known, "{command}: neither the program nor a tool that reaches it");
        }
    }
    assert!(typed >= 15 && called >= 4, "{typed} commands, {called} methods");
}

#[test]
fn every_metric_of_the_recipes_exists() {
    let text = std::fs::read_to_string(page()).unwrap();
    let table = include_str!("../../golden/metrics.md");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for word in words.filter(|word| word.starts_with("trimtab_") && *word != "trimtab_nri") {
        assert!(table.contains(&format!("`{word}`")), "no such metric: {word}");
    }
}

/// A node with two containers on CPUs of their own, one of them moved by somebody, and one in the shared pool.
fn node() -> NodeView {
    let shape = Shape { sockets: 1, numas: 2, caches: 1, cores: 4, threads: 2 };
    let mut view = busy(shape, &[("db", 1), ("cache", 2)]);
    for pod in &mut view.pods {
        pod.uid.0 = format!("uid of {}", pod.name);
        for container in &mut pod.containers {
            let own = &container.exclusive_cpus;
            let set = if own.is_empty() { &view.shared_cpus } else { own };
            container.effective_cpus = set.iter().copied().collect::<trimtab_domain::cpuset::CpuSet>().to_string();
        }
    }
    view.pods[2].containers[0].effective_cpus = "0-15".into();
    view.pods[2].containers[0].mispinned = Some("it may run on 0-15 instead of 2-3,10-11".into());
    view
}

/// What the three commands print about it, for people.
async fn answers() -> [(&'static str, String); 3] {
    let mut setup = Setup::new();
    setup.view = node();
    setup.report = ready_report();
    let mut sysctl = (*setup.report.subsystems[0]).clone();
    sysctl.refusals = vec![Refusal {
        object: "net.core.optmem_max".into(),
        wish: "131072".into(),
        cause: Cause::NotPermitted,
        detail: "the kernel refuses the write; give the agent the capability NET_ADMIN".into(),
    }];
    setup.report.subsystems[0] = std::sync::Arc::new(sysctl);
    let server = setup.start().await;
    let mut client = client::connect(&server.socket()).await.unwrap();
    let status = status::Status::from(within(client.report()).await.unwrap());
    let pods = pods::Placements::from(within(client.placements()).await.unwrap());
    let topology = topology::from_wire(within(client.topology()).await.unwrap());
    server.shut_down().await;
    [
        ("trimtab pods", pods::render(&pods, Detail::Normal)),
        ("trimtab topology", text::render(&topology, 100, text::Detail::Marks)),
        ("trimtab status", status::render(&status, Detail::Normal)),
    ]
}

#[tokio::test]
async fn answers_are_what_the_program_prints() {
    if terminal_size::terminal_size().is_some() {
        assert!(std::env::var_os("CI").is_none(), "under CI this test must run, without a terminal");
        eprintln!("skipped: tables fit themselves to this terminal");
        return;
    }
    let kept = std::fs::read_to_string(page()).unwrap();
    let mut text = kept.clone();
    for (command, answer) in answers().await {
        let answer = anstream::adapter::strip_str(&answer).to_string();
        let lines: String = answer.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        let begin = format!("```console\n$ {command}\n");
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no block of {command}"));
        let (_, after) = rest.split_once("```").unwrap();
        text = format!("{before}{begin}{}\n```{after}", lines.trim_end());
    }
    if std::env::var_os("TRIMTAB_BLESS").is_some() {
        std::fs::write(page(), &text).unwrap();
        return;
    }
    assert!(text == kept, "docs/ask-the-node.md shows other answers: run the tests once with TRIMTAB_BLESS=1");
}
