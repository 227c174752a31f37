//! `cluster` and `kubectl trimtab`: the command line, and what it prints of the nodes and profiles of a whole cluster.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::output::{Detail, printable, table};
use super::status::ago;
use crate::config::{AnswerOutput, ColorChoice};

/// How Trimtab stands over the whole cluster, from the objects that its agents keep.
#[derive(Debug, Parser)]
#[command(name = "kubectl-trimtab", bin_name = "kubectl trimtab", version, max_term_width = 100)]
pub struct Plugin {
    /// What to show
    #[command(subcommand)]
    pub command: ClusterCommand,

    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorChoice,
}

/// True if the program was called by a name under which kubectl finds it: `kubectl-trimtab`.
#[must_use]
pub fn is_plugin(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or_default();
    name == "kubectl-trimtab" || name == "kubectl_trimtab"
}

/// What can be asked of a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show how every node stands to its profile, or all that is told of one
    Status(ClusterStatusArgs),

    /// Show the profiles, and how the nodes stand that each is for
    Profiles(ClusterArgs),
}

/// How the cluster is reached and how it is printed.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Kubeconfig [default: those of `KUBECONFIG`, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: AnswerOutput,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct ClusterStatusArgs {
    /// One node
    pub node: Option<String>,

    /// Only nodes with these labels, as kubectl writes them: pool=web,zone!=a
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "node")]
    pub selector: Option<String>,

    /// How the cluster is reached and how it is printed
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// One node of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// The profile in force; empty: none.
    pub profile: String,
    /// Generation of the object that it is from; 0 for a file.
    pub generation: i64,
    /// Why this one.
    pub why: String,
    /// One word for the node.
    pub state: String,
    /// Whether every part has ended a pass.
    pub ready: bool,
    /// Wishes that are not granted.
    pub refusals: u64,
    /// Objects found changed by others.
    pub drifts: u64,
    /// Version of the agent.
    pub agent: String,
    /// When the agent wrote this, RFC 3339.
    pub updated: String,
}

