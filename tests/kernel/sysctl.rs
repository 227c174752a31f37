//! The subsystem `sysctl` on the real kernel, in a fresh network namespace. What the hermetic double models is proven
//! here once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use trimtab::adapters::host_fs::HostFs;
use trimtab::ports::HostFiles;
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::sysctl::Sysctl;
use trimtab_domain::plan::{Plan, Refusal};
use trimtab_domain::record::Record;
use trimtab_domain::spec::{NodeSpec, SysctlsSpec};
use trimtab_domain::sysctl::step::SysctlStep;

use crate::laws::{Fixture, Pass, dry_run, pass, prove_five_laws, texts};
use crate::support::fake_ledger::FakeLedger;
use crate::support::namespace::{Mounts, cannot_run, in_fresh_namespaces, in_user_namespace};

/// The subsystem on this thread's network namespace.
struct Node {
    ledger: FakeLedger,
    subsystem: Sysctl<HostFs, FakeLedger>,
}

impl Node {
    fn new() -> Self {
        let (host, ledger) = (HostFs::new(Path::new("/")).unwrap(), FakeLedger::new());
        Self { subsystem: Sysctl::new(Arc::new(host), Arc::new(ledger.clone())), ledger }
    }

    fn pass(&self, values: &[(&str, &str)]) -> Pass<SysctlStep> {
        run(pass(&self.subsystem, &spec(values)))
    }

    fn settle(&self, values: &[(&str, &str)]) -> Pass<SysctlStep> {
        let pass = self.pass(values);
        let failures: Vec<&String> = pass.failures.iter().map(|(_, cause)| cause).collect();
        assert!(failures.is_empty() && pass.left.is_empty(), "failures {failures:?}, left {:?}", texts(&pass.left));
        pass
    }
}

/// A runtime of one thread, so that every file is opened in this thread's network namespace.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn spec(values: &[(&str, &str)]) -> NodeSpec {
    let values = values.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    NodeSpec { sysctls: SysctlsSpec { values, policy: None }, ..NodeSpec::default() }
}

fn shows(path: &str) -> String {
    fs::read_to_string(Path::new("/proc/sys").join(path)).unwrap().trim().to_owned()
}

fn writes(plan: &Plan<SysctlStep>) -> Vec<String> {
    texts(plan).into_iter().filter(|text| !text.starts_with("ledger")).collect()
}

fn causes(refusals: &[Refusal]) -> Vec<(&str, &str)> {
    refusals.iter().map(|refusal| (refusal.object.as_str(), refusal.cause.as_str())).collect()
}

/// An interface whose name has a dot, and its peer.
fn add_interface(name: &str, peer: &str) -> bool {
    let added = Command::new("ip").args(["link", "add", name, "type", "veth", "peer", "name", peer]).output();
    match added {
        Ok(output) if output.status.success() => return true,
        Ok(output) => cannot_run(&format!("no veth: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => cannot_run(&format!("iproute2 is not installed: {error}")),
    }
    false
}

/// Every readable key of the namespace's IPv4 and IPv6 settings, but for counters and what the kernel computes anew.
fn namespace_keys() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec!["net/ipv4".to_owned(), "net/ipv6".to_owned(), "net/core".to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(Path::new("/proc/sys").join(&directory)).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                directories.push(name);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                found.insert(name, text);
            }
        }
    }
    found
}

struct Lawful {
    node: Node,
    before: BTreeMap<String, String>,
}

impl Fixture for Lawful {
    type Sub = Sysctl<HostFs, FakeLedger>;
    type State = (BTreeMap<String, String>, BTreeMap<(String, String), Record>);

    fn subsystem(&self) -> &Self::Sub {
        &self.node.subsystem
    }

