//! The program itself beside others that write the same tables, and beside the ConfigMap of the agent it stands in for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::namespace::{Mounts, in_fresh_namespaces};
use crate::support::node::{Node, http, metric, nat, run};
use crate::support::tables::load;
use trimtab_domain::masquerade::{Backend, Family, TableId};

/// What a kube-proxy restores when it starts.
const KUBE_PROXY: &str = "*nat\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
    -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
    -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
    -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n\
    -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\nCOMMIT\n";

fn profile(ip_masq: &str) -> String {
    format!(
        "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: test}}\nspec:\n  ipMasq: {{{ip_masq}}}\n"
    )
}

fn on_a_node(ip_masq: impl FnOnce(&Node) -> String + Send, test: impl FnOnce(Node) + Send) {
    in_fresh_namespaces(Mounts::Inherited, || {
        if let Some(node) = Node::new() {
            node.write_profile(&profile(&ip_masq(&node)));
            test(node);
        }
    });
}

/// The rules that are ours, in both families.
fn ours() -> Vec<String> {
    nat().lines().filter(|line| line.contains("IP-MASQ-AGENT")).map(str::to_owned).collect()
}

fn shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn whatever_others_do_to_the_tables_is_healed() {
    let disturbances = [
        ("a flush", "iptables -t nat -F; ip6tables -t nat -F"),
        ("a clean-up", "iptables -t nat -F; iptables -t nat -X; ip6tables -t nat -F; ip6tables -t nat -X"),
        ("the jump deleted", "iptables -t nat -D POSTROUTING 1"),
        ("a rule put in", "iptables -t nat -I IP-MASQ-AGENT -d 8.8.8.8 -j ACCEPT"),
        ("the iptables service", "printf '*nat\\n-A POSTROUTING -o lo -j ACCEPT\\nCOMMIT\\n' | iptables-restore"),
        ("the nftables service", "nft -f - <<X\nflush ruleset\ntable inet filter { }\nX"),
        ("firewalld", "nft flush ruleset; nft add table inet firewalld; iptables -t nat -N DOCKER"),
        ("both tables taken away", "nft delete table ip nat; nft delete table ip6 nat"),
    ];
    on_a_node(
        |_| "enableIPv6: true, nonMasqueradeCIDRs: [10.0.0.0/8, 'fd00::/8']".to_owned(),
        |node| {
            let mut held = Vec::new();
            // More of them within a minute would be a fight, which is another test.
            for few in disturbances.chunks(3) {
                let mut agent = node.start_ready();
                held = ours();
                assert!(held.len() >= 8, "{held:?}");
                for (name, script) in few {
                    shell(script);
                    agent.until(name, || ours() == held);
                }
                assert_eq!(agent.terminate(), Some(0));
                assert_eq!(ours(), held, "by default the rules stay");
            }
            let mut agent = node.start_ready();
            // A kube-proxy that starts leaves ours alone, and ours stays ahead or behind as it was.
            load(TableId { family: Family::V4, backend: Backend::Nft }, KUBE_PROXY);
            shell("iptables -t nat -F IP-MASQ-AGENT");
            agent.until("healed beside kube-proxy", || ours() == held);
            assert!(nat().contains("-A KUBE-POSTROUTING -j MASQUERADE --random-fully"));
        },
    );
}

#[test]
fn a_writer_that_comes_back_again_and_again_is_named() {
    on_a_node(
        |_| String::new(),
        |node| {
            let mut agent = node.start_ready();
            let held = ours();
            while metric("trimtab_fights{subsystem=\"masquerade\"}") != Some(1.0) {
                shell("iptables -t nat -F IP-MASQ-AGENT");
                agent.until("healed, or left alone", || {
                    ours() == held || metric("trimtab_fights{subsystem=\"masquerade\"}") == Some(1.0)
                });
            }
            agent.until("the writer is named", || agent_log(&node).contains("iptables (process "));
        },
    );
}

fn agent_log(node: &Node) -> String {
    fs::read_to_string(node.path("log")).unwrap_or_default()
}

