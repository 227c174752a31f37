//! Tables on evidence of cgroup drivers.

use super::*;
use CgroupDriver::{Cgroupfs, Systemd};

fn tree(driver: CgroupDriver, pods: usize, populated: bool) -> TreeFacts {
    let root = if driver == Systemd { "kubepods.slice" } else { "kubepods" };
    TreeFacts { driver, root: root.into(), pods, populated }
}

fn configured(component: Component, driver: CgroupDriver) -> Configured {
    Configured { component, driver, source: "a file".into() }
}

fn runc(driver: CgroupDriver) -> Configured {
    configured(Component::Containerd { handler: "runc".into(), default: true }, driver)
}

fn codes(facts: &DriverFacts, wish: Option<CgroupDriver>) -> Vec<(Severity, &'static str)> {
    driver_findings(facts, wish).iter().map(|finding| (finding.severity, finding.code)).collect()
}

#[test]
fn of_two_trees_the_populated_one_is_in_use() {
    let rows = [
        ("none", vec![], None),
        ("an empty node still has the root", vec![tree(Systemd, 0, false)], Some(Systemd)),
        ("one", vec![tree(Cgroupfs, 3, true)], Some(Cgroupfs)),
        ("left over", vec![tree(Systemd, 2, true), tree(Cgroupfs, 4, false)], Some(Systemd)),
        ("left over, other way round", vec![tree(Systemd, 9, false), tree(Cgroupfs, 1, true)], Some(Cgroupfs)),
        ("nobody runs, one has pods", vec![tree(Systemd, 0, false), tree(Cgroupfs, 1, false)], Some(Cgroupfs)),
        ("both in use", vec![tree(Systemd, 1, true), tree(Cgroupfs, 1, true)], None),
        ("both empty", vec![tree(Systemd, 0, false), tree(Cgroupfs, 0, false)], None),
    ];
    for (name, trees, driver) in rows {
        assert_eq!(running_driver(&trees), driver, "{name}");
    }
}

#[test]
fn findings_name_each_disagreement_once() {
    let v2 = Some(CgroupMode::V2);
    let kubelet = |driver| Some(configured(Component::Kubelet, driver));
    let base = DriverFacts { mode: v2, trees: vec![tree(Systemd, 1, true)], ..DriverFacts::default() };
    let rows = [
        (
            "all agree",
            DriverFacts { kubelet: kubelet(Systemd), runtimes: vec![runc(Systemd)], ..base.clone() },
            None,
            vec![],
        ),
        (
            "runtime rules",
            DriverFacts { kubelet: kubelet(Cgroupfs), runtimes: vec![runc(Systemd)], ..base.clone() },
            None,
            vec![(Severity::Warning, "cgroup-driver-mismatch")],
        ),
        (
            "real mismatch",
            DriverFacts { kubelet: kubelet(Systemd), runtimes: vec![runc(Cgroupfs)], ..base.clone() },
            None,
            vec![(Severity::Error, "cgroup-driver-mismatch")],
        ),
        (
            "two handlers",
            DriverFacts {
                runtimes: vec![
                    runc(Systemd),
                    configured(Component::Containerd { handler: "kata".into(), default: false }, Cgroupfs),
                ],
                ..base.clone()
            },
            None,
            vec![(Severity::Warning, "cgroup-driver-mismatch")],
        ),
        (
            "restart pending",
            DriverFacts { kubelet: kubelet(Cgroupfs), runtimes: vec![runc(Cgroupfs)], ..base.clone() },
            None,
            vec![(Severity::Warning, "cgroup-driver-pending")],
        ),
        ("unwanted", base.clone(), Some(Cgroupfs), vec![(Severity::Warning, "cgroup-driver-unwanted")]),
        ("wanted", base.clone(), Some(Systemd), vec![]),
    ];
    for (name, facts, wish, expected) in rows {
        assert_eq!(codes(&facts, wish), expected, "{name}");
    }
}

#[test]
fn findings_name_odd_trees_and_mounts() {
    let base =
        DriverFacts { mode: Some(CgroupMode::V2), trees: vec![tree(Systemd, 1, true)], ..DriverFacts::default() };
    let rows = [
        (
            "literal path",
            DriverFacts { literal_paths: vec!["/sys/fs/cgroup/x.slice:cri-containerd:0".into()], ..base.clone() },
            None,
            vec![(Severity::Error, "cgroup-literal-systemd-path")],
        ),
        (
            "left over tree",
            DriverFacts { trees: vec![tree(Systemd, 1, true), tree(Cgroupfs, 0, false)], ..base.clone() },
            None,
            vec![(Severity::Info, "cgroup-two-trees")],
        ),
        (
            "two trees in use",
            DriverFacts { trees: vec![tree(Systemd, 1, true), tree(Cgroupfs, 1, true)], ..base.clone() },
            None,
            vec![(Severity::Warning, "cgroup-two-trees")],
        ),
        ("v1", DriverFacts { mode: Some(CgroupMode::V1), ..base.clone() }, None, vec![(Severity::Info, "cgroup-v1")]),
        ("nothing mounted", DriverFacts::default(), None, vec![(Severity::Error, "cgroup-not-mounted")]),
    ];
    for (name, facts, wish, expected) in rows {
        assert_eq!(codes(&facts, wish), expected, "{name}");
    }
}

#[test]
fn a_mismatch_tells_both_sides_and_the_remedy() {
    let facts = DriverFacts {
        mode: Some(CgroupMode::V2),
        kubelet: Some(configured(Component::Kubelet, Systemd)),
        runtimes: vec![runc(Cgroupfs)],
        ..DriverFacts::default()
    };
    let findings = driver_findings(&facts, None);
    let text = findings.iter().map(|finding| format!("{} {}", finding.message, finding.remedy)).collect::<String>();
    for part in ["kubelet is set to systemd (a file)", "containerd handler runc to cgroupfs", "drain", "uncordon"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
