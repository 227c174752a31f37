//! Clusters of many shapes, and the kernel's tables of routes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::spec::ip_masq::ClusterNetworks;

fn networks(list: &str) -> Vec<IpNet> {
    list.split_ascii_whitespace().map(|text| text.parse().unwrap()).collect()
}

/// Severities and codes found for these networks, each a list separated by blanks: exempt; pods, services, nodes;
/// connected.
fn found(exempt: &str, cluster: [&str; 3], overlay: bool, connected: &str) -> Vec<(Severity, &'static str)> {
    let [pods, services, nodes] = cluster.map(networks);
    let spec = IpMasqSpec {
        non_masquerade_cidrs: networks(exempt),
        cluster: ClusterNetworks { pods, services, nodes, overlay },
        enable_ipv6: true,
        ..IpMasqSpec::default()
    };
    let connected = networks(connected).into_iter();
    let connected: Vec<_> = connected.map(|network| Connected { interface: "eth0".into(), network }).collect();
    preflight(&spec, &connected).into_iter().map(|finding| (finding.severity, finding.code)).collect()
}

#[test]
fn nothing_is_said_of_a_cluster_that_fits_or_is_not_known() {
    let rows = [
        ("all known, all exempt", "10.0.0.0/8", ["10.244.0.0/16", "10.96.0.0/12", "10.1.0.0/24"], false, "10.1.0.0/24"),
        ("nothing known", "10.0.0.0/8", ["", "", ""], true, "10.1.0.0/24"),
        ("the bridge of the pods is no overlap", "10.0.0.0/8", ["10.244.0.0/16", "", ""], false, "10.244.3.0/24"),
        (
            "an overlay with its own ranges alone",
            "10.244.0.0/16 fd00::/48",
            ["10.244.0.0/16 fd00::/48", "", ""],
            true,
            "",
        ),
    ];
    for (name, exempt, cluster, overlay, connected) in rows {
        assert_eq!(found(exempt, cluster, overlay, connected), [], "{name}");
    }
}

#[test]
fn what_would_break_connections_is_found_before_anything_is_written() {
    use Severity::{Error, Info, Warning};
    let pods = found("10.0.0.0/8", ["100.64.0.0/16 fd00::/48", "", ""], false, "");
    assert_eq!(pods, [(Warning, "masquerade-pods-masqueraded"); 2], "one in each family");
    let flat = found("10.0.0.0/8", ["10.1.4.0/22", "", ""], false, "10.1.0.0/16");
    assert_eq!(flat, [(Warning, "masquerade-pod-range-connected")]);
    let on_the_nodes_range = found("10.1.4.0/22", ["10.1.4.0/22", "", ""], true, "10.1.0.0/16");
    assert_eq!(on_the_nodes_range, [(Error, "masquerade-pod-range-connected")]);
    let wider = found("10.0.0.0/8 192.168.0.0/16", ["10.244.0.0/16", "", "192.168.0.0/16"], true, "");
    assert_eq!(wider, [(Warning, "masquerade-leaves-overlay")]);
    let others = found("10.244.0.0/16", ["10.244.0.0/16", "10.96.0.0/12", "10.1.0.0/24"], false, "");
    assert_eq!(others, [(Info, "masquerade-nodes-masqueraded"), (Info, "masquerade-services-masqueraded")]);
}

#[test]
fn connected_networks_are_read_from_the_kernels_tables() {
    let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
              eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
              eth0\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
              eth1\t0000020A\t0100000A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\nnonsense\n";
    if cfg!(target_endian = "little") {
        let found = Connected::parse_v4(v4);
        assert_eq!(found, [Connected { interface: "eth0".into(), network: "10.1.0.0/16".parse().unwrap() }]);
    }
    let v6 = "fd000010000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
              fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
              fd000010000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001     eth0\n\
              00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000010000000000000000000000002 00000400 00000001 00000000 00000003     eth0\n";
    let found = Connected::parse_v6(v6);
    assert_eq!(found, [Connected { interface: "eth0".into(), network: "fd00:10::/64".parse().unwrap() }]);
}
