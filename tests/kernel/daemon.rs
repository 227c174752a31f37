//! The program itself on a real kernel: what it applies, keeps, survives, refuses and gives back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::namespace::{Mounts, in_fresh_namespaces};
use trimtab_domain::cgroup::Version;

use crate::support::node::{Node, http, metric, nat, read, run};

const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
const KEEPALIVE: &str = "/proc/sys/net/ipv4/tcp_keepalive_time";
const BLOCKLIST: &str = "etc/modprobe.d/trimtab-blocklist.conf";

const PROFILE: &str = "\
apiVersion: trimtab.dev/v1alpha1
kind: NodeProfile
metadata: {name: test}
spec:
  sysctls:
    values:
      net.core.somaxconn: 16384
      net.ipv4.tcp_keepalive_time: 600
  kernel:
    modules: {block: [dccp]}
  resourceManagers: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}
  ipMasq: {enableIPv6: true, nonMasqueradeCIDRs: [10.0.0.0/8, 'fd00::/8']}
";

fn on_a_node(test: impl FnOnce(Node) + Send) {
    in_fresh_namespaces(Mounts::Inherited, || {
        if let Some(node) = Node::new() {
            node.write_profile(PROFILE);
            test(node);
        }
    });
}

/// Everything that the profile of these tests speaks of.
fn facts(node: &Node) -> (Vec<String>, String, BTreeMap<PathBuf, String>, bool) {
    let sysctls = [SOMAXCONN, KEEPALIVE].map(read).to_vec();
    (sysctls, nat(), node.pods.cpusets(), node.host().join(BLOCKLIST).exists())
}

fn guaranteed(node: &mut Node) -> String {
    node.pods.make("kubepods/poda");
    node.pods.container("kubepods/poda", 1, "app", Some(1))
}

fn burstable(node: &mut Node) -> String {
    node.pods.make("kubepods/burstable/podb");
    node.pods.container("kubepods/burstable/podb", 2, "app", None)
}