    fn spec(&self) -> NodeSpec {
        spec(&[
            ("net.core.somaxconn", "1024"),
            ("net/ipv4/tcp_rmem", "4096 87380 4194304"),
            ("net.ipv4.conf.*.rp_filter", "2"),
            ("net.ipv4.conf.lo.rp_filter", "1"),
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv4.conf.lo.forwarding", "0"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.ip_unprivileged_port_start", "1000"),
            ("net.ipv4.ip_local_port_range", "1024 2048"),
            ("net.ipv4.ip_local_reserved_ports", "1500,1501,1700"),
            ("net.ipv4.ipfrag_high_thresh", "2000000"),
            ("net.ipv4.ipfrag_low_thresh", "1000000"),
        ])
    }

    fn state(&self) -> Self::State {
        (namespace_keys(), self.node.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        None
    }

    fn drift(&self) {
        fs::write("/proc/sys/net/core/somaxconn", "7").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "0").unwrap();
        fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "1700").unwrap();
    }

    fn break_one(&self) -> Option<String> {
        // No key of the kernel fails for a while; the double does.
        None
    }

    fn repair(&self) {}
}

/// Puts back what a law left behind, for the laws share this test's namespace. Several rounds, because the kernel
/// takes some keys in one order only.
impl Drop for Lawful {
    fn drop(&mut self) {
        for _ in 0..3 {
            let now = namespace_keys();
            for (key, value) in self.before.iter().filter(|(key, value)| now.get(*key) != Some(value)) {
                let _rejected = fs::write(Path::new("/proc/sys").join(key), value);
            }
        }
    }
}

#[test]
fn the_five_laws_hold() {
    in_fresh_namespaces(Mounts::Inherited, || {
        run(prove_five_laws(|| Lawful { node: Node::new(), before: namespace_keys() }));
    });
}

#[test]
fn order_dependent_keys_are_raised_and_lowered_without_an_error() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let node = Node::new();
        let (start, range) = ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_port_range");
        let (low, high) = ("net.ipv4.ipfrag_low_thresh", "net.ipv4.ipfrag_high_thresh");
        for (start_at, ports, low_at, high_at) in [
            ("40000", "50000 60000", "8000000", "9000000"),
            ("1000", "2000 3000", "1000000", "2000000"),
            ("30000", "30000 40000", "2000000", "2000000"),
        ] {
            // The kernel rejects each of these in the other order.
            node.settle(&[(start, start_at), (range, ports), (low, low_at), (high, high_at)]);
            assert_eq!(shows("net/ipv4/ip_local_port_range"), ports.replace(' ', "\t"));
            assert_eq!(shows("net/ipv4/ipfrag_low_thresh"), low_at);
        }
        node.settle(&[]);
        assert_eq!(shows("net/ipv4/ip_unprivileged_port_start"), "1024");
    });
}

