//! Interrupts that may be moved, and those that may not.

use nix::errno::Errno;
use trimtab::ports::Watch;
use trimtab::reconcile::Subsystem;
use trimtab::subsystems::allocatable::Allocatable;
use trimtab_domain::allocatable::interrupt::InterruptCpus;
use trimtab_domain::spec::ResourceManagersSpec;

use super::{Node, causes, changes, confining};

fn spec(interrupts: InterruptCpus) -> ResourceManagersSpec {
    let mut spec = confining(&[]);
    spec.confinement.interrupts = interrupts;
    spec
}

/// Two that move, one on good CPUs already, one that the kernel places itself.
fn node() -> Node {
    let node = Node::v2();
    node.host.file("/proc/irq/default_smp_affinity", "ff\n");
    for (number, cpus) in [(24, "0-7"), (25, "6"), (26, "4"), (30, "5")] {
        node.host.file(format!("/proc/irq/{number}/smp_affinity_list"), format!("{cpus}\n"));
    }
    node.host.on_write("/proc/irq/30/smp_affinity_list", |_, _| Err(Errno::EIO));
    node
}

fn lists(node: &Node) -> Vec<String> {
    [24, 25, 26, 30].iter().map(|number| node.shows(&format!("/proc/irq/{number}/smp_affinity_list"))).collect()
}

#[tokio::test]
async fn interrupts_leave_all_but_the_reserved_cpus_and_come_back() {
    let node = node();
    let pass = node.pass(&spec(InterruptCpus::Reserved)).await;
    assert!(pass.failures.is_empty() && pass.left.is_empty());
    assert_eq!(
        changes(&pass.plan),
        ["irq/default: 0-7 -> 0,4", "irq/24: 0-7 -> 0,4", "irq/25: 6 -> 0,4", "irq/30: 5 -> 0,4"]
    );
    assert_eq!(lists(&node), ["0,4", "0,4", "4", "5"]);
    assert_eq!(node.shows("/proc/irq/default_smp_affinity"), "00000011");
    assert_eq!(causes(&pass.left.refusals), [("irq/30", "unsupported")]);
    node.host.write_by_other("/proc/irq/25/smp_affinity_list", "2-3");
    assert_eq!(changes(&node.settle(&spec(InterruptCpus::Reserved)).await.plan), ["irq/25: 2-3 -> 0,4"]);
    node.settle(&spec(InterruptCpus::Any)).await;
    assert_eq!(lists(&node), ["0-7", "6", "4", "5"]);
    assert_eq!(node.shows("/proc/irq/default_smp_affinity"), "000000ff");
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn isolated_cpus_alone_can_be_spared() {
    let node = node();
    node.host.file("/sys/devices/system/cpu/isolated", "6-7\n");
    let pass = node.settle(&spec(InterruptCpus::NotIsolated)).await;
    assert_eq!(changes(&pass.plan), ["irq/default: 0-7 -> 0-5", "irq/24: 0-7 -> 0-5", "irq/25: 6 -> 0-5"]);
}

#[tokio::test]
async fn many_that_cannot_be_moved_are_one_refusal() {
    let node = node();
    for number in 40..48 {
        let file = format!("/proc/irq/{number}/smp_affinity_list");
        node.host.file(&file, "1\n").on_write(file, |_, _| Err(Errno::EPERM));
    }
    let pass = node.pass(&spec(InterruptCpus::Reserved)).await;
    assert_eq!(causes(&pass.left.refusals), [("irq/30,40-47", "unsupported")]);
}

#[tokio::test]
async fn a_device_that_goes_takes_its_record_along() {
    let node = node();
    node.pass(&spec(InterruptCpus::Reserved)).await;
    node.host.vanish("/proc/irq/24");
    node.settle(&spec(InterruptCpus::Any)).await;
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn irqbalance_is_named_and_what_it_writes_is_watched() {
    let node = node();
    node.host.file("/proc/9/comm", "irqbalance\n").file("/proc/9/cmdline", "irqbalance\0");
    let spec = spec(InterruptCpus::Reserved);
    let pass = node.pass(&spec).await;
    assert_eq!(pass.left.findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["irqbalance-runs"]);
    let desired = Some(spec);
    let watches = Allocatable::watches(&desired, &node.subsystem.observe(&desired).await.unwrap());
    assert!(watches.contains(&Watch::File("/proc/irq/24/smp_affinity".into())), "{watches:?}");
}