fn text(of: &Value, path: &str) -> String {
    of.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn count(of: &Value, path: &str) -> u64 {
    of.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn generation(of: &Value, path: &str) -> i64 {
    of.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

impl NodeRow {
    /// The row of a `NodeState`.
    #[must_use]
    pub fn of(state: &Value) -> Self {
        Self {
            node: text(state, "/metadata/name"),
            profile: text(state, "/profile/name"),
            generation: generation(state, "/profile/generation"),
            why: text(state, "/profile/why"),
            state: text(state, "/state"),
            ready: state.pointer("/ready").and_then(Value::as_bool).unwrap_or_default(),
            refusals: count(state, "/refusals"),
            drifts: count(state, "/drifts"),
            agent: text(state, "/agent/version"),
            updated: text(state, "/updated"),
        }
    }
}

/// One profile of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRow {
    /// Its name.
    pub profile: String,
    /// Of several for a node the heaviest is in force.
    pub weight: u64,
    /// Counts the changes of its specification.
    pub generation: i64,
    /// The generation that the counts are of; 0: nobody has counted yet.
    pub observed_generation: i64,
    /// Nodes that it is for.
    pub nodes: u64,
    /// Those where all is as it says.
    pub in_sync: u64,
    /// Those where something could not be done.
    pub failing: u64,
    /// Those that do not grant a wish.
    pub refusing: u64,
    /// Those that found something changed by others.
    pub drifted: u64,
    /// Those that do not hold the newest generation.
    pub outdated: u64,
    /// The node of the agent that counted.
    pub counted_by: String,
    /// When, RFC 3339; empty: never.
    pub updated: String,
}

impl ProfileRow {
    /// The row of a `NodeProfile`.
    #[must_use]
    pub fn of(profile: &Value) -> Self {
        let of_status = |field: &str| count(profile, &format!("/status/{field}"));
        Self {
            profile: text(profile, "/metadata/name"),
            weight: count(profile, "/spec/weight"),
            generation: generation(profile, "/metadata/generation"),
            observed_generation: generation(profile, "/status/observedGeneration"),
            nodes: of_status("nodes"),
            in_sync: of_status("inSync"),
            failing: of_status("failing"),
            refusing: of_status("refusing"),
            drifted: of_status("drifted"),
            outdated: of_status("outdated"),
            counted_by: text(profile, "/status/countedBy"),
            updated: text(profile, "/status/updated"),
        }
    }
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();

fn colored(state: &str) -> String {
    let style = match state {
        "InSync" => GOOD,
        "Failing" | "Fighting" => BAD,
        _ => DOUBT,
    };
    format!("{style}{}{style:#}", printable(state))
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// Renders the nodes for people: a line each, then how many are in which state.
#[must_use]
pub fn render_nodes(nodes: &[NodeRow], detail: Detail) -> String {
    if nodes.is_empty() {
        return "No agent has told of its node yet, or no node has these labels.\n".to_owned();
    }
    let wide = detail == Detail::Wide;
    let mut header = vec!["NODE", "PROFILE", "STATE", "READY", "REFUSALS", "DRIFTS", "TOLD"];
    header.extend(if wide { &["GENERATION", "AGENT", "WHY"][..] } else { &[] });
    let mut rows = table(&header);
    let mut states = BTreeMap::<&str, usize>::new();
    for node in nodes {
        *states.entry(&node.state).or_default() += 1;
        let mut row = vec![
            printable(&node.node),
            or_none(&node.profile),
            // Without colour: the table would count it as width.
            or_none(&node.state),
            if node.ready { "yes" } else { "no" }.to_owned(),
            node.refusals.to_string(),
            node.drifts.to_string(),
            ago(&node.updated),
        ];
        if wide {
            row.extend([node.generation.to_string(), or_none(&node.agent), or_none(&node.why)]);
        }
        rows.add_row(row);
    }
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {}", colored(state))).collect();
    let plural = if nodes.len() == 1 { "node" } else { "nodes" };
    format!("{}\n\n{} {plural}: {}\n", rows.trim_fmt(), nodes.len(), states.join(", "))
}

/// Renders all that is told of one node for people.
#[must_use]
pub fn render_node(state: &Value) -> String {
    let row = NodeRow::of(state);
    let mut out = String::new();
    let ready = if row.ready { "ready" } else { "not ready" };
    let _ = writeln!(
        out,
        "node {}: {}, {ready}, trimtab {}, told {}",
        printable(&row.node),
        colored(&row.state),
        printable(&row.agent),
        ago(&row.updated)
    );
    let _ = writeln!(out, "profile: {} (generation {}): {}", or_none(&row.profile), row.generation, or_none(&row.why));
    let items = |of: &Value, path: &str| of.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    for error in items(state, "/profile/errors").iter().filter_map(Value::as_str) {
        let _ = writeln!(out, "{BAD}refused{BAD:#}: {}", printable(error));
    }
    let mut rows = table(&["PART", "STATE", "WHAT", "OBJECT", "CODE", "WHY"]);
    for part in items(state, "/parts") {
        let (name, how) = (printable(&text(&part, "/name")), printable(&text(&part, "/state")));
        let error = text(&part, "/error");
        rows.add_row(vec![name.clone(), how.clone(), String::new(), String::new(), String::new(), printable(&error)]);
        for (field, what) in [("refusals", "refused"), ("fights", "fight"), ("findings", "finding")] {
            for trouble in items(&part, &format!("/{field}")) {
                let of = |path: &str| printable(&text(&trouble, path));
                let place = [String::new(), String::new(), what.to_owned(), of("/object"), of("/code"), of("/detail")];
                rows.add_row(place.to_vec());
            }
        }
    }
    let _ = writeln!(out, "\n{}", rows.trim_fmt());
    let verdicts = items(state, "/profile/verdicts");
    if verdicts.len() > 1 {
        let mut rows = table(&["PROFILE", "OUTCOME", "WHY"]);
        for verdict in &verdicts {
            rows.add_row(["/profile", "/outcome", "/why"].map(|path| printable(&text(verdict, path))).to_vec());
        }
        let _ = writeln!(out, "\n{}", rows.trim_fmt());
    }
    out
}

/// Renders the profiles for people: a line each.
#[must_use]
pub fn render_profiles(profiles: &[ProfileRow], detail: Detail) -> String {
    if profiles.is_empty() {
        return "There are no profiles.\n".to_owned();
    }
    let wide = detail == Detail::Wide;
    let mut header = vec!["PROFILE", "WEIGHT", "NODES", "IN SYNC", "FAILING", "REFUSING", "OUTDATED", "COUNTED"];
    header.extend(if wide { &["DRIFTED", "GENERATION", "BY"][..] } else { &[] });
    let mut rows = table(&header);
    for profile in profiles {
        let is_counted = profile.observed_generation > 0;
        let number = |count: u64| if is_counted { count.to_string() } else { "-".to_owned() };
        let counted = match (is_counted, profile.observed_generation == profile.generation) {
            (false, _) => "never".to_owned(),
            (true, true) => ago(&profile.updated),
            (true, false) => format!("{}, for generation {}", ago(&profile.updated), profile.observed_generation),
        };
        let mut row = vec![printable(&profile.profile), profile.weight.to_string()];
        let numbers = [profile.nodes, profile.in_sync, profile.failing, profile.refusing, profile.outdated];
        row.extend(numbers.map(number));
        row.push(counted);
        if wide {
            row.extend([number(profile.drifted), profile.generation.to_string(), or_none(&profile.counted_by)]);
        }
        rows.add_row(row);
    }
    format!("{}\n", rows.trim_fmt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::CommandFactory;
    use serde_json::json;

    use super::*;

    #[test]
    fn kubectl_finds_it_by_its_name_alone() {
        let cases = [
            ("kubectl-trimtab", true),
            ("/usr/local/bin/kubectl-trimtab", true),
            ("/root/.krew/bin/kubectl-trimtab", true),
            ("trimtab", false),
            ("/usr/bin/kubectl-trimtab/trimtab", false),
            ("", false),
        ];
        for (program, expected) in cases {
            assert_eq!(is_plugin(program), expected, "{program:?}");
        }
        let help = Plugin::command().render_long_help().to_string();
        assert!(help.contains("Usage: kubectl trimtab"), "{help}");
    }

    #[test]
    fn what_objects_lack_is_shown_as_nothing_and_what_drives_terminals_is_escaped() {
        let nodes = [NodeRow::of(&json!({"metadata": {"name": "n\u{1b}[2J"}}))];
        let shown = render_nodes(&nodes, Detail::Wide);
        assert!(!shown.contains("\u{1b}[2J") && shown.contains("1 node:"), "{shown:?}");
        assert!(render_nodes(&[], Detail::Normal).starts_with("No agent"));
        let profiles = [ProfileRow::of(&json!({"metadata": {"name": "web", "generation": 2}, "spec": {"weight": 7}}))];
        let shown = render_profiles(&profiles, Detail::Normal);
        let cells: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["web", "7", "-", "-", "-", "-", "-", "never"]);
        assert!(!render_node(&json!({"parts": 5, "profile": {"errors": ["\u{7}"]}})).contains('\u{7}'));
    }
}
