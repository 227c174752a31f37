//! What is written, and in which order.

use super::*;

#[tokio::test]
async fn values_that_only_look_different_are_not_written() {
    let rows = [
        ("net.ipv4.tcp_rmem", "4096\t131072\t6291456", "4096 131072  6291456"),
        ("net.core.somaxconn", "4096", " 04096 "),
        ("net.core.somaxconn", "4096", "+4096"),
        ("net.core.somaxconn", "4096", "0x1000"),
        ("kernel.core_pattern", "|/bin/core %P %u", "|/bin/core %P %u"),
        ("net.ipv4.ip_local_reserved_ports", "", ""),
    ];
    for (key, shown, wish) in rows {
        let node = Node::with(&[(key, shown)]);
        let pass = node.settle(&[(key, wish)]).await;
        assert!(pass.plan.is_empty(), "{key} = {wish:?}: {:?}", texts(&pass.plan));
        assert_eq!(node.record(key), None, "nothing was written, so nothing is remembered");
    }
}

#[tokio::test]
async fn the_ledger_remembers_before_anything_is_written() {
    let node = Node::with(&[("net.core.somaxconn", "4096"), ("vm.swappiness", "60")]);
    let wishes = [("net.core.somaxconn", "16384"), ("vm.swappiness", "10")];
    node.ledger.fail_commits(1);
    let pass = node.pass(&wishes).await;
    assert_eq!(texts(&pass.plan)[0], "ledger: remember net.core.somaxconn, vm.swappiness");
    assert_eq!(pass.failures.len(), 1);
    assert_eq!(node.host.take_changes(), [], "no promise, no write");
    node.settle(&wishes).await;
    assert_eq!(node.shows("net.core.somaxconn"), "16384");
}

#[tokio::test]
async fn keys_are_spelled_with_dots_or_slashes() {
    let node = Node::with(&[("net.ipv4.conf.eno2/100.rp_filter", "0"), ("net.core.somaxconn", "1")]);
    let pass = node.settle(&[("net/ipv4/conf/eno2.100/rp_filter", "1"), ("net/core/somaxconn", "2")]).await;
    assert_eq!(writes(&pass.plan), ["net.core.somaxconn: 1 -> 2", "net.ipv4.conf.eno2/100.rp_filter: 0 -> 1"]);
}

#[tokio::test]
async fn an_explicit_key_is_taken_out_of_every_glob() {
    let conf = |interface: &str| format!("net.ipv4.conf.{interface}.rp_filter");
    let node = Node::with(&[
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.lo.rp_filter", "0"),
        ("net.ipv4.conf.eth0.rp_filter", "0"),
    ]);
    let wishes = [("net.ipv4.conf.*.rp_filter", "2"), ("net.ipv4.conf.eth0.rp_filter", "1")];
    node.settle(&wishes).await;
    let shown: Vec<String> = ["all", "lo", "eth0"].map(|interface| node.shows(&conf(interface))).into();
    assert_eq!(shown, ["2", "2", "1"]);
    node.host.sysctl(&conf("veth1.7").replace("veth1.7", "veth1/7"), "0");
    let pass = node.settle(&wishes).await;
    assert_eq!(writes(&pass.plan), ["net.ipv4.conf.veth1/7.rp_filter: 0 -> 2"], "a new interface is picked up");
    node.host.vanish("/proc/sys/net/ipv4/conf/veth1.7");
    let pass = node.settle(&wishes).await;
    assert_eq!(texts(&pass.plan), ["ledger: forget net.ipv4.conf.veth1/7.rp_filter (gone)"]);
}

#[tokio::test]
async fn what_the_kernel_makes_of_a_wish_is_no_drift_and_real_drift_still_is() {
    let mut node = Node::with(&[("vm.max_map_count", "65530")]);
    let path = sysctl_path("vm.max_map_count");
    node.host.clamps(&path, 0, 2_147_483_647);
    let wishes = [("vm.max_map_count", "99999999999")];
    let pass = node.settle(&wishes).await;
    assert_eq!(pass.left.findings[0].code, "kernel-adjusted");
    node.restart();
    node.host.take_attempts();
    let pass = node.settle(&wishes).await;
    assert!(pass.plan.is_empty() && node.host.take_attempts() == 0, "the effect is remembered over a restart");
    node.host.write_by_other(&path, "70000");
    let pass = node.settle(&wishes).await;
    assert_eq!(writes(&pass.plan), ["vm.max_map_count: 70000 -> 99999999999"]);
    assert_eq!(node.shows("vm.max_map_count"), "2147483647");
    // The same value under another wish is what that wish asks for, and then the old effect counts no more.
    node.settle(&[("vm.max_map_count", "2147483647")]).await;
    node.host.write_by_other(&path, "70000");
    node.settle(&[("vm.max_map_count", "2147483646")]).await;
    assert_eq!(node.shows("vm.max_map_count"), "2147483646");
    node.settle(&[]).await;
    assert_eq!(node.shows("vm.max_map_count"), "65530");
}

