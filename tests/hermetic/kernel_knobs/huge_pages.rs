//! Huge pages per NUMA node and size.

use super::*;

fn wish(pools: &[(u64, u32, u64)]) -> KernelSpec {
    let huge_pages = pools.iter().map(|&(kib, node, pages)| ((kib * 1024, node), pages)).collect();
    KernelSpec { huge_pages, ..KernelSpec::default() }
}

#[tokio::test]
async fn what_the_kernel_really_gave_is_told_and_it_is_not_asked_again() {
    let mut node = Node::new();
    pool(&node.host, 0, 2048, 0, 700);
    node.host.file("/sys/devices/system/node/node0/meminfo", "Node 0 MemFree:  102400 kB\n");
    let spec = wish(&[(2048, 0, 1000)]);
    let pass = node.pass(&spec).await;
    assert!(pass.failures.is_empty() && pass.left.is_empty(), "{:?}", texts(&pass.left));
    assert_eq!(causes(&pass.left.refusals), [("hugepages-2048kB/node0", "insufficient")]);
    let detail = &pass.left.refusals[0].detail;
    assert!(detail.starts_with("the kernel gave 700 of 1000 pages; 100 MiB of the node are free"), "{detail}");
    node.host.take_attempts();
    node.settle(&spec).await;
    node.restart();
    node.settle(&spec).await;
    node.subsystem_forgets();
    node.settle(&spec).await;
    assert_eq!(node.host.take_attempts(), 0, "without more free memory it would be in vain");
    node.host.file("/sys/devices/system/node/node0/meminfo", "Node 0 MemFree: 1024000 kB\n");
    node.settle(&spec).await;
    assert_eq!(node.host.take_attempts(), 1, "with more it is tried");
    node.settle(&spec).await;
    assert_eq!(node.host.take_attempts(), 0, "once until the next resync");
    node.host.write_by_other(pool_folder(0, 2048) + "/nr_hugepages", "10");
    node.pass(&spec).await;
    assert_eq!(node.shows(pool_folder(0, 2048) + "/nr_hugepages"), "700", "drift is healed as far as there is memory");
    node.settle(&KernelSpec::default()).await;
    assert_eq!(node.shows(pool_folder(0, 2048) + "/nr_hugepages"), "0");
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn pools_shrink_before_others_grow() {
    let node = Node::new();
    for (number, kib) in [(0, 2048), (0, 1_048_576), (1, 2048)] {
        pool(&node.host, number, kib, 0, 1000);
    }
    node.host.write_by_other(pool_folder(1, 2048) + "/nr_hugepages", "64");
    let pass = node.settle(&wish(&[(2048, 0, 8), (1_048_576, 0, 2), (2048, 1, 16)])).await;
    let expected =
        ["hugepages-2048kB/node1: 64 -> 16", "hugepages-1048576kB/node0: 0 -> 2", "hugepages-2048kB/node0: 0 -> 8"];
    assert_eq!(changes(&pass.plan), expected);
}

#[tokio::test]
async fn pages_in_use_stay_and_are_told() {
    let node = Node::new();
    pool(&node.host, 0, 2048, 6, 100);
    let pass = node.settle(&wish(&[(2048, 0, 2)])).await;
    assert_eq!(pass.left.findings[0].code, "huge-pages-in-use");
    assert!(pass.left.findings[0].message.starts_with("6 of 6 pages are in use and 2 are to stay: 4 pages remain"));
    assert_eq!(node.shows(pool_folder(0, 2048) + "/surplus_hugepages"), "4");
}

#[tokio::test]
async fn pools_that_this_machine_has_not_are_refused_with_what_it_has() {
    let node = Node::new();
    pool(&node.host, 0, 2048, 0, 100);
    let pass = node.settle(&wish(&[(2048, 3, 1), (64, 0, 1)])).await;
    let details: Vec<&str> = pass.left.refusals.iter().map(|refusal| refusal.detail.as_str()).collect();
    let expected =
        ["this machine has no NUMA node 3; it has 0", "this machine has no huge pages of 64 KiB; it has 2048 KiB"];
    assert!(expected.iter().all(|text| details.contains(text)), "{details:?}");
}

#[tokio::test]
async fn a_kernel_without_numa_has_one_node() {
    let node = Node::new();
    let file = |name: &str| format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
    node.host
        .file(file("nr_hugepages"), "0\n")
        .file(file("free_hugepages"), "0\n")
        .file(file("surplus_hugepages"), "0\n");
    node.settle(&wish(&[(2048, 0, 5)])).await;
    assert_eq!(node.shows(file("nr_hugepages")), "5");
}

#[tokio::test]
async fn texts_that_are_no_counts_are_refused_and_left() {
    for (name, text) in [
        ("nr_hugepages", ""),
        ("nr_hugepages", "-1"),
        ("nr_hugepages", "+1"),
        ("nr_hugepages", "0x10"),
        ("nr_hugepages", "1 2"),
        ("nr_hugepages", "99999999999999999999"),
        ("free_hugepages", "many"),
        ("free_hugepages", "9"),
        ("surplus_hugepages", "9"),
        ("surplus_hugepages", "\u{fffd}"),
    ] {
        let node = Node::new();
        pool(&node.host, 0, 2048, 0, 100);
        node.host.file(format!("{}/{name}", pool_folder(0, 2048)), format!("{text}\n"));
        let pass = node.settle(&wish(&[(2048, 0, 5)])).await;
        assert_eq!(causes(&pass.left.refusals), [("hugepages-2048kB/node0", "unsupported")], "{name} {text:?}");
        assert_eq!(node.host.take_attempts(), 0, "{name} {text:?}");
    }
}
