//! `kubectl trimtab`, the program itself, over HTTP and HTTPS against the double of the API server.

mod secure;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api_server::{ApiServer, Fault, Listening};

/// A cluster, a kubeconfig for it, and the program under the name by which kubectl finds it.
struct Desk {
    server: ApiServer,
    place: TempDir,
    listening: Listening,
}

impl Desk {
    async fn new() -> Self {
        let (server, place) = (ApiServer::new(), TempDir::new().unwrap());
        let listening = server.listen().await;
        symlink(env!("CARGO_BIN_EXE_trimtab"), place.path().join("kubectl-trimtab")).unwrap();
        let desk = Self { server, place, listening };
        desk.configure(&format!("http://{}", desk.listening.address));
        desk
    }

    fn kubeconfig(&self) -> PathBuf {
        self.place.path().join("config")
    }

    /// Two contexts: the current one leads nowhere.
    fn configure(&self, server: &str) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [
                {"name": "c", "cluster": {"server": server}},
                {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}},
            ],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "c", "user": "me"}},
                {"name": "away", "context": {"cluster": "nowhere", "user": "me"}},
            ],
        });
        std::fs::write(self.kubeconfig(), config.to_string()).unwrap();
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(&self.kubeconfig(), arguments).await
    }

    /// With only this in the environment.
    async fn run_with(&self, kubeconfig: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.place.path().join("kubectl-trimtab"));
        command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig).env("HOME", self.place.path());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn shown(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments).await;
        assert!(output.stdout.is_empty(), "{arguments:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn add_node(&self, name: &str, pool: &str, state: &str) {
        self.server.put(&format!("/api/v1/nodes/{name}"), json!({"metadata": {"labels": {"pool": pool}}}));
        let refusal = json!({"object": "net.core.nothing", "code": "absent", "detail": "this kernel has no such key"});
        let told = json!({
            "profile": {
                "name": "web", "generation": 3, "why": "the only one",
                "verdicts": [
                    {"profile": "web", "outcome": "Won", "why": "weight 10"},
                    {"profile": "all", "outcome": "Outweighed", "why": "weight 0, web has 10"},
                ],
            },
            "state": state, "ready": true, "refusals": 1, "drifts": 2, "agent": {"version": "9.9.9"},
            "parts": [{"name": "sysctl", "state": "converged", "refusals": [refusal]}],
            "updated": "2026-01-01T00:00:00Z",
        });
        self.server.put(&format!("/apis/trimtab.dev/v1alpha1/nodestates/{name}"), told);
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn status_shows_every_node_and_how_many_are_in_which_state() {
    let desk = Desk::new().await;
    desk.add_node("n1", "web", "InSync");
    desk.add_node("n2", "db", "Refusing");
    let shown = desk.shown(&["status"]).await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(cells(lines[0]), ["NODE", "PROFILE", "STATE", "READY", "REFUSALS", "DRIFTS", "TOLD"]);
    assert_eq!(cells(lines[1])[..6], ["n1", "web", "InSync", "yes", "1", "2"]);
    assert_eq!(cells(lines[2])[..3], ["n2", "web", "Refusing"]);
    assert_eq!(*lines.last().unwrap(), "2 nodes: 1 InSync, 1 Refusing");
    assert!(desk.server.calls().iter().all(|call| call.token == "secret" && call.verb == "list"));
    let wide = desk.shown(&["status", "-o", "wide"]).await;
    assert!(wide.contains("GENERATION") && wide.contains("9.9.9") && wide.contains("the only one"), "{wide}");
}

#[tokio::test]
async fn a_selector_is_one_of_the_nodes_own_labels() {
    let desk = Desk::new().await;
    desk.add_node("n1", "web", "InSync");
    desk.add_node("n2", "db", "InSync");
    let shown: Value = serde_json::from_str(&desk.shown(&["status", "-l", "pool=db", "-o", "json"]).await).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!((&shown[0]["node"], &shown[0]["generation"]), (&json!("n2"), &json!(3)));
    let none = desk.shown(&["status", "--selector", "pool=none"]).await;
    assert!(none.starts_with("No agent has told"), "{none}");
}

#[tokio::test]
async fn a_thousand_nodes_are_read_page_by_page() {
    let desk = Desk::new().await;
    (0..1200).for_each(|number| desk.add_node(&format!("n{number:04}"), "web", "InSync"));
    let shown = desk.shown(&["status"]).await;
    assert!(shown.ends_with("1200 nodes: 1200 InSync\n"), "{}", &shown[shown.len() - 100..]);
    assert_eq!(desk.server.count("list", "nodestates"), 3);
}

#[tokio::test]
async fn one_node_is_shown_with_all_that_is_told_of_it() {
    let desk = Desk::new().await;
    desk.add_node("n1", "web", "Refusing");
    let shown = desk.shown(&["status", "n1"]).await;
    for wanted in ["node n1: Refusing, ready, trimtab 9.9.9", "net.core.nothing", "no such key", "Outweighed"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let data: Value = serde_json::from_str(&desk.shown(&["status", "n1", "-o", "json"]).await).unwrap();
    assert_eq!((&data["state"], data["metadata"].get("managedFields")), (&json!("Refusing"), None));
    let (code, error) = desk.refused(&["status", "n9"]).await;
    assert!(code == Some(5) && error.contains("nothing is told of a node n9"), "{code:?} {error}");
}

#[tokio::test]
async fn profiles_are_shown_with_what_was_counted() {
    let desk = Desk::new().await;
    let path = |name: &str| format!("/apis/trimtab.dev/v1alpha1/nodeprofiles/{name}");
    let status = json!({
        "observedGeneration": 1, "nodes": 4, "inSync": 3, "failing": 0, "refusing": 1, "outdated": 0,
        "countedBy": "n7", "updated": "2026-01-01T00:00:00.000001Z",
    });
    desk.server.put(&path("web"), json!({"spec": {"weight": 10}, "status": status}));
    desk.server.put(&path("new"), json!({"spec": {}}));
    let shown = desk.shown(&["profiles"]).await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(cells(lines[1]), ["new", "0", "-", "-", "-", "-", "-", "never"]);
    assert_eq!(cells(lines[2])[..7], ["web", "10", "4", "3", "0", "1", "0"]);
    assert!(cells(lines[2]).last() == Some(&"ago"), "{shown}");
    let data: Value = serde_json::from_str(&desk.shown(&["profiles", "-o", "json"]).await).unwrap();
    assert_eq!(data[1]["countedBy"], "n7");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do_about_it() {
    let desk = Desk::new().await;
    let says = |(code, error): (Option<i32>, String), wanted: i32, words: &[&str]| {
        assert_eq!(code, Some(wanted), "{error}");
        assert!(error.starts_with("error: "), "{error}");
        words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
    };
    let nowhere = desk.place.path().join("none");
    let output = desk.run_with(&nowhere, &["status"]).await;
    says((output.status.code(), String::from_utf8(output.stderr).unwrap()), 1, &["KUBECONFIG", "--kubeconfig"]);
    let missing = nowhere.display().to_string();
    says(desk.refused(&["profiles", "--kubeconfig", &missing]).await, 1, &[&missing]);
    says(desk.refused(&["status", "--context", "moon"]).await, 1, &["moon"]);
    says(desk.refused(&["status", "--context", "away"]).await, 4, &["does not answer"]);
    desk.server.permit(|_| false);
    says(desk.refused(&["status"]).await, 6, &["you may not read nodestates", "trimtab-view"]);
    desk.server.permit(|_| true);
    desk.server.fault(Fault::status(500).times(1));
    says(desk.refused(&["profiles"]).await, 1, &["cannot read nodeprofiles"]);
    desk.server.accept_tokens(&["another"]);
    says(desk.refused(&["status"]).await, 6, &["does not know you"]);
    desk.server.accept_tokens(&["secret"]);
    desk.server.without_kind("trimtab.dev", "nodestates");
    says(desk.refused(&["status"]).await, 1, &["no kind NodeState", "trimtab crd"]);
    let (code, _) = desk.refused(&["dance"]).await;
    assert_eq!(code, Some(64));
}

#[tokio::test]
async fn the_programs_own_command_is_the_same() {
    let desk = Desk::new().await;
    desk.add_node("n1", "web", "InSync");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    command.args(["cluster", "status", "-o", "yaml", "--kubeconfig"]).arg(desk.kubeconfig()).env_clear();
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("n1") && shown == desk.shown(&["status", "-o", "yaml"]).await, "{shown}");
}