#[test]
fn what_the_kernel_says_is_what_the_double_says() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let files = HostFs::new(Path::new("/")).unwrap();
        let read = |path: &str| files.read(Path::new(path));
        assert_eq!(read("/proc/sys/net/ipv4/tcp_syncookies").unwrap().as_deref(), Some("1\n"), "a line feed");
        assert!(read("/proc/sys/net/ipv4/tcp_rmem").unwrap().unwrap().contains('\t'), "tabs");
        assert_eq!(read("/proc/sys/net/core/no_such_key").unwrap(), None);
        let mode = files.mode(Path::new("/proc/sys/net/core/rmem_max")).unwrap().unwrap();
        assert!(mode.readable && !mode.writable && !mode.may_write, "read-only outside the host's namespace");
        let mode = files.mode(Path::new("/proc/sys/net/ipv4/route/flush")).unwrap().unwrap();
        assert!(!mode.readable && mode.writable);
        assert!(read("/proc/sys/net/ipv6/conf/all/stable_secret").is_err(), "a value that was never set");
        assert!(read("/proc/sys/net/core").is_err(), "a directory");
        let write = |key: &str, value: &str| {
            files.write(&Path::new("/proc/sys/net").join(key), value).map_err(|error| error.source.raw_os_error())
        };
        let (einval, enoent) = (Some(22), Some(2));
        assert_eq!(write("ipv4/ip_local_port_range", "60000 1024"), Err(einval));
        assert_eq!(write("ipv4/tcp_congestion_control", "nonsense"), Err(enoent));
        assert_eq!(write("core/somaxconn", "+5"), Err(einval));
        assert_eq!(write("core/somaxconn", "010"), Ok(()));
        assert_eq!(read("/proc/sys/net/core/somaxconn").unwrap().as_deref(), Some("8\n"), "octal");
        assert_eq!(write("core/somaxconn", "0x10"), Ok(()));
        assert_eq!(read("/proc/sys/net/core/somaxconn").unwrap().as_deref(), Some("16\n"));
        assert_eq!(write("ipv4/ip_local_reserved_ports", "9000,9001"), Ok(()));
        assert_eq!(read("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap().as_deref(), Some("9000-9001\n"));
        assert_eq!(write("ipv4/ip_local_reserved_ports", "\n"), Ok(()));
        assert_eq!(read("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap().as_deref(), Some("\n"));
    });
}

#[test]
fn wishes_that_the_kernel_does_not_grant_are_refused() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let node = Node::new();
        let wishes = [
            ("net.core.somaxconn", "2048"),
            ("net.core.rmem_max", "7"),
            ("net.core.no_such_key", "1"),
            ("net.ipv4.conf.eth77.rp_filter", "1"),
            ("net.ipv4.ip_local_port_range", "60000 1024"),
            ("net.ipv4.tcp_congestion_control", "nonsense"),
            ("net.ipv4.route.flush", "1"),
            ("net.ipv6.conf.all.stable_secret", "::1"),
            ("net.core", "1"),
        ];
        for _ in 0..2 {
            let pass = node.pass(&wishes);
            assert!(pass.failures.is_empty() && pass.left.is_empty(), "{:?}", texts(&pass.left));
            assert_eq!(
                causes(&pass.left.refusals),
                [
                    ("net.core", "unsupported"),
                    ("net.core.no_such_key", "absent"),
                    ("net.core.rmem_max", "read-only"),
                    ("net.ipv4.conf.eth77.rp_filter", "absent"),
                    ("net.ipv4.ip_local_port_range", "invalid-value"),
                    ("net.ipv4.route.flush", "unsupported"),
                    ("net.ipv4.tcp_congestion_control", "invalid-value"),
                    ("net.ipv6.conf.all.stable_secret", "unsupported"),
                ]
            );
        }
        assert_eq!(shows("net/core/somaxconn"), "2048");
        node.settle(&[]);
        assert!(node.ledger.snapshot().is_empty());
    });
}

#[test]
fn interfaces_are_found_when_they_appear_and_their_dots_are_no_separators() {
    in_fresh_namespaces(Mounts::Inherited, || {
        let node = Node::new();
        let wishes =
            [("net.ipv4.conf.*.rp_filter", "2"), ("net.ipv4.conf.v0/7.rp_filter", "1"), ("net.ipv4.ip_forward", "1")];
        node.settle(&wishes);
        if !add_interface("v0.7", "v1") {
            return;
        }
        fs::write("/proc/sys/net/ipv4/conf/v1/rp_filter", "0").unwrap();
        let pass = node.settle(&wishes);
        let expected = ["net.ipv4.conf.v0/7.rp_filter: 2 -> 1", "net.ipv4.conf.v1.rp_filter: 0 -> 2"];
        assert_eq!(writes(&pass.plan), expected);
        assert_eq!(shows("net/ipv4/conf/v0.7/rp_filter"), "1");
        assert!(Command::new("ip").args(["link", "del", "v1"]).status().unwrap().success());
        let pass = node.settle(&wishes);
        assert_eq!(texts(&pass.plan), ["ledger: forget net.ipv4.conf.v1.rp_filter (gone)"]);
        assert_eq!(causes(&pass.left.refusals), [("net.ipv4.conf.v0/7.rp_filter", "absent")]);
    });
}

#[test]
fn forwarding_of_single_interfaces_survives_a_round_trip() {
    in_fresh_namespaces(Mounts::Inherited, || {
        if !add_interface("v0", "v1") {
            return;
        }
        fs::write("/proc/sys/net/ipv4/conf/v0/forwarding", "1").unwrap();
        let before = namespace_keys();
        let node = Node::new();
        let pass = node.settle(&[("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.v1.forwarding", "0")]);
        let expected = ["net.ipv4.ip_forward: 0 -> 1", "net.ipv4.conf.v1.forwarding: 1 -> 0"];
        assert_eq!(writes(&pass.plan), expected);
        node.settle(&[]);
        let after = namespace_keys();
        let changed: Vec<_> = before.iter().filter(|(key, value)| after.get(*key) != Some(value)).collect();
        assert!(changed.is_empty(), "not as before: {changed:?}");
    });
}

