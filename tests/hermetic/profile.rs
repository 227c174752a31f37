//! The profile as its writer meets it: examples, one table of bad documents, bounds, arbitrary text.

mod bad;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;
use trimtab::adapters::profile_file::follow;
use trimtab::profile::{MAX_BYTES, MAX_DEPTH, parse};
use trimtab_domain::allocatable::interrupt::InterruptCpus;
use trimtab_domain::cpu::IsolatedCpus;
use trimtab_domain::masquerade::{Answer, MetadataBlock};
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::spec::ip_masq::{Compat, ConfigSource, OnExit};
use trimtab_domain::spec::sysctls::SysctlPolicy;
use trimtab_domain::spec::{IpMasqSpec, NodeSpec, ResourceManagersSpec};

use self::bad::{BAD, HEAD};

/// Longest wait for something that is expected within milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let profile = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "json");
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(profile).collect()
}

fn spec_of(body: &str) -> NodeSpec {
    let text = format!("{HEAD}{body}");
    parse("p", text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}")).spec
}

fn problems_of(text: &[u8]) -> Vec<String> {
    let rejected = parse("p", text).unwrap_err();
    rejected.diagnostics.iter().map(|problem| problem.to_string().trim_start_matches("p:").to_owned()).collect()
}

#[test]
fn every_example_is_valid_and_warns_of_nothing() {
    let examples = examples();
    assert!(examples.len() >= 5, "{examples:?}");
    for path in examples {
        let text = fs::read(&path).unwrap();
        let profile = parse(&path.to_string_lossy(), &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(profile.warnings, [], "{}", path.display());
    }
}

#[test]
fn an_example_means_the_same_in_yaml_and_in_json() {
    for path in examples() {
        let yaml = fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap().replace("  ", "\t")] {
            let left = parse("yaml", yaml.as_bytes()).unwrap();
            let right = parse("json", json.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{json}"));
            assert_eq!(left.spec, right.spec, "{}", path.display());
        }
    }
}

#[test]
fn the_whole_example_is_read_field_by_field() {
    let path = examples().into_iter().find(|path| path.ends_with("profile.yaml")).unwrap();
    let spec = parse("profile.yaml", &fs::read(path).unwrap()).unwrap().spec;
    assert_eq!(spec.name, "example");
    let expected = [
        ("net.core.somaxconn", "16384"),
        ("net.ipv4.conf.*.rp_filter", "2"),
        ("net.ipv4.conf.eth0/100.rp_filter", "1"),
        ("net.ipv4.ip_local_port_range", "32768 60999"),
        ("net.ipv4.tcp_rmem", "4096 87380 6291456"),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(spec.sysctls.values, expected);
    assert_eq!(spec.sysctls.policy, None);
    assert_eq!(spec.kernel.thp_enabled.as_deref(), Some("madvise"));
    assert_eq!(spec.kernel.thp_defrag.as_deref(), Some("madvise"));
    assert_eq!(spec.kernel.huge_pages, BTreeMap::from([((2 << 20, 0), 16)]));
    assert_eq!(spec.kernel.modules_load, ["br_netfilter"]);
    assert_eq!(spec.kernel.modules_block, ["dccp", "sctp"]);
    assert_eq!(spec.cgroup.driver, Some(CgroupDriver::Systemd));
    let managers = spec.resource_managers.unwrap();
    assert_eq!(managers.cpu_manager_policy, "static");
    assert_eq!(managers.reserved_system_cpus, "0");
    assert_eq!(managers.topology_manager_policy, "best-effort");
    assert_eq!(managers.memory_manager_policy, "Static");
    assert_eq!(managers.reserved_memory[0].limits, BTreeMap::from([("memory".to_owned(), "512Mi".to_owned())]));
    assert_eq!(managers.eviction_hard, BTreeMap::from([("memory.available".to_owned(), "100Mi".to_owned())]));
    let masq = spec.ip_masq.unwrap();
    let prefixes: Vec<String> = masq.non_masquerade_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["10.0.0.0/8", "fd00::/8"]);
    assert!(masq.enable_ipv6 && masq.random_fully && !masq.masq_link_local);
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    assert_eq!(spec_of("  {}\n"), NodeSpec { name: "bad".to_owned(), ..NodeSpec::default() });
    let sections = "  sysctls: {}\n  kernel: {}\n  cgroup: {}\n  resourceManagers: {}\n  ipMasq: {}\n";
    let spec = spec_of(sections);
    assert_eq!(spec.ip_masq, Some(IpMasqSpec::default()));
    assert_eq!(spec.resource_managers, Some(ResourceManagersSpec::default()));
    assert_eq!(spec.sysctls, NodeSpec::default().sysctls);
    let cidrs = |body: &str| spec_of(body).ip_masq.unwrap().non_masquerade_cidrs;
    assert_eq!(cidrs("  ipMasq: {}\n").len(), 3);
    assert_eq!(cidrs("  ipMasq: {nomasqAllReservedRanges: true}\n").len(), 11);
    assert_eq!(cidrs("  ipMasq: {nonMasqueradeCIDRs: []}\n"), []);
    assert_eq!(cidrs("  ipMasq: {nonMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.0/8]}\n").len(), 2);
}

#[test]
fn values_may_be_spelled_in_every_documented_way() {
    let sysctl = |body: &str| {
        let spec = spec_of(&format!("  sysctls:\n    values:\n      {body}\n"));
        let (key, value) = spec.sysctls.values.into_iter().next().unwrap();
        format!("{key} = {value}")
    };
    let rows = [
        ("vm.swappiness: 10", "vm.swappiness = 10"),
        ("vm.swappiness: \"10\"", "vm.swappiness = 10"),
        ("kernel.sched_rt_runtime_us: -1", "kernel.sched_rt_runtime_us = -1"),
        ("fs.file-max: 9223372036854775807", "fs.file-max = 9223372036854775807"),
        ("kernel.shmmax: 18446744073709551615", "kernel.shmmax = 18446744073709551615"),
        ("net.ipv4.tcp_rmem: 4096 87380 6291456", "net.ipv4.tcp_rmem = 4096 87380 6291456"),
        ("net.ipv4.tcp_rmem: [4096, 87380, 6291456]", "net.ipv4.tcp_rmem = 4096 87380 6291456"),
        ("net.ipv4.tcp_congestion_control: bbr", "net.ipv4.tcp_congestion_control = bbr"),
        ("net.ipv4.ip_local_reserved_ports: \"\"", "net.ipv4.ip_local_reserved_ports = "),
        ("net/ipv4/conf/eno2.100/rp_filter: 1", "net.ipv4.conf.eno2/100.rp_filter = 1"),
        ("net.ipv4.conf.eno2/100.rp_filter: 1", "net.ipv4.conf.eno2/100.rp_filter = 1"),
        ("net/ipv4/conf/*/rp_filter: 1", "net.ipv4.conf.*.rp_filter = 1"),
        ("\"net.ipv4.conf.eth[0-9]?.rp_filter\": 1", "net.ipv4.conf.eth[0-9]?.rp_filter = 1"),
        ("\"net.ipv4.conf.veth[!0].rp_filter\": 1", "net.ipv4.conf.veth[!0].rp_filter = 1"),
        ("kernel.core_pattern: \"|/bin/core %p\"", "kernel.core_pattern = |/bin/core %p"),
    ];
    for (body, expected) in rows {
        assert_eq!(sysctl(body), expected, "{body}");
    }
    let ports = |body: &str| spec_of(&format!("  ipMasq: {{toPorts: {body}}}\n")).ip_masq.unwrap().to_ports;
    assert_eq!(ports("\"1024-2047,4000\""), [(1024, 2047), (4000, 4000)]);
    assert_eq!(ports("4000"), [(4000, 4000)]);
    let masq = |body: &str| spec_of(&format!("  ipMasq: {{{body}}}\n")).ip_masq.unwrap();
    assert_eq!(masq("compat: kubernetes-sigs, toPorts: 60000-70000").to_ports, [(60_000, 70_000)]);
    assert_eq!((masq("compat: azure").compat, masq("compat: azure").random_fully), (Some(Compat::Azure), false));
    let directory = masq("configDir: /etc/config, onExit: remove");
    assert_eq!(directory.config, Some(ConfigSource::Directory("/etc/config".into())));
    let maps = masq("configMaps: kubernetes-sigs").config.and_then(|source| source.config_maps());
    assert_eq!((maps, directory.config.and_then(|source| source.config_maps())), (Some(Compat::KubernetesSigs), None));
    assert_eq!(directory.on_exit, OnExit::Remove);
    assert_eq!(masq("resyncInterval: 1m30s").resync_interval, Some(Duration::from_secs(90)));
    let beyond = spec_of(
        "  ipMasq:\n    extensions: {sources: [10.244.0.0/16], exemptPorts: [tcp/443, udp/8000-8999], exemptInterfaces: [wg0], \
         exemptMarks: [0x4000/0x4000, '0x7'], snat: [192.0.2.1-192.0.2.9, 2001:db8::1]}\n",
    );
    let beyond = beyond.ip_masq.unwrap().beyond;
    let exceptions: Vec<String> = beyond.exceptions.iter().map(ToString::to_string).collect();
    let expected = ["tcp/443-443", "udp/8000-8999", "interface wg0", "mark 0x4000/0x4000", "mark 0x7/0xffffffff"];
    assert_eq!((exceptions, beyond.sources.len(), beyond.pools.len()), (expected.map(str::to_owned).to_vec(), 1, 2));
    let block = |body: &str| {
        let text = format!("  ipMasq: {{enableIPv6: true, extensions: {{blockMetadata: {body}}}}}\n");
        spec_of(&text).ip_masq.unwrap().beyond.metadata.unwrap()
    };
    assert_eq!((block("{}").addresses, block("{}").answer), (MetadataBlock::ADDRESSES.to_vec(), Answer::Reject));
    let block = block(
        "{addresses: [192.0.2.1], exceptSources: [10.9.0.0/16], exceptPorts: [udp/53, tcp/80-89], \
         exceptInterfaces: [wg0], answer: drop}",
    );
    assert_eq!((block.addresses.len(), block.except_sources.len(), block.answer), (1, 1, Answer::Drop));
    let ports: Vec<_> =
        block.except_ports.iter().map(|ports| (ports.protocol.as_str(), ports.first, ports.last)).collect();
    assert_eq!((ports, block.except_interfaces), (vec![("udp", 53, 53), ("tcp", 80, 89)], vec!["wg0".to_owned()]));
    let only_v4 = masq("extensions: {blockMetadata: {}}").beyond.metadata.unwrap();
    assert_eq!(only_v4.addresses, MetadataBlock::ADDRESSES[..1]);
    assert_eq!(masq("extensions: {}").beyond.metadata, None, "nothing is on by itself");
    let policy = |word: &str| spec_of(&format!("  sysctls: {{policy: {word}}}\n")).sysctls.policy;
    assert_eq!((policy("aks"), policy("gke")), (Some(SysctlPolicy::Aks), Some(SysctlPolicy::Gke)));
    let managers = |body: &str| spec_of(&format!("  resourceManagers: {{{body}}}\n")).resource_managers.unwrap();
    let beyond =
        managers("extensions: {wideMachines: true, isolatedCPUs: ExclusiveOnly, resizeInPlace: true}").extensions;
    assert!(beyond.wide_machines && beyond.resize_in_place);
    assert_eq!(beyond.isolated_cpus, IsolatedCpus::ExclusiveOnly);
    assert!(managers("").lifts_cpu_quota(), "as kubelets since 1.33");
    assert!(!managers("featureGates: {DisableCPUQuotaWithExclusiveCPUs: false}").lifts_cpu_quota());
    let gate = "featureGates: {DisableCPUQuotaWithExclusiveCPUs: true}";
    let switched =
        managers(&format!("{gate}, extensions: {{liftCPUQuota: false, migrateMemory: true, podAnnotations: true}}"));
    assert!(!switched.lifts_cpu_quota() && switched.extensions.migrate_memory && switched.extensions.pod_annotations);
    let confined = "reservedSystemCPUs: '0', extensions: {confineSystem: [system.slice], interruptCPUs: Reserved}";
    let confinement = managers(confined).confinement;
    assert_eq!(
        (confinement.cgroups, confinement.interrupts),
        (vec!["system.slice".to_owned()], InterruptCpus::Reserved)
    );
    assert_eq!(managers("extensions: {}").extensions, managers("").extensions, "nothing is on by itself");
    let aliased = spec_of("  sysctls:\n    values: {vm.swappiness: &ten 10, vm.dirty_ratio: *ten}\n");
    assert_eq!(aliased.sysctls.values["vm.dirty_ratio"], "10");
    let windows = format!("{HEAD}  cgroup: {{driver: cgroupfs}}\n").replace('\n', "\r\n");
    assert_eq!(parse("p", windows.as_bytes()).unwrap().spec.cgroup.driver, Some(CgroupDriver::Cgroupfs));
}

#[test]
fn each_bad_profile_gets_its_stated_problems() {
    assert!(BAD.len() >= 60, "{}", BAD.len());
    for (name, text, expected) in BAD {
        assert_eq!(problems_of(&text.bytes()), *expected, "{name}");
    }
}

#[tokio::test]
async fn each_bad_profile_leaves_the_one_before_in_force() {
    let scene = tempfile::tempdir().unwrap();
    let path = scene.path().join("profile.yaml");
    fs::write(&path, format!("{HEAD}  sysctls: {{values: {{vm.swappiness: 7}}}}\n")).unwrap();
    let cancel = CancellationToken::new();
    let mut seen = follow(&path, &scene.path().join("state"), cancel.clone());
    let before = seen.borrow_and_update().spec.clone().unwrap();
    for (name, text, expected) in BAD {
        let fresh = scene.path().join("fresh");
        fs::write(&fresh, text.bytes()).unwrap();
        fs::rename(&fresh, &path).unwrap();
        let expected: Vec<String> = expected.iter().map(|line| format!("{}:{line}", path.display())).collect();
        let told = seen.wait_for(|loaded| loaded.report.errors == expected);
        let loaded = tokio::time::timeout(LIMIT, told).await.unwrap_or_else(|_| panic!("{name}")).unwrap().clone();
        assert!(Arc::ptr_eq(loaded.spec.as_ref().unwrap(), &before), "{name}");
        assert_eq!((loaded.report.valid, loaded.report.generation), (false, 1), "{name}");
    }
    cancel.cancel();
}

#[test]
fn a_document_is_bounded_in_size_depth_and_number() {
    let bomb = {
        let mut text = format!("{HEAD}  sysctls:\n    a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
        for level in 1..12 {
            let last = level - 1;
            let aliases = vec![format!("*a{last}"); 10].join(", ");
            text.push_str(&format!("    a{level}: &a{level} [{aliases}]\n"));
        }
        text
    };
    let long = "x".repeat(5000);
    let rows = [
        ("too large", "#".repeat(MAX_BYTES + 1), "1:1: too large: found 1048577 bytes, allowed at most 1048576 bytes"),
        ("brackets", "[".repeat(100_000), "1:33: nested too deeply: found more than 32 levels, allowed at most 32"),
        ("braces", "{a: ".repeat(10_000), "1:129: nested too deeply: found more than 32 levels, allowed at most 32"),
        ("dashes", "- ".repeat(10_000), "1:65: nested too deeply: found more than 32 levels, allowed at most 32"),
        (
            "alias bomb",
            bomb,
            "10:29: too many values: found more than 50000, repetitions by aliases included, allowed at most 50000",
        ),
        (
            "many values",
            format!("{HEAD}  ipMasq: {{nonMasqueradeCIDRs: [{}]}}\n", "1,".repeat(60_000)),
            "5:100003: too many values: found more than 50000, repetitions by aliases included, allowed at most 50000",
        ),
        (
            "long value",
            format!("{HEAD}  sysctls: {{values: {{kernel.core_pattern: {long}}}}}\n"),
            &format!(
                "5:43: spec.sysctls.values.kernel.core_pattern: too long: found \"{}…\", allowed at most 4095 bytes",
                "x".repeat(80)
            ),
        ),
    ];
    assert_eq!(MAX_DEPTH, 32);
    for (name, text, expected) in rows {
        assert_eq!(problems_of(text.as_bytes()), [expected], "{name}");
    }
    assert!(parse("p", format!("{HEAD}  {{}}\n{}", "#".repeat(MAX_BYTES - 200)).as_bytes()).is_ok());
}

#[test]
fn after_a_hundred_problems_the_rest_is_counted() {
    let fields: String = (0..250).map(|n| format!("  field{n}: 1\n")).collect();
    let problems = problems_of(format!("{HEAD}{fields}").as_bytes());
    assert_eq!(problems.len(), 101);
    assert!(problems[0].starts_with("5:3: spec.field0: unknown field"), "{}", problems[0]);
    assert_eq!(problems[100], " more problems: found 150 beyond the first 100");
}

#[test]
fn doubtful_fields_are_accepted_with_a_warning() {
    let warnings = |body: &str| -> Vec<String> {
        let profile = parse("p", format!("{HEAD}{body}").as_bytes()).unwrap();
        profile.warnings.iter().map(ToString::to_string).collect()
    };
    let rows = [
        (
            "  resourceManagers: {featureGates: {MemoryManager: true}}\n",
            "p:5:37: spec.resourceManagers.featureGates.MemoryManager: feature gate MemoryManager is no more: the manager \
             is always there",
        ),
        (
            "  resourceManagers: {topologyManagerPolicyOptions: {max-allowable-numa-nodes: \"16\"}}\n",
            "p:5:79: spec.resourceManagers.topologyManagerPolicyOptions.max-allowable-numa-nodes: more than 8 NUMA nodes: \
             the search for an alignment takes time that grows exponentially: found \"16\"",
        ),
        (
            "  ipMasq: {nomasqAllReservedRanges: true, nonMasqueradeCIDRs: []}\n",
            "p:5:63: spec.ipMasq.nonMasqueradeCIDRs: nomasqAllReservedRanges has no effect where prefixes are listed: \
             found a list of 0, allowed one of the two",
        ),
    ];
    for (body, expected) in rows {
        assert_eq!(warnings(body), [expected], "{body}");
    }
}

/// A text and, where it is refused, problems that lie within it.
fn judged(text: &[u8]) -> Result<(), TestCaseError> {
    let lines = text.split(|byte| matches!(byte, b'\r' | b'\n')).count();
    if let Err(rejected) = parse("p", text) {
        prop_assert!(!rejected.diagnostics.is_empty());
        for problem in rejected.diagnostics {
            prop_assert!(problem.line <= lines, "{problem} in {lines} lines");
            prop_assert!(!problem.message.is_empty());
            prop_assert!(!problem.path.contains(char::is_control), "{problem:?}");
        }
    }
    Ok(())
}

#[test]
fn a_key_with_a_tab_is_named_without_one() {
    judged(b"a\t>: \n  : &%\n  : ").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_judged(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        judged(&text)?;
    }

    #[test]
    fn arbitrary_text_is_judged(text in "\\PC{0,200}") {
        judged(text.as_bytes())?;
    }

    #[test]
    fn text_that_looks_like_yaml_is_judged(text in "([-:?{}\\[\\],&*!|>'\"%@`# \t\r\n~<0-9a-c]|spec|: |- |\n  ){0,120}") {
        judged(text.as_bytes())?;
    }

    #[test]
    fn a_damaged_example_is_judged(which in 0_usize..5, cuts in proptest::collection::vec((any::<u16>(), "\\PC{0,3}"), 1..6)) {
        let mut text = fs::read_to_string(&examples()[which]).unwrap();
        for (place, insert) in cuts {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let at = places[usize::from(place) % places.len()];
            let end = places.iter().copied().find(|next| *next > at).unwrap_or(text.len());
            text.replace_range(at..end, &insert);
        }
        judged(text.as_bytes())?;
    }

    #[test]
    fn a_plain_sysctl_is_read_as_it_was_written(key in "[a-z]{1,9}(\\.[a-z_0-9]{1,9}){1,4}", value in any::<i64>()) {
        let spec = spec_of(&format!("  sysctls: {{values: {{{key}: {value}}}}}\n"));
        prop_assert_eq!(spec.sysctls.values, BTreeMap::from([(key, value.to_string())]));
    }
}