#[tokio::test]
async fn a_value_that_another_program_writes_at_the_same_time_is_not_taken_for_the_kernels() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let node = Node::with(&[("net.core.somaxconn", "128")]);
    let count = AtomicU32::new(0);
    node.host.on_write(sysctl_path("net.core.somaxconn"), move |_, _| {
        Ok((1000 + count.fetch_add(1, Ordering::Relaxed)).to_string())
    });
    let pass = node.pass(&[("net.core.somaxconn", "4096")]).await;
    assert_eq!(pass.left.steps().count(), 1, "it is still wished for");
    let ordered = node.record("net.core.somaxconn").map(|record| record.ordered);
    assert_eq!(ordered.as_deref(), Some("4096"), "no effect of the kernel's is remembered");
}

#[tokio::test]
async fn dependent_keys_are_written_in_the_order_that_the_kernel_takes() {
    let neigh = |n: u8| format!("net.ipv4.neigh.default.gc_thresh{n}");
    let node = Node::with(&[(&neigh(1), "128"), (&neigh(2), "512"), (&neigh(3), "1024")]);
    let (one, two, three) = (neigh(1), neigh(2), neigh(3));
    let up = [(one.as_str(), "4096"), (two.as_str(), "8192"), (three.as_str(), "16384")];
    let pass = node.settle(&up).await;
    let chain = &pass.plan.stages[1].chains;
    assert_eq!(chain.len(), 1, "one chain, in order");
    let order = |plan: &Plan<SysctlStep>| -> Vec<String> {
        writes(plan).iter().map(|text| text.split(':').next().unwrap().rsplit('.').next().unwrap().to_owned()).collect()
    };
    assert_eq!(order(&pass.plan), ["gc_thresh3", "gc_thresh2", "gc_thresh1"]);
    let pass = node.settle(&[]).await;
    assert_eq!(order(&pass.plan), ["gc_thresh1", "gc_thresh2", "gc_thresh3"], "and down when given back");
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn a_failure_ends_its_chain_only() {
    let node = Node::with(&[("net.core.rmem_max", "1"), ("net.ipv4.tcp_rmem", "1 1 1"), ("vm.swappiness", "60")]);
    node.host.fail_writes(sysctl_path("net.core.rmem_max"), Errno::EBUSY, 1);
    let wishes = [("net.core.rmem_max", "9"), ("net.ipv4.tcp_rmem", "1 1 9"), ("vm.swappiness", "10")];
    let pass = node.pass(&wishes).await;
    assert_eq!(pass.failures.len(), 1);
    assert_eq!((node.shows("net.ipv4.tcp_rmem"), node.shows("vm.swappiness")), ("1 1 1".into(), "10".into()));
    node.settle(&wishes).await;
}

#[tokio::test]
async fn a_write_that_reaches_other_keys_takes_one_pass() {
    let node = Node::with(&[
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv4.conf.all.forwarding", "0"),
        ("net.ipv4.conf.eth0.forwarding", "1"),
        ("net.ipv4.conf.eth1.forwarding", "0"),
        ("net.ipv4.conf.all.accept_redirects", "1"),
    ]);
    node.host.on_write(sysctl_path("net.ipv4.ip_forward"), |text, contents| {
        let not = if text == "0" { "1\n" } else { "0\n" };
        contents.insert(sysctl_path("net.ipv4.conf.all.accept_redirects"), not.into());
        for interface in ["all", "eth0", "eth1"] {
            contents.insert(sysctl_path(&format!("net.ipv4.conf.{interface}.forwarding")), format!("{text}\n"));
        }
        Ok(text.to_owned())
    });
    let before = node.host.snapshot();
    let wishes = [("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.eth1.forwarding", "0")];
    let pass = node.settle(&wishes).await;
    assert_eq!(writes(&pass.plan), ["net.ipv4.ip_forward: 0 -> 1", "net.ipv4.conf.eth1.forwarding: 1 -> 0"]);
    let pass = node.settle(&[]).await;
    assert_eq!(node.host.snapshot(), before, "after {:?}", texts(&pass.plan));
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn an_empty_value_empties_a_list() {
    let key = "net.ipv4.ip_local_reserved_ports";
    let node = Node::with(&[(key, "8080,9000-9010")]);
    node.settle(&[(key, "")]).await;
    assert_eq!(node.shows(key), "");
    node.settle(&[]).await;
    assert_eq!(node.shows(key), "8080,9000-9010");
}