#[test]
fn a_rootless_node_gets_refusals_and_no_failure() {
    in_user_namespace("sysctl::a_rootless_node_gets_refusals_and_no_failure", || {
        let node = Node::new();
        let wishes = [
            ("vm.swappiness", "1"),
            ("kernel.pid_max", "100000"),
            ("fs.file-max", "8192"),
            ("net.core.somaxconn", "1024"),
        ];
        let before = shows("vm/swappiness");
        let pass = node.pass(&wishes);
        assert!(pass.failures.is_empty() && pass.left.is_empty(), "{:?}", texts(&pass.left));
        let expected =
            [("fs.file-max", "not-permitted"), ("kernel.pid_max", "not-permitted"), ("vm.swappiness", "not-permitted")];
        assert_eq!(causes(&pass.left.refusals), expected);
        assert_eq!((shows("vm/swappiness"), shows("net/core/somaxconn")), (before, "1024".into()));
        let objects: Vec<String> = node.ledger.snapshot().into_keys().map(|(_, object)| object).collect();
        assert_eq!(objects, ["net.core.somaxconn"], "what cannot be written is not promised");
    });
}

#[test]
fn a_read_only_proc_sys_gets_refusals_and_no_failure() {
    use nix::mount::{MsFlags, mount};
    in_fresh_namespaces(Mounts::Inherited, || {
        let (none, path): (Option<&str>, _) = (None, "/proc/sys");
        mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
        mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
        let node = Node::new();
        let plan = run(dry_run(&node.subsystem, &spec(&[("net.core.somaxconn", "77"), ("vm.swappiness", "1")])));
        assert!(plan.is_empty());
        assert_eq!(
            causes(&plan.refusals),
            [("net.core.somaxconn", "not-permitted"), ("vm.swappiness", "not-permitted")]
        );
    });
}

#[test]
fn the_kernel_announces_a_write_to_a_held_key() {
    use inotify::{Inotify, WatchMask};
    use trimtab::ports::Watch;
    in_fresh_namespaces(Mounts::Inherited, || {
        let node = Node::new();
        let spec = spec(&[("net.core.somaxconn", "1024")]);
        node.settle(&[("net.core.somaxconn", "1024")]);
        let seen = run(node.subsystem.observe(&spec.sysctls)).unwrap();
        let watches = Sysctl::<HostFs, FakeLedger>::watches(&spec.sysctls, &seen);
        let [Watch::File(path)] = watches.as_slice() else { panic!("{watches:?}") };
        let mut inotify = Inotify::init().unwrap();
        inotify.watches().add(path, WatchMask::MODIFY).unwrap();
        fs::write("/proc/sys/net/core/somaxconn", "7").unwrap();
        let mut buffer = [0; 1024];
        // Without an event this is WouldBlock: the kernel queues it before the write returns.
        assert_eq!(inotify.read_events(&mut buffer).unwrap().count(), 1);
    });
}

#[test]
fn the_kernel_announces_an_interface_once_its_keys_are_there() {
    use std::time::Duration;
    use trimtab::adapters::links::LinkChanges;
    in_fresh_namespaces(Mounts::Inherited, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut changes = LinkChanges::open().unwrap();
            if !add_interface("v0", "v1") {
                return;
            }
            tokio::time::timeout(Duration::from_secs(5), changes.next()).await.expect("no event").unwrap();
            assert!(Path::new("/proc/sys/net/ipv4/conf/v0/rp_filter").exists());
            assert!(Path::new("/proc/sys/net/ipv6/conf/v0/accept_ra").exists());
            assert!(Command::new("ip").args(["link", "del", "v0"]).status().unwrap().success());
            tokio::time::timeout(Duration::from_secs(5), changes.next()).await.expect("no event").unwrap();
        });
    });
}
