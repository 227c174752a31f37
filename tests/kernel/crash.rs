//! SIGKILL at random points: no original value is lost, no CPU is given twice, one pass converges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trimtab_domain::cpuset::CpuSet;

use crate::support::namespace::{Mounts, in_fresh_namespaces};
use crate::support::node::{Node, nat, read};

const CRASHES: u32 = 200;
const KEYS: [&str; 6] = [
    "net/core/somaxconn",
    "net/core/rmem_default",
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_rmem",
    "net/ipv4/ip_local_port_range",
];

/// A profile with values of its own, or without some sections.
fn profile(number: u32) -> String {
    let head = "apiVersion: trimtab.dev/v1alpha1\nkind: NodeProfile\nmetadata: {name: crash}\nspec:\n";
    let sysctls = format!(
        "  sysctls:\n    values:\n      net.core.somaxconn: {}\n      net.core.rmem_default: {}\n      net.ipv4.tcp_keepalive_time: {}\n      net.ipv4.tcp_fin_timeout: {}\n      net.ipv4.tcp_rmem: [4096, 131072, {}]\n      net.ipv4.ip_local_port_range: '{} 60999'\n",
        5000 + number,
        213_000 + number,
        100 + number,
        20 + number % 30,
        6_000_000 + number,
        20_000 + number,
    );
    let blocked = format!("  kernel: {{modules: {{block: [dccp, module{number}]}}}}\n");
    let pinning = "  resourceManagers: {cpuManagerPolicy: static, reservedSystemCPUs: '0'}\n";
    let rules = format!("  ipMasq: {{enableIPv6: true, nonMasqueradeCIDRs: [10.{}.0.0/16]}}\n", number % 250);
    match number % 4 {
        0 => format!("{head}{sysctls}{blocked}{pinning}{rules}"),
        1 => format!("{head}{sysctls}{rules}"),
        2 => format!("{head}{pinning}{blocked}"),
        _ => format!("{head}{blocked}{sysctls}{pinning}"),
    }
}

fn sysctls() -> BTreeMap<&'static str, String> {
    KEYS.into_iter().map(|key| (key, read(format!("/proc/sys/{key}")))).collect()
}

#[test]
fn two_hundred_crashes_lose_nothing() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    eprintln!("seed {seed}");
    in_fresh_namespaces(Mounts::Inherited, || {
        let Some(node) = Node::new() else { return };
        crash_and_recover(node, &mut StdRng::seed_from_u64(seed));
    });
}

fn crash_and_recover(mut node: Node, random: &mut StdRng) {
    node.pods.make("kubepods/poda");
    node.pods.make("kubepods/burstable/podb");
    let exclusive = node.pods.container("kubepods/poda", 1, "app", Some(1));
    let shared = node.pods.container("kubepods/burstable/podb", 2, "app", None);
    let before = (sysctls(), nat(), node.pods.cpusets());
    let mut survived = 0;
    for crash in 0..CRASHES {
        node.write_profile(&profile(random.random_range(0..1000)));
        let command = if random.random_ratio(1, 5) { "rollback" } else { "apply" };
        let mut child = node
            .command(command, &[])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The random moment of the crash; nothing is waited for.
        std::thread::sleep(Duration::from_micros(random.random_range(0..80_000)));
        child.kill().unwrap();
        survived += u32::from(child.wait().unwrap().success());
        let sets = (node.pods.allowed(&exclusive), node.pods.allowed(&shared));
        let (one, two) = (CpuSet::parse(&sets.0).unwrap(), CpuSet::parse(&sets.1).unwrap());
        let all = CpuSet::parse(&read("/sys/devices/system/cpu/online")).unwrap();
        // Never a narrow set that the other may use too: either nothing is pinned yet, or nothing overlaps.
        assert!(one == all || one.intersection(&two).is_empty(), "crash {crash}: {sets:?}");
    }
    assert!(survived < CRASHES, "no run was cut short");
    eprintln!("{survived} of {CRASHES} runs had ended before the signal came");

    node.write_profile(&profile(0));
    let (code, text) = node.once("apply", &[]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = node.once("plan", &[]);
    assert_eq!(code, Some(0), "one pass converges: {text}");
    assert_eq!(sysctls()["net/core/somaxconn"], "5000");
    if before.2.len() > 2 && node.pods.allowed(&shared) != node.pods.allowed(&exclusive) {
        assert_eq!(node.pods.allowed(&exclusive).parse::<u32>().ok().map(|cpu| cpu > 0), Some(true));
    }
    let (code, text) = node.once("rollback", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!((sysctls(), nat(), node.pods.cpusets()), before, "every original is back");
    let left: BTreeSet<String> = fs::read_dir(node.host().join("etc/modprobe.d"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