#[test]
fn a_plan_changes_nothing_an_apply_converges_and_a_rollback_gives_everything_back() {
    on_a_node(|mut node| {
        guaranteed(&mut node);
        burstable(&mut node);
        let before = facts(&node);
        let (code, text) = node.once("plan", &[]);
        assert_eq!(code, Some(2), "{text}");
        for part in ["net.core.somaxconn: ", " -> 16384", "cpuset.cpus", "IP-MASQ-AGENT", "trimtab-blocklist.conf"] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        assert_eq!(facts(&node), before);
        assert!(!node.path("state").exists(), "a plan leaves no trace");
        let (code, text) = node.once("apply", &["-o", "json"]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(read(SOMAXCONN), "16384");
        assert!(nat().contains("-j MASQUERADE"));
        let (code, text) = node.once("plan", &[]);
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = node.once("rollback", &["--dry-run"]);
        assert_eq!(code, Some(2), "{text}");
        assert_eq!(read(SOMAXCONN), "16384");
        let (code, text) = node.once("rollback", &["sysctl"]);
        assert_eq!((code, read(SOMAXCONN)), (Some(0), before.0[0].clone()), "{text}");
        assert!(nat().contains("-j MASQUERADE"), "only what was named is given back");
        let (code, text) = node.once("rollback", &[]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(facts(&node), before);
    });
}

#[test]
fn a_profile_file_that_pauses_holds_everything_back_until_it_does_not_any_more() {
    on_a_node(|mut node| {
        guaranteed(&mut node);
        burstable(&mut node);
        let before = facts(&node);
        let until = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(3600));
        node.write_profile(&format!("{PROFILE}  pause: {{until: \"{until}\", reason: a test}}\n"));
        let (code, text) = node.once("apply", &[]);
        assert_eq!((code, text.contains("the profile pauses this node until")), (Some(1), true), "{text}");
        for turn in ["first", "after a restart"] {
            let agent = node.start_ready();
            assert_eq!(facts(&node), before, "{turn}");
            assert_eq!(agent.terminate(), Some(0), "{turn}");
        }
        let mut agent = node.start_ready();
        node.write_profile(PROFILE);
        agent.until("held", || read(SOMAXCONN) == "16384" && nat().contains("-j MASQUERADE"));
    });
}

#[test]
fn drift_in_each_subsystem_is_healed_by_events() {
    on_a_node(|mut node| {
        let (pinned, shared) = (guaranteed(&mut node), burstable(&mut node));
        let mut agent = node.start_ready();
        let held = facts(&node);
        fs::write(SOMAXCONN, "7").unwrap();
        agent.until("sysctl healed", || read(SOMAXCONN) == "16384");
        run("iptables", &["-t", "nat", "-F"]);
        agent.until("rules healed", || nat() == held.1);
        fs::remove_file(node.host().join(BLOCKLIST)).unwrap();
        agent.until("modules blocked again", || node.host().join(BLOCKLIST).exists());
        let sets = (node.pods.allowed(&pinned), node.pods.allowed(&shared));
        if sets.0 != sets.1 {
            let stray = node.pods.allowed(&shared);
            node.pods.set("cpuset.cpus", &pinned, &stray);
            let took = agent.until("pin healed", || node.pods.allowed(&pinned) == sets.0);
            eprintln!("a pin was healed after {took:?}");
            let bound =
                if node.pods.version() == Version::V1 { ("cpu.cfs_quota_us", "-1") } else { ("cpu.max", "max 100000") };
            node.pods.set(bound.0, &pinned, "100000");
            agent.until("bound lifted again", || node.pods.text(bound.0, &pinned) == bound.1);
        }
        assert_eq!(facts(&node), held);
        agent.until("drift is counted", || {
            metric("trimtab_drift_found_total{subsystem=\"sysctl\"}").is_some_and(|count| count >= 1.0)
        });
        let id = agent.id();
        assert_eq!(agent.terminate(), Some(0), "process {id}");
        assert_eq!(facts(&node), held, "the node keeps its settings");
    });
}

#[test]
fn a_kubelet_that_begins_to_pin_ends_pinning_at_once() {
    on_a_node(|mut node| {
        let (pinned, shared) = (guaranteed(&mut node), burstable(&mut node));
        // Nothing but an event can tell it.
        let mut agent = node.start_with(&["--resync", "10h"]);
        agent.until_ready();
        let held = [&pinned, &shared].map(|path| node.pods.allowed(path));
        assert_eq!(metric("trimtab_pinning_observe_only"), Some(0.0));
        let state = node.host().join("var/lib/kubelet");
        // As the kubelet replaces it: whole, by rename.
        let text = r#"{"policyName":"static","defaultCpuSet":"0-1","entries":{},"checksum":1}"#;
        fs::write(state.join(".cpu_manager_state1"), text).unwrap();
        fs::rename(state.join(".cpu_manager_state1"), state.join("cpu_manager_state")).unwrap();
        agent.until("observe-only", || metric("trimtab_pinning_observe_only") == Some(1.0));
        assert_eq!([&pinned, &shared].map(|path| node.pods.allowed(path)), held, "pins stay as they are");
    });
}

#[test]
fn a_killed_agent_leaves_everything_and_the_next_one_changes_nothing() {
    on_a_node(|mut node| {
        guaranteed(&mut node);
        burstable(&mut node);
        let before = facts(&node);
        let agent = node.start_ready();
        let held = facts(&node);
        agent.kill();
        assert_eq!(facts(&node), held);
        let agent = node.start_ready();
        assert_eq!(facts(&node), held);
        assert_eq!(metric("trimtab_steps_total{subsystem=\"sysctl\",result=\"done\"}"), Some(0.0), "{}", agent.log());
        agent.kill();
        let (code, text) = node.once("rollback", &[]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(facts(&node), before);
    });
}

#[test]
fn a_container_that_came_while_no_agent_ran_is_pinned_by_the_next_one() {
    on_a_node(|mut node| {
        burstable(&mut node);
        // Something must be held, or there was no hand-over.
        let first = guaranteed(&mut node);
        node.start_ready().kill();
        let alone = node.pods.allowed(&first);
        node.pods.stop(&first);
        let next = node.pods.container("kubepods/poda", 3, "app", Some(1));
        let mut agent = node.start_ready();
        agent.until("pinned", || node.pods.allowed(&next) == alone);
        let late = |phase| metric(&format!("trimtab_pinning_late_pins_total{{phase=\"{phase}\"}}"));
        agent.until("counted", || late("start") == Some(1.0));
        assert_eq!(late("later"), Some(0.0));
    });
}

#[test]
fn a_second_agent_refuses_to_start() {
    on_a_node(|node| {
        let first = node.start_ready();
        let (code, text) = node.once("run", &["--http", "off", "--socket", "/nowhere/socket"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("another trimtab") && text.contains(&first.id().to_string()), "{text}");
        for command in ["apply", "rollback"] {
            let (code, text) = node.once(command, &[]);
            assert_eq!(code, Some(1), "{command}: {text}");
            assert!(text.contains("another trimtab"), "{command}: {text}");
        }
        assert_eq!(node.once("plan", &[]).0, Some(0), "a plan needs no lock");
        assert!(http("/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "the first is undisturbed");
    });
}

#[test]
fn an_agent_that_cannot_answer_does_not_touch_the_node() {
    on_a_node(|node| {
        let before = facts(&node);
        let taken = std::net::TcpListener::bind("127.0.0.1:9808").unwrap();
        let socket = node.path("socket").display().to_string();
        let (code, text) = node.once("run", &["--socket", &socket, "--http", "127.0.0.1:9808"]);
        assert_eq!((code, text.contains("another process may use the port")), (Some(1), true), "{text}");
        assert_eq!(facts(&node), before);
        drop(taken);
    });
}

#[test]
fn a_bad_profile_keeps_the_last_good_one_in_force_over_a_restart() {
    on_a_node(|node| {
        let mut agent = node.start_ready();
        node.write_profile(&PROFILE.replace("somaxconn: 16384", "somaxconn: [a lot]"));
        agent.until("the metric says so", || metric("trimtab_profile_valid") == Some(0.0));
        assert!(agent.log().contains("profile.yaml:7:"), "the log says where:\n{}", agent.log());
        fs::write(SOMAXCONN, "7").unwrap();
        agent.until("the last good one is held", || read(SOMAXCONN) == "16384");
        agent.kill();
        fs::write(SOMAXCONN, "8").unwrap();
        let mut agent = node.start_ready();
        agent.until("the last good one is held over a restart", || read(SOMAXCONN) == "16384");
        assert_eq!(metric("trimtab_profile_valid"), Some(0.0));
        let socket = node.path("socket").display().to_string();
        let status =
            Command::new(env!("CARGO_BIN_EXE_trimtab")).args(["status", "--socket", &socket]).output().unwrap();
        let text = String::from_utf8(status.stdout).unwrap();
        assert!(text.contains("the newest profile is not in force") && text.contains(":7:"), "{text}");
        node.write_profile(&PROFILE.replace("16384", "8192"));
        agent.until("a good one is used at once", || read(SOMAXCONN) == "8192");
        agent.until("and said to be", || metric("trimtab_profile_valid") == Some(1.0));
    });
}

#[test]
fn what_leaves_the_profile_gets_its_original_back() {
    on_a_node(|node| {
        let before = facts(&node);
        let mut agent = node.start_ready();
        let gone = PROFILE.replace("      net.core.somaxconn: 16384\n", "");
        let ip_masq = gone.find("  ipMasq:").unwrap();
        node.write_profile(&gone[..ip_masq]);
        agent.until("restored", || read(SOMAXCONN) == before.0[0] && nat() == before.1);
        assert_eq!(read(KEEPALIVE), "600", "the rest is held");
    });
}

#[test]
fn what_somebody_else_changed_since_is_not_restored() {
    on_a_node(|node| {
        assert_eq!(node.once("apply", &[]).0, Some(0));
        fs::write(SOMAXCONN, "77").unwrap();
        let (code, text) = node.once("rollback", &[]);
        assert_eq!((code, read(SOMAXCONN).as_str()), (Some(0), "77"), "{text}");
        assert!(text.contains("left at 77, which another program wrote"), "{text}");
    });
}

#[test]
fn a_damaged_ledger_is_set_aside_and_reported_and_the_agent_goes_on() {
    on_a_node(|node| {
        node.start_ready().kill();
        let ledger = node.path("state/ledger");
        let text = read(&ledger);
        fs::write(&ledger, &text[..text.len() / 2]).unwrap();
        let agent = node.start_ready();
        assert!(agent.log().contains("the ledger cannot be used"), "{}", agent.log());
        let kept = fs::read_dir(node.path("state")).unwrap().flatten();
        assert!(kept.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("ledger.damaged-")));
        assert_eq!(read(SOMAXCONN), "16384");
    });
}

#[test]
fn two_capabilities_are_enough_for_this_profile() {
    on_a_node(|mut node| {
        guaranteed(&mut node);
        let before = facts(&node);
        for (command, code) in [("apply", 0), ("plan", 0), ("rollback", 0)] {
            let mut limited = Command::new("setpriv");
            limited.args(["--bounding-set", "-all,+net_admin,+net_raw", "--inh-caps", "-all", "--"]);
            limited.arg(env!("CARGO_BIN_EXE_trimtab"));
            node.arguments(&mut limited, command, &[]);
            let output = limited.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{command}: {text}");
            assert!(!text.contains("refused"), "{command}: {text}");
            assert_eq!(read(SOMAXCONN) == "16384", command != "rollback", "{command}");
        }
        assert_eq!(facts(&node), before);
    });
}

#[test]
fn wrong_command_lines_and_profiles_have_their_exit_codes() {
    on_a_node(|node| {
        node.write_profile("kind: Pod");
        for command in ["plan", "apply"] {
            let (code, text) = node.once(command, &[]);
            assert_eq!(code, Some(3), "{command}: {text}");
            assert!(text.contains("allowed NodeProfile"), "{command}: {text}");
        }
        let (code, text) = node.once("plan", &["--frobnicate"]);
        assert_eq!(code, Some(64), "{text}");
        let (code, text) = node.once("rollback", &["sysctls"]);
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains("invalid value 'sysctls'") && text.contains("masquerade"), "{text}");
        let status =
            Command::new(env!("CARGO_BIN_EXE_trimtab")).args(["status", "--socket", "/nowhere"]).output().unwrap();
        assert_eq!(status.status.code(), Some(4));
        assert!(String::from_utf8_lossy(&status.stderr).contains("cannot reach the agent at /nowhere"));
    });
}

/// Asks the running agent; the exit code and what was printed.
fn ask(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let socket = node.path("socket");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    let output = command.args(arguments).arg("--socket").arg(socket).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.concat())
}

#[test]
fn the_history_names_a_drift_and_its_healing_and_outlives_a_restart() {
    on_a_node(|node| {
        let mut agent = node.start_ready();
        fs::write(SOMAXCONN, "7").unwrap();
        agent.until("healed", || read(SOMAXCONN) == "16384");
        let healed = |text: &str| {
            let data: serde_json::Value = serde_json::from_str(text).unwrap();
            let changes = data["changes"].as_array().unwrap().clone();
            changes.into_iter().find(|change| change["kind"] == "healed" && change["object"] == "net.core.somaxconn")
        };
        let query = ["history", "sysctl", "--object", "somaxconn", "-o", "json"];
        agent.until("it is in the history", || healed(&ask(&node, &query).1).is_some());
        let change = healed(&ask(&node, &query).1).unwrap();
        assert_eq!((change["oldValue"].as_str(), change["newValue"].as_str()), (Some("7"), Some("16384")), "{change}");
        assert_eq!(change["actor"], "trimtab");
        let (code, text) = ask(&node, &["explain", "net.core.somaxconn"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("it is as ordered") && text.contains("7 -> 16384"), "{text}");
        let (code, text) = ask(&node, &["explain", "no.such.thing"]);
        assert_eq!(code, Some(5), "{text}");
        assert_eq!(agent.terminate(), Some(0));
        let agent = node.start_ready();
        assert_eq!(healed(&ask(&node, &query).1), Some(change), "{}", agent.log());
    });
}

#[test]
fn a_pause_holds_back_healing_until_it_ends() {
    on_a_node(|node| {
        let mut agent = node.start_ready();
        let (code, text) = ask(&node, &["pause", "sysctl", "--for", "1h", "--reason", "a test"]);
        assert_eq!(code, Some(0), "{text}");
        fs::write(SOMAXCONN, "9").unwrap();
        let withheld = || ask(&node, &["status"]).1.contains("withheld net.core.somaxconn: 9 -> 16384");
        agent.until("the drift is seen", withheld);
        assert_eq!(read(SOMAXCONN), "9", "and left");
        agent.kill();
        let mut agent = node.start_ready();
        agent.until("the pause outlives a restart", withheld);
        assert_eq!(read(SOMAXCONN), "9");
        let (code, text) = ask(&node, &["plan", "--running"]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("net.core.somaxconn: 9 -> 16384"), "{text}");
        let (code, text) = ask(&node, &["pause", "sysctl", "--for", "1s"]);
        assert_eq!(code, Some(0), "{text}");
        agent.until("healed after the deadline", || read(SOMAXCONN) == "16384");
        let (code, text) = ask(&node, &["rollback", "sysctl", "--for", "1h"]);
        assert_eq!(code, Some(0), "{text}");
        assert_ne!(read(SOMAXCONN), "16384", "given back");
        let (code, text) = ask(&node, &["resume", "sysctl"]);
        assert_eq!(code, Some(0), "{text}");
        agent.until("held again", || read(SOMAXCONN) == "16384");
    });
}
