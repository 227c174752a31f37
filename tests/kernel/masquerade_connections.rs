//! The kernel's table of connections as the program sees it, in a fresh network namespace.

use std::fs;

use nix::mount::{MsFlags, mount};

use crate::support::namespace::{Mounts, in_fresh_namespaces};
use crate::support::node::{Node, metric, read, run};

const LIMIT: &str = "proc/sys/net/netfilter/nf_conntrack_max";
const PROFILE: &str =
    "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {name: test}\nspec:\n  ipMasq: {}\n";

/// Something for the agent to look at.
fn change_the_table() {
    run("iptables", &["-t", "nat", "-A", "POSTROUTING", "-o", "none", "-j", "ACCEPT"]);
}

#[test]
fn connections_are_counted_and_a_full_table_is_told() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let Some(node) = Node::new() else { return };
        node.write_profile(PROFILE);
        let mut agent = node.start_ready();
        let full = "trimtab_findings{subsystem=\"masquerade\",severity=\"error\"}";
        // With rules in table nat the kernel tracks every connection here, first of all those that ask for metrics.
        agent.until("connections are counted", || {
            change_the_table();
            metric("trimtab_conntrack_entries").is_some_and(|entries| entries > 0.0)
        });
        let limit = node.host().join(LIMIT);
        assert_eq!(metric("trimtab_conntrack_entries_limit"), Some(read(&limit).parse().unwrap()));
        assert_eq!(metric(full), Some(0.0));

        // The limit belongs to the machine: a file over it in this mount namespace alone.
        fs::write(node.path("limit"), "1\n").unwrap();
        let none: Option<&str> = None;
        mount(Some(&node.path("limit")), &limit, none, MsFlags::MS_BIND, none).unwrap();
        agent.until("a full table is told", || {
            change_the_table();
            metric(full) == Some(1.0) && metric("trimtab_conntrack_entries_limit") == Some(1.0)
        });
        assert!(agent.log().contains("net.netfilter.nf_conntrack_max"), "{}", agent.log());
    });
}
