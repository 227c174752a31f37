//! Tables of conditions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

fn trouble(object: &str) -> Trouble {
    Trouble { object: object.into(), code: "absent", detail: "the kernel has no such key".into() }
}

fn converged(name: &'static str) -> PartHealth {
    PartHealth { standing: Standing::Converged, asked: 1, ..PartHealth::pending(name) }
}

fn healthy() -> NodeHealth {
    NodeHealth {
        profile: "web".into(),
        generation: 3,
        source: "nodeprofiles/web".into(),
        profile_errors: Vec::new(),
        waiting: None,
        ready: true,
        parts: ["sysctl", "kernel", "cgroup", "pinning", "allocatable", "masquerade"].map(converged).into(),
    }
}

fn one(health: &NodeHealth, kind: ConditionType) -> Condition {
    conditions(health).into_iter().find(|condition| condition.kind == kind).unwrap()
}

#[test]
fn all_is_true_on_a_node_where_all_is_well() {
    let all = conditions(&healthy());
    assert_eq!(all.len(), ConditionType::ALL.len());
    assert!(all.iter().all(|condition| condition.status == Truth::True), "{all:?}");
    assert_eq!(all[0].message, "profile web is in force, from nodeprofiles/web");
}

#[test]
fn each_trouble_shows_in_the_condition_of_its_part_and_nowhere_else() {
    type Harm = fn(&mut PartHealth);
    let cases: [(&str, &str, Harm, ConditionType, Truth, &str); 6] = [
        ("failing", "kernel", |p| p.standing = Standing::Failing, ConditionType::KernelTuned, Truth::False, "Failing"),
        ("fight", "sysctl", |p| p.fights.push(trouble("k")), ConditionType::KernelTuned, Truth::False, "Fighting"),
        (
            "refusal",
            "pinning",
            |p| p.refusals.push(trouble("k")),
            ConditionType::PinningHealthy,
            Truth::False,
            "Refused",
        ),
        (
            "mismatch",
            "cgroup",
            |p| p.findings.push(trouble("d")),
            ConditionType::CgroupDriverMatched,
            Truth::False,
            "Trouble",
        ),
        (
            "pending",
            "masquerade",
            |p| p.standing = Standing::Pending,
            ConditionType::MasqueradeHealthy,
            Truth::Unknown,
            "Pending",
        ),
        ("nothing asked", "masquerade", |p| p.asked = 0, ConditionType::MasqueradeHealthy, Truth::True, "NotManaged"),
    ];
    for (name, part, harm, kind, status, reason) in cases {
        let mut health = healthy();
        harm(health.parts.iter_mut().find(|known| known.name == part).unwrap());
        let found = one(&health, kind);
        assert_eq!((found.status, found.reason), (status, reason), "{name}");
        let others = conditions(&health).into_iter().filter(|other| other.kind != kind);
        assert!(others.into_iter().all(|other| other.status == Truth::True), "{name}");
    }
}

#[test]
fn readiness_says_what_is_missing() {
    type Harm = fn(&mut NodeHealth);
    let cases: [(Harm, Truth, &str, &str); 4] = [
        (
            |h| (h.generation, h.profile_errors) = (0, vec!["profile.yaml: cannot be read".into()]),
            Truth::False,
            "NoProfile",
            "profile.yaml: cannot be read",
        ),
        (|h| h.ready = false, Truth::False, "FirstPass", "profile web is being applied for the first time"),
        (
            |h| (h.ready, h.parts[5].unready) = (false, Some("the configuration is not known".into())),
            Truth::False,
            "NotReady",
            "masquerade: the configuration is not known",
        ),
        (
            |h| h.profile_errors = vec!["spec.sysctls: wrong type".into()],
            Truth::True,
            "ProfileRefused",
            "profile web stays in force, the newest is refused: spec.sysctls: wrong type",
        ),
    ];
    for (harm, status, reason, message) in cases {
        let mut health = healthy();
        harm(&mut health);
        let found = one(&health, ConditionType::TrimtabReady);
        assert_eq!((found.status, found.reason, found.message.as_str()), (status, reason, message));
    }
}

#[test]
fn several_troubles_are_counted_and_long_messages_cut() {
    let mut health = healthy();
    health.parts[0].refusals = (0..5).map(|n| trouble(&format!("{n}{}", "x".repeat(600)))).collect();
    let message = one(&health, ConditionType::KernelTuned).message;
    assert_eq!(message.chars().count(), MAX_MESSAGE);
    health.parts[0].refusals = vec![trouble("a"), trouble("b"), trouble("c")];
    assert_eq!(one(&health, ConditionType::KernelTuned).message, "a: the kernel has no such key (and 2 more)");
}
