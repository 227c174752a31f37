//! What the original agents get wrong, case by case, and what is done instead.

use trimtab_domain::spec::IpMasqSpec;
use trimtab_domain::spec::ip_masq::Compat;

use super::{Node, V4, V6, azure, sigs};

const PLAIN: &str = "-m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination \
                     traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT";

fn quoted() -> String {
    PLAIN.replace("\"ip", "\"\\\"ip").replace("chain\"", "chain\\\"\"")
}

/// Jumps in POSTROUTING.
fn jumps(node: &Node) -> Vec<String> {
    let text = node.nat.print(V4);
    text.lines().filter_map(|line| line.strip_prefix("-A POSTROUTING ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_null_in_the_list_is_refused_and_never_a_default() {
    for list in ["[~]", "[10.0.0.0/8, null]", "\n  - 9.0.0.0/8\n  -"] {
        let node = Node::new();
        node.config.file(Some(&format!("nonMasqueradeCIDRs: {list}\n")));
        let outcome = node.pass(&sigs()).await;
        assert!(outcome.refusals[0].detail.starts_with("Error syncing configuration: CIDR \"\" could not be parsed"));
        assert!(node.exempt(V4).is_empty(), "{list}");
    }
}

#[tokio::test]
async fn a_length_with_leading_zeros_is_decimal_and_told() {
    let node = Node::new();
    node.config.file(Some("nonMasqueradeCIDRs: [172.16.0.0/012, 10.0.0.0/08]\n"));
    let outcome = node.converge(&sigs()).await;
    assert_eq!(node.exempt(V4), ["169.254.0.0/16", "172.16.0.0/12", "10.0.0.0/8"]);
    let told = outcome.findings.iter().filter(|finding| finding.code == "masquerade-config-spelling");
    assert_eq!(
        told.map(|finding| finding.remedy.as_str()).collect::<Vec<_>>(),
        ["write 172.16.0.0/12", "write 10.0.0.0/8"]
    );
}

#[tokio::test]
async fn an_ipv4_prefix_written_as_ipv6_is_an_ipv4_prefix() {
    for enable_ipv6 in [false, true] {
        let node = Node::new();
        node.config.file(Some("nonMasqueradeCIDRs: [\"::ffff:10.0.0.0/104\"]\n"));
        node.converge(&IpMasqSpec { enable_ipv6, ..sigs() }).await;
        assert_eq!(node.exempt(V4), ["169.254.0.0/16", "10.0.0.0/8"]);
        assert!(!node.exempt(V6).contains(&"::ffff:10.0.0.0/104".to_owned()));
    }
}

#[tokio::test]
async fn a_negative_interval_is_one_second() {
    let node = Node::new();
    node.config.file(Some("resyncInterval: -5s\n"));
    assert_eq!(node.converge(&sigs()).await.resync.unwrap().as_secs(), 1);
}

#[tokio::test]
async fn drift_is_healed_while_the_file_is_bad() {
    for spec in [sigs(), azure()] {
        let node = Node::new();
        let set = |text: &str| {
            node.config.file(Some(text));
            node.config.directory(&[("ip-masq-agent", text)]);
        };
        set("nonMasqueradeCIDRs: [9.0.0.0/8]\n");
        node.converge(&spec).await;
        let held = node.nat.print(V4);
        set("*");
        node.nat.other(V4, "*nat\n:IP-MASQ-AGENT - [0:0]\nCOMMIT\n");
        let outcome = node.pass(&spec).await;
        assert_eq!(node.nat.print(V4), held);
        assert!(outcome.refusals[0].detail.ends_with("the last good configuration stays in force and is kept up"));
        assert_eq!(outcome.repaired, ["ipv4/nft/IP-MASQ-AGENT"]);
    }
}

#[tokio::test]
async fn another_agents_jump_is_replaced_and_not_joined() {
    let rows = [(sigs(), quoted(), PLAIN.to_owned()), (azure(), PLAIN.to_owned(), quoted())];
    for (spec, found, wanted) in rows {
        let node = Node::new();
        for jump in [
            &found,
            &PLAIN.replace("ip-masq-agent:", "ip-masq:"),
            &PLAIN.replace("-m addrtype ! --dst-type LOCAL ", ""),
        ] {
            node.nat.other(V4, &format!("*nat\n:IP-MASQ-AGENT - [0:0]\n-A POSTROUTING {jump}\nCOMMIT\n"));
            node.converge(&spec).await;
            assert_eq!(jumps(&node), [wanted.as_str()], "{:?} after {jump}", spec.compat);
        }
    }
}

#[tokio::test]
async fn the_same_jump_twice_is_kept_in_compat_and_told_and_made_one_natively() {
    let node = Node::new();
    node.converge(&sigs()).await;
    node.nat.other(V4, &format!("*nat\n-A POSTROUTING {PLAIN}\nCOMMIT\n"));
    let outcome = node.converge(&sigs()).await;
    assert_eq!(jumps(&node).len(), 2);
    assert!(outcome.findings.iter().any(|finding| finding.code == "masquerade-repeated-jump"));
    node.converge(&IpMasqSpec { compat: None, ..sigs() }).await;
    assert_eq!(jumps(&node), [PLAIN]);
}

#[tokio::test]
async fn a_jump_in_a_chain_where_it_has_no_business_goes() {
    for compat in [None, Some(Compat::KubernetesSigs)] {
        let node = Node::new();
        node.converge(&sigs()).await;
        // Into the empty chain: the kernel lets nobody masquerade from OUTPUT.
        node.nat.other(V4, &format!("*nat\n:IP-MASQ-AGENT - [0:0]\n-A OUTPUT {PLAIN}\nCOMMIT\n"));
        node.converge(&IpMasqSpec { compat, ..sigs() }).await;
        assert!(!node.nat.print(V4).contains("-A OUTPUT"), "{compat:?}");
        assert_eq!((jumps(&node).len(), node.exempt(V4).len()), (1, 4), "{compat:?}");
    }
}

#[tokio::test]
async fn a_renamed_chain_and_ipv6_switched_off_leave_nothing_behind() {
    for spec in [sigs(), azure()] {
        let node = Node::new();
        node.converge(&IpMasqSpec { enable_ipv6: true, ..spec.clone() }).await;
        node.converge(&IpMasqSpec { masq_chain: "OTHER".into(), ..spec }).await;
        assert!(!node.nat.print(V4).contains("IP-MASQ-AGENT") && node.nat.print(V4).contains("-j OTHER"));
        assert!(!node.nat.print(V6).contains("-A "), "{}", node.nat.print(V6));
    }
}

#[tokio::test]
async fn the_order_is_that_of_the_files_and_a_second_pass_writes_nothing() {
    let node = Node::new();
    let first = "nonMasqueradeCIDRs: [203.0.113.0/24, 9.9.9.9/32, 1.1.1.0/24]\n";
    node.config.directory(&[("ip-masq-0", first), ("ip-masq-1", "nonMasqueradeCIDRs: [8.0.0.0/8, 9.9.9.9/32]\n")]);
    node.converge(&azure()).await;
    let expected = ["169.254.0.0/16", "203.0.113.0/24", "9.9.9.9/32", "1.1.1.0/24", "8.0.0.0/8"];
    assert_eq!(node.exempt(V4), expected);
    let writes = node.nat.counts().1;
    node.converge(&azure()).await;
    assert_eq!(node.nat.counts().1, writes);
}

#[tokio::test]
async fn ipv6_without_an_ipv6_prefix_is_said_to_hide_clients() {
    let node = Node::new();
    let outcome = node.converge(&IpMasqSpec { enable_ipv6: true, ..sigs() }).await;
    assert!(outcome.findings.iter().any(|finding| finding.code == "masquerade-hides-ipv6-clients"));
    node.config.file(Some("nonMasqueradeCIDRs: [\"fd00::/8\"]\n"));
    let outcome = node.converge(&IpMasqSpec { enable_ipv6: true, ..sigs() }).await;
    assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
}

#[tokio::test]
async fn a_missing_directory_of_azure_is_no_end_and_leaves_what_was_there() {
    let node = Node::new();
    node.config.directory(&[("ip-masq-agent", "nonMasqueradeCIDRs: [9.0.0.0/8]\n")]);
    node.converge(&azure()).await;
    node.config.no_directory("open /etc/config/: no such file or directory");
    let outcome = node.pass(&azure()).await;
    assert!(outcome.refusals[0].detail.starts_with(
        "the daemon encountered an error: error syncing configuration: failed to read config directory, error: open"
    ));
    assert_eq!(node.exempt(V4), ["169.254.0.0/16", "9.0.0.0/8"]);
}

#[tokio::test]
async fn an_old_tool_gets_no_random_ports() {
    let node = Node::new();
    node.nat.release(Some("1.6.1"));
    node.converge(&sigs()).await;
    assert!(!node.nat.print(V4).contains("--random-fully"));
    node.nat.release(None);
    node.converge(&sigs()).await;
    assert!(node.nat.print(V4).contains("--random-fully"));
}
