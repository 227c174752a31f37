//! Wishes that a node cannot grant, and what is found before it becomes a fight.

use trimtab::reconcile::Subsystem;
use trimtab_domain::plan::Severity;
use trimtab_domain::spec::sysctls::SysctlPolicy;

use super::*;

#[tokio::test]
async fn absent_keys_are_refused_with_a_remedy() {
    let node = Node::with(&[("vm.swappiness", "60")]);
    let wishes = [
        ("vm.swappiness", "10"),
        ("net.netfilter.nf_conntrack_tcp_loose", "0"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("net.ipv4.conf.eno2.100.rp_filter", "1"),
        ("vm.swapiness", "1"),
    ];
    let pass = node.settle(&wishes).await;
    assert_eq!(node.shows("vm.swappiness"), "10", "the rest is applied all the same");
    let remedies = ["eno2/100.rp_filter", "br_netfilter", "nf_conntrack", "check the spelling"];
    assert_eq!(pass.left.refusals.len(), 4);
    for remedy in remedies {
        let refusal = pass.left.refusals.iter().find(|refusal| refusal.detail.contains(remedy));
        assert_eq!(refusal.map(|refusal| refusal.cause.as_str()), Some("absent"), "{remedy}");
    }
}

#[tokio::test]
async fn keys_that_nobody_or_not_we_may_write_are_refused_untried() {
    let node = Node::with(&[
        ("net.core.rmem_max", "1"),
        ("vm.swappiness", "60"),
        ("net.ipv4.route.flush", ""),
        ("net.ipv6.conf.eth0.stable_secret", ""),
    ]);
    node.host.read_only(sysctl_path("net.core.rmem_max"));
    node.host.not_permitted(sysctl_path("vm.swappiness"));
    node.host.write_only(sysctl_path("net.ipv4.route.flush"));
    node.host.fail_reads(sysctl_path("net.ipv6.conf.eth0.stable_secret"), Errno::EIO, usize::MAX);
    let wishes = [
        ("net.core.rmem_max", "2"),
        ("vm.swappiness", "10"),
        ("net.ipv4.route.flush", "1"),
        ("net.ipv6.conf.eth0.stable_secret", "::1"),
    ];
    let pass = node.settle(&wishes).await;
    assert_eq!(
        causes(&pass.left.refusals),
        [
            ("net.core.rmem_max", "read-only"),
            ("net.ipv4.route.flush", "unsupported"),
            ("net.ipv6.conf.eth0.stable_secret", "unsupported"),
            ("vm.swappiness", "not-permitted"),
        ]
    );
    assert_eq!(node.host.take_attempts(), 0);
    assert!(node.ledger.snapshot().is_empty(), "nothing was promised");
}

#[tokio::test]
async fn a_read_only_key_that_already_shows_the_wish_is_fine() {
    let node = Node::with(&[("net.core.rmem_max", "212992")]);
    node.host.read_only(sysctl_path("net.core.rmem_max"));
    let pass = node.settle(&[("net.core.rmem_max", "212992")]).await;
    assert_eq!(pass.left.refusals, []);
}

#[tokio::test]
async fn what_the_kernel_rejects_is_refused_and_not_tried_again() {
    let rows = [
        (Errno::EINVAL, "invalid-value"),
        (Errno::ERANGE, "invalid-value"),
        (Errno::ENOENT, "invalid-value"),
        (Errno::EPERM, "not-permitted"),
        (Errno::EACCES, "not-permitted"),
        (Errno::EROFS, "not-permitted"),
        (Errno::EOPNOTSUPP, "unsupported"),
    ];
    for (errno, cause) in rows {
        let node = Node::with(&[("net.core.somaxconn", "4096"), ("vm.swappiness", "60")]);
        node.host.on_write(sysctl_path("net.core.somaxconn"), move |_, _| Err(errno));
        let wishes = [("net.core.somaxconn", "99"), ("vm.swappiness", "10")];
        let pass = node.pass(&wishes).await;
        assert!(pass.failures.is_empty(), "{errno}: a refusal is no failure");
        assert!(pass.left.is_empty(), "{errno}");
        assert_eq!(causes(&pass.left.refusals), [("net.core.somaxconn", cause)], "{errno}");
        node.host.take_attempts();
        node.settle(&wishes).await;
        assert_eq!(node.host.take_attempts(), 0, "{errno}: not before there is a reason to");
        node.subsystem.forget_rejections();
        node.pass(&wishes).await;
        assert_eq!(node.host.take_attempts(), 1, "{errno}: the resync is one");
        let plan = node.plan(&[("net.core.somaxconn", "98")]).await;
        assert_eq!(writes(&plan)[0], "net.core.somaxconn: 4096 -> 98", "{errno}: another wish is another");
        node.settle(&[]).await;
        assert_eq!(node.shows("net.core.somaxconn"), "4096", "{errno}");
        assert!(node.ledger.snapshot().is_empty(), "{errno}");
    }
}

#[tokio::test]
async fn other_failures_are_tried_again() {
    for errno in [Errno::EIO, Errno::EBUSY, Errno::ENOMEM, Errno::EINTR] {
        let node = Node::with(&[("net.core.somaxconn", "4096")]);
        node.host.fail_writes(sysctl_path("net.core.somaxconn"), errno, 1);
        let pass = node.pass(&[("net.core.somaxconn", "99")]).await;
        assert_eq!((pass.failures.len(), pass.left.steps().count()), (1, 1), "{errno}");
        node.settle(&[("net.core.somaxconn", "99")]).await;
    }
}

#[tokio::test]
async fn names_and_values_that_no_kernel_takes_are_refused() {
    let long = "1".repeat(65_537);
    let rows = [
        ("", "1"),
        ("kernel", "1"),
        ("net.core", "1"),
        ("net..core.somaxconn", "1"),
        (".net.core.somaxconn", "1"),
        ("net.core.somaxconn.", "1"),
        ("/net/core/somaxconn", "1"),
        ("net/../../../etc/passwd", "1"),
        ("net.//.//.//.etc.passwd", "1"),
        ("../../etc/passwd", "1"),
        ("net.core.somaxconn\0", "1"),
        ("net.core.so maxconn", "1"),
        ("net.core.s\u{f6}maxconn", "1"),
        ("net.ipv4.conf.[.rp_filter", "1"),
        ("net.core.somaxconn", "1\n2"),
        ("net.core.somaxconn", "1\0"),
        ("net.core.somaxconn", long.as_str()),
    ];
    for (key, value) in rows {
        let node = Node::with(&[("net.core.somaxconn", "4096"), ("net.ipv4.conf.all.rp_filter", "0")]);
        let pass = node.settle(&[(key, value)]).await;
        assert!(pass.plan.is_empty(), "{key:?}");
        assert_eq!(pass.left.refusals.len(), 1, "{key:?} = {value:.20?}");
        assert_eq!(node.host.take_attempts(), 0, "{key:?}");
    }
}

#[tokio::test]
async fn texts_that_the_kernel_should_never_show_change_nothing() {
    // Whatever stands there, a wish for it is met and another wish overwrites it and gives it back to the letter.
    let texts = [
        "",
        " ",
        "\t",
        "-",
        "+",
        "0x",
        "--1",
        "1e3",
        "1,2",
        "1 2 3 4 5 6 7 8",
        "99999999999999999999999999999999",
        "-99999999999999999999",
        "\u{fffd}",
        "always [madvise] never",
        "00000000,00000003",
        "a=b",
        "%s%n",
        "'; rm -rf /",
    ];
    for text in texts {
        let node = Node::with(&[("kernel.odd", text)]);
        assert!(node.plan(&[("kernel.odd", text)]).await.is_empty(), "{text:?}");
        node.settle(&[("kernel.odd", "5")]).await;
        assert_eq!(node.shows("kernel.odd"), "5");
        node.settle(&[]).await;
        assert_eq!(node.host.snapshot()[&sysctl_path("kernel.odd")], format!("{text}\n"), "{text:?}");
    }
}

#[tokio::test]
async fn contradictions_are_found_and_refused() {
    let keys = [
        "vm.dirty_bytes",
        "vm.dirty_ratio",
        "vm.overcommit_kbytes",
        "vm.overcommit_ratio",
        "net.core.somaxconn",
        "net.netfilter.nf_conntrack_max",
        "net.nf_conntrack_max",
    ];
    let node = Node::with(&keys.map(|key| (key, "0")));
    let pass = node
        .settle(&[
            ("vm.dirty_bytes", "8192000"),
            ("vm.dirty_ratio", "20"),
            ("vm.overcommit_kbytes", "100"),
            ("vm.overcommit_ratio", "50"),
            ("net.core.somaxconn", "5"),
            ("net/core/somaxconn", "6"),
            ("net.netfilter.nf_conntrack_max", "1000"),
            ("net.nf_conntrack_max", "2000"),
        ])
        .await;
    assert_eq!(
        causes(&pass.left.refusals),
        [
            ("net.nf_conntrack_max", "invalid-value"),
            ("net/core/somaxconn", "invalid-value"),
            ("vm.dirty_bytes", "invalid-value"),
            ("vm.dirty_ratio", "invalid-value"),
            ("vm.overcommit_kbytes", "invalid-value"),
            ("vm.overcommit_ratio", "invalid-value"),
        ]
    );
    let exclusive = pass.left.findings.iter().filter(|finding| finding.code == "sysctl-exclusive-pair");
    assert_eq!(exclusive.count(), 2);
    assert_eq!(node.shows("vm.dirty_bytes"), "0");
}

#[tokio::test]
async fn the_kubelets_keys_are_held_at_its_values_only() {
    let required = [
        ("vm.overcommit_memory", "1"),
        ("vm.panic_on_oom", "0"),
        ("kernel.panic", "10"),
        ("kernel.panic_on_oops", "1"),
        ("kernel.keys.root_maxkeys", "1000000"),
        ("kernel.keys.root_maxbytes", "25000000"),
    ];
    for (key, value) in required {
        let node = Node::with(&[(key, "7")]);
        let pass = node.settle(&[(key, "5")]).await;
        assert_eq!(causes(&pass.left.refusals), [(key, "owned-by-other")]);
        let finding = &pass.left.findings[0];
        assert_eq!((finding.code, finding.severity), ("sysctl-owned-by-kubelet", Severity::Error), "{key}");
        assert_eq!(node.shows(key), "7");
        let pass = node.settle(&[(key, value)]).await;
        assert_eq!((pass.left.refusals.len(), pass.left.findings.len()), (0, 0), "{key}");
        assert_eq!(node.shows(key), value);
        assert_eq!(Sysctl::<FakeHost, FakeLedger>::likely_writer(key), Some("kubelet"));
    }
}

#[tokio::test]
async fn keys_that_others_write_are_findings() {
    let rows = [
        ("net.netfilter.nf_conntrack_max", "500000", Some("sysctl-owned-by-kube-proxy")),
        ("net.netfilter.nf_conntrack_tcp_timeout_established", "7200", Some("sysctl-owned-by-kube-proxy")),
        ("net.netfilter.nf_conntrack_tcp_timeout_established", "86400", None),
        ("net.ipv4.ip_forward", "0", Some("sysctl-owned-by-container-network")),
        ("net.ipv4.ip_forward", "1", None),
        ("net.bridge.bridge-nf-call-iptables", "0", Some("sysctl-owned-by-container-network")),
        ("net.ipv4.conf.eth0.rp_filter", "1", Some("sysctl-owned-by-container-network")),
        ("net.core.somaxconn", "010", Some("sysctl-octal-value")),
        ("net.core.somaxconn", "1024", None),
    ];
    for (key, value, code) in rows {
        let node = Node::with(&[(key, "3")]);
        let plan = node.plan(&[(key, value)]).await;
        let found: Vec<(&str, Severity)> =
            plan.findings.iter().map(|finding| (finding.code, finding.severity)).collect();
        assert_eq!(
            found,
            code.map(|code| (code, Severity::Warning)).into_iter().collect::<Vec<_>>(),
            "{key} = {value}"
        );
        assert_eq!(plan.refusals, [], "{key}: a finding does not refuse");
    }
}

#[tokio::test]
async fn files_that_will_set_it_back_are_named() {
    let node = Node::with(&[("net.core.somaxconn", "16384"), ("vm.swappiness", "60")]);
    node.host.file("/etc/sysctl.d/999-sysctl-aks.conf", "net.core.somaxconn=16384\nvm.swappiness = 10\n");
    node.host.file("/etc/sysctl.d/readme", "net.core.somaxconn=1\n");
    let plan = node.plan(&[("net.core.somaxconn", "32768"), ("vm.swappiness", "10")]).await;
    let found: Vec<_> = plan.findings.iter().map(|found| (found.object.as_str(), found.code, found.severity)).collect();
    assert_eq!(found, [("net.core.somaxconn", "sysctl-set-by-file", Severity::Warning)]);
    assert!(plan.findings[0].message.contains("/etc/sysctl.d/999-sysctl-aks.conf sets it to 16384"));
}

#[tokio::test]
async fn a_policy_refuses_keys_and_values_outside_it() {
    let node =
        Node::with(&[("net.core.somaxconn", "4096"), ("kernel.sysrq", "1"), ("net.ipv4.conf.all.rp_filter", "0")]);
    let wishes = [("net.core.somaxconn", "128"), ("kernel.sysrq", "0"), ("net.ipv4.conf.*.rp_filter", "1")];
    let mut spec = spec(&wishes);
    spec.sysctls.policy = Some(SysctlPolicy::Aks);
    let plan = dry_run(&node.subsystem, &spec).await;
    assert!(plan.is_empty());
    let expected =
        [("kernel.sysrq", "policy"), ("net.core.somaxconn", "policy"), ("net.ipv4.conf.*.rp_filter", "policy")];
    assert_eq!(causes(&plan.refusals), expected);
}

#[tokio::test]
async fn a_glob_over_many_interfaces_is_one_finding() {
    let node = Node::new();
    for interface in 0..50 {
        node.host.sysctl(&format!("net.ipv4.conf.veth{interface}.rp_filter"), "0");
    }
    let plan = node.plan(&[("net.ipv4.conf.*.rp_filter", "2")]).await;
    let found: Vec<_> = plan.findings.iter().map(|found| (found.object.as_str(), found.code)).collect();
    assert_eq!(found, [("net.ipv4.conf.*.rp_filter", "sysctl-owned-by-container-network")]);
}
