//! Modules to load and to block.

use trimtab::ports::modules::ModuleObstacle;

use super::*;
use crate::support::fake_modules::loaded;

const BLOCKLIST: &str = "/etc/modprobe.d/trimtab-blocklist.conf";

fn load(names: &[&str]) -> KernelSpec {
    KernelSpec { modules_load: names.iter().map(|&name| name.to_owned()).collect(), ..KernelSpec::default() }
}

fn block(names: &[&str]) -> KernelSpec {
    KernelSpec { modules_block: names.iter().map(|&name| name.to_owned()).collect(), ..KernelSpec::default() }
}

#[tokio::test]
async fn only_what_is_not_there_is_loaded_and_only_that_is_unloaded() {
    let node = Node::new();
    loaded(&node.host, "nf_conntrack", 2, &["nf_nat"]);
    node.host.file("/sys/module/kvm/parameters/x", "1\n");
    let spec = load(&["br-netfilter", "nf_conntrack", "ext4", "kvm", "ip_conntrack"]);
    node.settle(&spec).await;
    assert_eq!(node.modules.take_calls(), ["load br_netfilter", "load ip_conntrack"]);
    node.settle(&spec).await;
    assert_eq!(node.modules.take_calls(), Vec::<String>::new());
    node.settle(&KernelSpec::default()).await;
    assert_eq!(node.modules.take_calls(), ["unload br_netfilter", "unload ip_conntrack"]);
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn a_module_in_use_is_not_unloaded_before_it_is_free() {
    let node = Node::new();
    node.settle(&load(&["br_netfilter"])).await;
    loaded(&node.host, "br_netfilter", 1, &["br_user"]);
    let pass = node.settle(&KernelSpec::default()).await;
    assert_eq!(causes(&pass.left.refusals), [("module/br_netfilter", "owned-by-other")]);
    assert!(pass.left.refusals[0].detail.contains("in use by 1 (br_user)"));
    node.host.vanish("/sys/module/br_netfilter");
    loaded(&node.host, "br_netfilter", 0, &[]);
    node.settle(&KernelSpec::default()).await;
    assert_eq!(node.modules.take_calls(), ["load br_netfilter", "unload br_netfilter"]);
}

#[tokio::test]
async fn modules_that_cannot_be_loaded_are_refused_and_not_tried_again() {
    let rows = [
        (ModuleObstacle::NoProgram, "unsupported"),
        (ModuleObstacle::Missing, "absent"),
        (ModuleObstacle::NotPermitted, "not-permitted"),
        (ModuleObstacle::Rejected, "unsupported"),
    ];
    for (obstacle, cause) in rows {
        let node = Node::new();
        node.modules.fail("br_netfilter", obstacle, usize::MAX);
        let pass = node.pass(&load(&["br_netfilter"])).await;
        assert!(pass.failures.is_empty() && pass.left.is_empty());
        assert_eq!(causes(&pass.left.refusals), [("module/br_netfilter", cause)]);
        node.settle(&load(&["br_netfilter"])).await;
        assert_eq!(node.modules.take_calls().len(), 1, "{cause}");
    }
    let node = Node::new();
    node.modules.fail("br_netfilter", ModuleObstacle::Other, 1);
    let pass = node.pass(&load(&["br_netfilter"])).await;
    assert_eq!((pass.failures.len(), pass.left.steps().count()), (1, 1), "another failure is tried again");
    node.settle(&load(&["br_netfilter"])).await;
}

#[tokio::test]
async fn modules_that_the_host_has_not_are_refused_untried() {
    let node = Node::new();
    let pass = node.settle(&load(&["no_such_module", "../evil", "-r"])).await;
    let expected =
        [("module/-r", "invalid-value"), ("module/../evil", "invalid-value"), ("module/no_such_module", "absent")];
    assert_eq!(causes(&pass.left.refusals), expected);
    node.host.vanish("/proc/modules");
    let pass = node.settle(&load(&["br_netfilter", "ext4"])).await;
    assert_eq!(causes(&pass.left.refusals), [("module/br_netfilter", "unsupported")], "a kernel without modules");
    assert_eq!(node.modules.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn odd_kernel_texts_do_not_make_a_module_unused() {
    for text in ["", "-", "-1", "many", "0x0", "0 0", "99999999999999999999"] {
        let node = Node::new();
        node.settle(&load(&["br_netfilter"])).await;
        node.host.file("/sys/module/br_netfilter/refcnt", format!("{text}\n"));
        let pass = node.settle(&KernelSpec::default()).await;
        assert_eq!(causes(&pass.left.refusals), [("module/br_netfilter", "owned-by-other")], "{text:?}");
        assert_eq!(node.modules.take_calls(), ["load br_netfilter"], "{text:?}");
    }
}

#[tokio::test]
async fn blocked_modules_are_in_one_file_of_ours() {
    let node = Node::new();
    loaded(&node.host, "floppy", 0, &[]);
    let pass = node.settle(&block(&["floppy", "usb-storage", "ext4"])).await;
    assert_eq!(changes(&pass.plan), [format!("{BLOCKLIST}: absent -> [floppy usb_storage ext4]")]);
    let text = node.shows(BLOCKLIST);
    assert!(
        text.starts_with("# Owned by Trimtab")
            && text.contains("install usb_storage /bin/false\nblacklist usb_storage")
    );
    let codes: Vec<&str> = pass.left.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["blocked-module-built-in", "blocked-module-loaded"]);
    let pass = node.settle(&block(&["floppy"])).await;
    assert_eq!(changes(&pass.plan), [format!("{BLOCKLIST}: [floppy usb_storage ext4] -> [floppy]")]);
    node.settle(&KernelSpec::default()).await;
    assert_eq!(node.host.text(BLOCKLIST), None);
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn a_file_without_our_mark_is_not_touched() {
    let node = Node::new();
    node.host.file(BLOCKLIST, "blacklist nouveau\n");
    let pass = node.settle(&block(&["floppy"])).await;
    assert_eq!(causes(&pass.left.refusals), [(BLOCKLIST, "owned-by-other")]);
    node.settle(&KernelSpec::default()).await;
    assert_eq!(node.shows(BLOCKLIST), "blacklist nouveau");
    node.host.vanish("/etc/modprobe.d");
    let pass = node.settle(&block(&["floppy"])).await;
    assert_eq!(causes(&pass.left.refusals), [(BLOCKLIST, "absent")], "no directory");
}

#[tokio::test]
async fn our_file_goes_even_if_the_ledger_was_lost() {
    let mut node = Node::new();
    node.settle(&block(&["floppy"])).await;
    node.ledger = FakeLedger::new();
    node.restart();
    node.settle(&KernelSpec::default()).await;
    assert_eq!(node.host.text(BLOCKLIST), None);
}

#[tokio::test]
async fn to_load_and_to_block_a_module_is_refused() {
    let node = Node::new();
    let spec = KernelSpec { modules_block: vec!["br-netfilter".into()], ..load(&["br_netfilter"]) };
    let pass = node.settle(&spec).await;
    assert_eq!(causes(&pass.left.refusals), [("module/br_netfilter", "invalid-value")]);
    assert_eq!(node.modules.take_calls(), Vec::<String>::new());
}