#[test]
fn at_the_end_the_rules_go_if_the_profile_says_so() {
    on_a_node(
        |_| "onExit: remove".to_owned(),
        |node| {
            load(TableId { family: Family::V4, backend: Backend::Nft }, KUBE_PROXY);
            let before = nat();
            let agent = node.start_ready();
            assert_ne!(nat(), before);
            assert_eq!(agent.terminate(), Some(0));
            assert_eq!(nat(), before);
        },
    );
}

#[test]
fn another_network_than_the_nodes_is_noticed() {
    on_a_node(
        |_| String::new(),
        |node| {
            let (told, refused) = ("network namespace: the agent is not in", "a network of its own, so no packet");
            let rows: [(&str, &[&str], bool, bool); 3] = [
                ("the node's", &[], false, false),
                ("put elsewhere by somebody", &["--net"], true, false),
                ("a pod's", &["--net", "--pid", "--fork", "--kill-child", "--mount-proc"], true, true),
            ];
            for (name, namespaces, finds, refuses) in rows {
                let mut command = Command::new("unshare");
                command.args(namespaces).arg(env!("CARGO_BIN_EXE_trimtab"));
                node.arguments(&mut command, "plan", &[]);
                let output = command.output().unwrap();
                let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert_eq!(text.contains(told), finds, "{name}: {text}");
                assert_eq!(text.contains(refused), refuses, "{name}: {text}");
                assert_eq!(text.contains("ipv4/nft/IP-MASQ-AGENT: absent -> "), !refuses, "{name}: {text}");
            }
        },
    );
}

/// The layout of a mounted ConfigMap: a dated folder behind `..data`, swapped by rename.
fn publish(folder: &Path, version: &str, files: &[(&str, &str)]) {
    let dated = folder.join(format!("..{version}"));
    fs::create_dir_all(&dated).unwrap();
    for (name, text) in files {
        fs::write(dated.join(name), text).unwrap();
        if folder.join(name).symlink_metadata().is_err() {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
    }
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn a_config_map_is_followed_in_place_and_a_bad_one_never_takes_effect() {
    for (key, agent, name) in [("configFile", "kubernetes-sigs", "/ip-masq-agent"), ("configDir", "azure", "")] {
        on_a_node(
            |node| format!("compat: {agent}, {key}: {}{name}", node.path("config").display()),
            |node| {
                let folder = node.path("config");
                publish(&folder, "1", &[("ip-masq-agent", "nonMasqueradeCIDRs: [10.0.0.1/8]\n")]);
                let before = nat();
                let mut agent = node.start();
                agent.until("not ready, with the reason", || {
                    http("/readyz").is_some_and(|answer| answer.contains("503") && answer.contains("is not aligned"))
                });
                assert_eq!(nat(), before);
                publish(&folder, "2", &[("ip-masq-agent", "nonMasqueradeCIDRs: [9.9.0.0/16]\n")]);
                agent.until("ready", || http("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
                agent.until("the rules of the file", || nat().contains("-d 9.9.0.0/16 "));
                publish(&folder, "3", &[("ip-masq-agent", "*")]);
                let refused = "trimtab_refusals{subsystem=\"masquerade\",cause=\"invalid-value\"}";
                agent.until("refused", || metric(refused) == Some(1.0));
                run("iptables", &["-t", "nat", "-F", "IP-MASQ-AGENT"]);
                agent.until("healed while the file is bad", || nat().contains("-d 9.9.0.0/16 "));
                assert_eq!(agent.terminate(), Some(0));
                let mut agent = node.start_ready();
                agent
                    .until("the kept one is in force", || metric(refused) == Some(1.0) && nat().contains("9.9.0.0/16"));
                publish(&folder, "4", &[("ip-masq-agent", "nonMasqueradeCIDRs: [8.0.0.0/8]\n")]);
                agent.until("followed", || nat().contains("-d 8.0.0.0/8 ") && metric(refused) == Some(0.0));
            },
        );
    }
}
