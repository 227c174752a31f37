//! Rules of others in nftables that translate sources before ours: found on the real kernel, with each back end.

use std::process::Command;
use std::sync::Arc;

use trimtab::adapters::iptables::{Iptables, SEARCH_PATH};
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::masquerade::Masquerade;
use trimtab_domain::plan::Severity;
use trimtab_domain::spec::ip_masq::{BackendWish, ClusterNetworks};
use trimtab_domain::spec::{IpMasqSpec, NodeSpec};

use crate::laws;
use crate::support::fake_ledger::FakeLedger;
use crate::support::fake_masq_config::FakeMasqConfig;
use crate::support::namespace::{Mounts, cannot_run, in_fresh_namespaces};
use crate::support::tables::run;

/// A table that comes before ours in both back ends, with these rules in the chain that it leads to.
fn table(family: &str, priority: i32, rules: &str) -> String {
    format!(
        "table {family} others {{ chain inner {{ {rules}; }}\n chain post {{ type nat hook postrouting priority {priority}; \
         oifname != \"lo\" jump inner; }}\n }}"
    )
}

#[test]
fn what_others_translate_first_is_told_by_whom_it_concerns() {
    let pods = "ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade";
    let bytes = "ip saddr 10.244.8.0/24 oifname \"eth0\" snat to 192.0.2.1";
    let odd = "ip saddr 10.244.3.0/28 masquerade random";
    let v6 = "ip6 saddr fd00:10::/48 masquerade";
    let kube_proxy = "meta mark & 0x4000 == 0 return\n meta mark set meta mark xor 0x4000\n masquerade fully-random";
    type Found = (&'static str, Severity);
    let rows: [(&str, String, &[Found]); 10] = [
        ("a CNI's", table("ip", 90, pods), &[("ipv4", Severity::Warning)]),
        ("a prefix of whole bytes, SNAT", table("ip", 90, bytes), &[("ipv4", Severity::Warning)]),
        ("a prefix of some bits", table("ip", 90, odd), &[("ipv4", Severity::Warning)]),
        ("inet", table("inet", -5, pods), &[("ipv4", Severity::Warning)]),
        ("IPv6", table("ip6", 90, v6), &[("ipv6", Severity::Warning)]),
        ("everything", table("ip", 90, "counter masquerade"), &[("ipv4", Severity::Warning)]),
        ("others' sources", table("ip", 90, "ip saddr 192.168.122.0/24 masquerade"), &[("ipv4", Severity::Info)]),
        ("only what bears a mark", table("ip", 90, kube_proxy), &[]),
        ("DNAT and accept", table("ip", 90, "ip saddr 10.244.0.0/16 accept"), &[]),
        ("later than ours", table("ip", 111, pods), &[]),
    ];
    in_fresh_namespaces(Mounts::Inherited, || {
        if Command::new("nft").arg("--version").output().is_err() {
            return cannot_run("there is no program nft to play the others");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for backend in [BackendWish::Nftables, BackendWish::IptablesNft, BackendWish::IptablesLegacy] {
            let (nat, files) = (Arc::new(Iptables::new(SEARCH_PATH)), Arc::new(FakeMasqConfig::new()));
            let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), files);
            let pods = ["10.244.0.0/16", "fd00:10::/32"].map(|network| network.parse().unwrap()).into();
            let cluster = ClusterNetworks { pods, ..ClusterNetworks::default() };
            let spec = IpMasqSpec { backend, enable_ipv6: true, cluster, ..IpMasqSpec::default() };
            let spec = NodeSpec { ip_masq: Some(spec), ..NodeSpec::default() };
            for (name, text, expected) in &rows {
                run("nft", &["flush", "ruleset"]);
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), text).unwrap();
                run("nft", &["-f", file.path().to_str().unwrap()]);
                // As at a resync: in between nobody looks.
                subsystem.forget_rejections();
                let plan = runtime.block_on(laws::dry_run(&subsystem, &spec));
                let found = plan.findings.iter().filter(|finding| finding.code == "masquerade-decided-earlier");
                let found: Vec<_> =
                    found.map(|finding| (finding.object.split('/').next().unwrap(), finding.severity)).collect();
                assert_eq!(found, *expected, "{backend:?}, {name}: {:?}", plan.findings);
            }
        }
        // What iptables-nft holds is others' too, where ours is a table of our own.
        run("nft", &["flush", "ruleset"]);
        run("iptables-nft", &["-t", "nat", "-A", "POSTROUTING", "-s", "10.244.0.0/16", "-j", "MASQUERADE"]);
        let (nat, files) = (Arc::new(Iptables::new(SEARCH_PATH)), Arc::new(FakeMasqConfig::new()));
        let subsystem = Masquerade::new(nat, Arc::new(FakeLedger::new()), files);
        let spec = IpMasqSpec { backend: BackendWish::Nftables, ..IpMasqSpec::default() };
        let spec = NodeSpec { ip_masq: Some(spec), ..NodeSpec::default() };
        let plan = runtime.block_on(laws::dry_run(&subsystem, &spec));
        let told = plan.findings.iter().find(|finding| finding.code == "masquerade-decided-earlier").unwrap();
        assert!(
            told.message.contains("for sources in 10.244.0.0/16, reached from ip nat POSTROUTING"),
            "{}",
            told.message
        );
    });
}
