//! Keys that the profile names no more.

use trimtab_domain::record::Original;

use super::*;

#[tokio::test]
async fn the_first_value_comes_back_whatever_was_ordered_in_between() {
    let mut node = Node::with(&[("vm.swappiness", "60")]);
    for wish in ["10", "20", "0x1e"] {
        node.settle(&[("vm.swappiness", wish)]).await;
        node.restart();
    }
    assert_eq!(node.shows("vm.swappiness"), "30");
    let pass = node.settle(&[]).await;
    assert_eq!(texts(&pass.plan), ["vm.swappiness: 30 -> 60 (given back)", "ledger: forget vm.swappiness"]);
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn a_value_that_another_program_wrote_since_is_left_alone() {
    let node = Node::with(&[("vm.swappiness", "60")]);
    node.settle(&[("vm.swappiness", "10")]).await;
    node.host.write_by_other(sysctl_path("vm.swappiness"), "33");
    let pass = node.settle(&[]).await;
    assert_eq!(causes(&pass.plan.refusals), [("vm.swappiness", "changed-by-other")]);
    let step = "ledger: forget vm.swappiness (left at 33, which another program wrote; it was 60)";
    assert_eq!(texts(&pass.plan), [step]);
    assert_eq!(node.shows("vm.swappiness"), "33");
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn a_stop_between_the_promise_and_the_write_loses_nothing() {
    let mut node = Node::with(&[("vm.swappiness", "60")]);
    node.settle(&[("vm.swappiness", "10")]).await;
    // The agent stops after the first stage of the next order.
    node.host.fail_writes(sysctl_path("vm.swappiness"), Errno::EIO, 1);
    node.pass(&[("vm.swappiness", "20")]).await;
    node.restart();
    let pass = node.settle(&[]).await;
    assert_eq!(pass.plan.refusals, []);
    assert_eq!(node.shows("vm.swappiness"), "60");
}

#[tokio::test]
async fn an_exclusive_pair_comes_back_whole() {
    let rows = [("0", "20"), ("8192000", "0")];
    for (bytes, ratio) in rows {
        for wish in [("vm.dirty_bytes", "400000000"), ("vm.dirty_ratio", "35")] {
            let node = Node::with(&[("vm.dirty_bytes", bytes), ("vm.dirty_ratio", ratio)]);
            zeroing_pair(&node.host, "vm.dirty_bytes", "vm.dirty_ratio");
            node.settle(&[wish]).await;
            assert_eq!(node.shows(wish.0), wish.1);
            node.settle(&[("vm.dirty_ratio", "40")]).await;
            assert_eq!((node.shows("vm.dirty_bytes"), node.shows("vm.dirty_ratio")), ("0".into(), "40".into()));
            node.settle(&[("vm.dirty_bytes", "9000000")]).await;
            let pass = node.settle(&[]).await;
            let shown = (node.shows("vm.dirty_bytes"), node.shows("vm.dirty_ratio"));
            assert_eq!(shown, (bytes.into(), ratio.into()), "{wish:?} then {:?}", texts(&pass.plan));
            assert!(node.ledger.snapshot().is_empty());
        }
    }
}

#[tokio::test]
async fn a_pair_that_another_program_took_over_is_left_alone() {
    let node = Node::with(&[("vm.dirty_bytes", "0"), ("vm.dirty_ratio", "20")]);
    zeroing_pair(&node.host, "vm.dirty_bytes", "vm.dirty_ratio");
    node.settle(&[("vm.dirty_bytes", "400000000")]).await;
    node.host.write_by_other(sysctl_path("vm.dirty_bytes"), "500000000");
    let pass = node.settle(&[]).await;
    assert_eq!(node.shows("vm.dirty_bytes"), "500000000", "{:?}", texts(&pass.plan));
    assert_eq!(
        causes(&pass.plan.refusals),
        [("vm.dirty_bytes", "changed-by-other"), ("vm.dirty_ratio", "changed-by-other")]
    );
}

#[tokio::test]
async fn records_that_say_nothing_are_dropped() {
    let node = Node::with(&[("vm.swappiness", "10")]);
    let record = |object: &str, original| Record { object: object.into(), original, ordered: "10".into() };
    node.ledger.insert("sysctl", record("vm.swappiness", Original::Unknown));
    node.ledger.insert("sysctl", record("../../etc/passwd", Original::Value("x".into())));
    node.ledger.insert("sysctl", record("net.gone.key", Original::Value("1".into())));
    let pass = node.settle(&[]).await;
    assert_eq!(
        texts(&pass.plan),
        ["ledger: forget ../../etc/passwd (no sysctl key), net.gone.key (gone), vm.swappiness (left as it is; the \
             ledger was lost)"]
    );
    assert_eq!(pass.plan.findings[0].code, "sysctl-original-unknown");
    assert_eq!(node.shows("vm.swappiness"), "10");
}

#[tokio::test]
async fn a_text_with_blanks_comes_back_to_the_letter() {
    let node = Node::with(&[("kernel.core_pattern", "|/bin/a  %P   %u")]);
    node.settle(&[("kernel.core_pattern", "core")]).await;
    node.settle(&[]).await;
    assert_eq!(node.shows("kernel.core_pattern"), "|/bin/a  %P   %u");
}

#[tokio::test]
async fn what_cannot_be_given_back_stays_in_the_ledger() {
    let node = Node::with(&[("vm.swappiness", "60")]);
    node.settle(&[("vm.swappiness", "10")]).await;
    node.host.not_permitted(sysctl_path("vm.swappiness"));
    let pass = node.settle(&[]).await;
    assert_eq!(causes(&pass.left.refusals), [("vm.swappiness", "not-permitted")]);
    assert!(node.record("vm.swappiness").is_some());
}
