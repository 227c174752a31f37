//! A real sysctl that cuts the node off from a real listener, taken back by the program itself, and after its death.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::namespace::{Mounts, in_fresh_namespaces};
use crate::support::node::{Agent, Node, metric, read, run};
use crate::support::world::{Host, PORT};

const STRICT: &str = "/proc/sys/net/ipv4/conf/all/rp_filter";
const KEEPALIVE: &str = "/proc/sys/net/ipv4/tcp_keepalive_time";
const CONFIRMED: &str = "trimtab_risky_changes_total{subsystem=\"sysctl\",result=\"confirmed\"}";
const TAKEN_BACK: &str = "trimtab_risky_changes_total{subsystem=\"sysctl\",result=\"taken-back\"}";
const ON_TRIAL: &str = "trimtab_change_on_trial{subsystem=\"sysctl\"}";

/// A listener two links away: packets to it take one, its answers the other. A strict reverse path filter
/// (ip-sysctl.rst, `rp_filter` of 1) drops these answers.
fn peer() -> Host {
    let mut peer = Host::new().unwrap();
    let thread = peer.thread_id().to_string();
    for (number, link) in [(1, "one"), (2, "two")] {
        let far = format!("{link}-far");
        run("ip", &["link", "add", link, "type", "veth", "peer", "name", &far]);
        run("ip", &["link", "set", &far, "netns", &thread]);
        run("ip", &["addr", "add", &format!("10.1.{number}.1/24"), "dev", link]);
        run("ip", &["link", "set", link, "up"]);
        peer.shell(&format!("ip addr add 10.1.{number}.2/24 dev {far}"));
        peer.shell(&format!("ip link set {far} up"));
        fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "0").unwrap();
        peer.run(move || fs::write(format!("/proc/sys/net/ipv4/conf/{far}/rp_filter"), "0").unwrap());
    }
    fs::write(STRICT, "0").unwrap();
    peer.run(|| fs::write(STRICT, "0").unwrap());
    run("ip", &["addr", "add", "10.8.8.8/32", "dev", "lo"]);
    run("ip", &["route", "add", "10.9.9.9/32", "via", "10.1.1.2", "src", "10.8.8.8"]);
    for command in ["ip link set lo up", "ip addr add 10.9.9.9/32 dev lo", "ip route add 10.8.8.8/32 via 10.1.2.1"] {
        peer.shell(command);
    }
    peer.serve();
    peer
}

fn profile(strict: u32, keepalive: u32, deadline: u32) -> String {
    format!(
        "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {{name: test}}\nspec:\n  sysctls:\n    values:\n      \
         net.ipv4.conf.all.rp_filter: {strict}\n      net.ipv4.tcp_keepalive_time: {keepalive}\n  confirm:\n    \
         deadlineSeconds: {deadline}\n    probes: [{{tcp: '10.9.9.9:{PORT}'}}]\n"
    )
}

/// Whether the listener answers within a while.
fn is_reached() -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connect = tokio::net::TcpStream::connect(format!("10.9.9.9:{PORT}"));
        tokio::time::timeout(Duration::from_secs(2), connect).await.is_ok_and(|connected| connected.is_ok())
    })
}

fn values() -> [String; 2] {
    [STRICT, KEEPALIVE].map(read)
}

fn until_values(agent: &mut Agent, what: &str, expected: [&str; 2]) {
    agent.until(what, || values() == expected);
}

#[test]
fn a_sysctl_that_cuts_the_node_off_is_taken_back_by_the_agent_and_after_its_death_by_the_next() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let Some(node) = Node::new() else { return };
        let _peer = peer();
        node.write_profile(&profile(0, 601, 5));
        let mut agent = node.start_ready();
        agent.until("the first profile is confirmed", || metric(CONFIRMED) == Some(1.0));
        assert_eq!((values(), is_reached()), (["0".to_owned(), "601".to_owned()], true));

        node.write_profile(&profile(1, 602, 5));
        agent.until("taken back", || metric(TAKEN_BACK) == Some(1.0));
        until_values(&mut agent, "what was there before", ["0", "601"]);
        assert!(is_reached());
        assert!(agent.log().contains(&format!("tcp 10.9.9.9:{PORT} could be reached before")), "{}", agent.log());

        // It dies in the window: soon after the change, and long before the next one starts.
        for (is_long_ago, keepalive) in [(false, 603), (true, 604)] {
            node.write_profile(&profile(1, keepalive, if is_long_ago { 3600 } else { 10 }));
            agent.until("on trial", || metric(ON_TRIAL) == Some(1.0) && read(KEEPALIVE) == keepalive.to_string());
            assert!(!is_reached(), "the change does cut off");
            agent.kill();
            assert_eq!(values(), ["1".to_owned(), keepalive.to_string()], "nobody is there to take it back");
            let file = node.path("state/trial-sysctl.json");
            if is_long_ago {
                let mut written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
                let since = &mut written["newest"]["stage"]["pending"]["since"];
                *since = (since.as_u64().unwrap() - 4000).into();
                fs::write(&file, written.to_string()).unwrap();
            }
            agent = node.start();
            until_values(&mut agent, "taken back after a death", ["0", "601"]);
            assert!(is_reached());
        }
        node.write_profile(&profile(0, 605, 5));
        until_values(&mut agent, "another profile is held again", ["0", "605"]);
        agent.until("and confirmed", || metric(CONFIRMED).is_some_and(|count| count >= 1.0));
        assert_eq!(agent.terminate(), Some(0));
    });
}
