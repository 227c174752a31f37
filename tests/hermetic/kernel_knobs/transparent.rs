//! Transparent huge pages.

use super::*;

fn wish(enabled: &str) -> KernelSpec {
    KernelSpec { thp_enabled: Some(enabled.into()), ..KernelSpec::default() }
}

#[tokio::test]
async fn the_word_in_brackets_is_what_counts() {
    let node = Node::new();
    assert!(node.settle(&wish("madvise")).await.plan.is_empty());
    let pass = node.settle(&wish("never")).await;
    assert_eq!(
        texts(&pass.plan),
        ["ledger: remember transparent_hugepage/enabled", "transparent_hugepage/enabled: madvise -> never"]
    );
    assert_eq!(node.shows(format!("{THP}/enabled")), "always madvise [never]");
    node.settle(&wish("always")).await;
    let pass = node.settle(&KernelSpec::default()).await;
    assert_eq!(changes(&pass.plan), ["transparent_hugepage/enabled: always -> madvise (given back)"]);
    assert!(node.ledger.snapshot().is_empty());
}

#[tokio::test]
async fn a_word_that_another_program_set_is_left_alone() {
    let node = Node::new();
    node.settle(&wish("never")).await;
    node.host.write_by_other(format!("{THP}/enabled"), "always");
    let pass = node.settle(&KernelSpec::default()).await;
    assert_eq!(causes(&pass.plan.refusals), [("transparent_hugepage/enabled", "changed-by-other")]);
    assert_eq!(node.shows(format!("{THP}/enabled")), "[always] madvise never");
}

#[tokio::test]
async fn wishes_that_this_kernel_does_not_grant_are_refused() {
    let node = Node::new();
    let pass = node.settle(&wish("sometimes")).await;
    assert_eq!(causes(&pass.left.refusals), [("transparent_hugepage/enabled", "invalid-value")]);
    node.host.not_permitted(format!("{THP}/enabled"));
    let pass = node.settle(&wish("never")).await;
    assert_eq!(causes(&pass.left.refusals), [("transparent_hugepage/enabled", "not-permitted")]);
    node.host.vanish(THP);
    let pass = node.settle(&wish("never")).await;
    assert_eq!(causes(&pass.left.refusals), [("transparent_hugepage/enabled", "absent")]);
    assert_eq!(node.host.take_attempts(), 0);
}

#[tokio::test]
async fn texts_that_show_no_choice_are_refused_and_left() {
    for text in ["", "always madvise never", "[always] [never]", "[]", "[always", "{madvise}", "\u{0}"] {
        let node = Node::new();
        node.host.file(format!("{THP}/enabled"), format!("{text}\n"));
        let pass = node.settle(&wish("never")).await;
        assert_eq!(causes(&pass.left.refusals), [("transparent_hugepage/enabled", "unsupported")], "{text:?}");
        assert_eq!(node.host.take_attempts(), 0, "{text:?}");
    }
}
