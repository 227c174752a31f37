use super::*;

fn probe(target: &str, before: bool, after: Option<bool>) -> Probe {
    Probe { target: target.to_owned(), before, after }
}

#[test]
fn what_was_reached_before_must_be_reached_again() {
    let cases = [
        (vec![], Verdict::Confirmed),
        (vec![probe("API server", true, Some(true))], Verdict::Confirmed),
        (vec![probe("API server", false, Some(false)), probe("dns", true, Some(true))], Verdict::Confirmed),
        (vec![probe("API server", true, None)], Verdict::Waiting { awaited: vec!["API server".into()] }),
        (
            vec![probe("API server", true, Some(false)), probe("dns", true, Some(true))],
            Verdict::Waiting { awaited: vec!["API server".into()] },
        ),
    ];
    for (probes, expected) in cases {
        assert_eq!(judge(&probes, 29, 30), expected, "{probes:?}");
    }
}

#[test]
fn a_change_that_cuts_the_node_off_is_taken_back_at_the_deadline() {
    let probes = [probe("API server", true, Some(false)), probe("dns", true, None)];
    let Verdict::TakeBack { reason } = judge(&probes, 30, 30) else { panic!("not taken back") };
    assert!(reason.contains("API server, dns") && reason.contains("30 s"), "{reason}");
}

#[test]
fn only_changes_that_may_cut_a_node_off_are_risky() {
    let cases = [
        ("masquerade", "IP-MASQ-AGENT", true),
        ("sysctl", "net.ipv4.ip_forward", true),
        ("sysctl", "vm.swappiness", false),
        ("kernel", "module nf_conntrack", true),
        ("kernel", "transparent_hugepage/enabled", false),
        ("pinning", "x", false),
    ];
    for (subsystem, object, expected) in cases {
        assert_eq!(is_risky(subsystem, object), expected, "{subsystem} {object}");
    }
}
