//! What a running runtime says of its cgroup driver, against what files say.

use super::{Component, Configured};
use crate::plan::{Finding, Severity};

/// Drivers of the runtimes, weighed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeDrivers {
    /// Those that count.
    pub in_force: Vec<Configured>,
    /// Those of files that an answer overrides, and those of runtimes that the kubelet does not use.
    pub others: Vec<Configured>,
    /// Where an answer and a file of the same runtime differ.
    pub findings: Vec<Finding>,
}

/// Weighs answers and files. A runtime that answers on the kubelet's socket is the one in use, and it knows its own driver
/// best: what files say of it is in force only after a restart, and what they say of other runtimes does not matter.
/// Without answers the files are all that is known.
#[must_use]
pub fn weigh_drivers(answers: Vec<Configured>, files: Vec<Configured>) -> RuntimeDrivers {
    if answers.is_empty() {
        return RuntimeDrivers { in_force: files, ..RuntimeDrivers::default() };
    }
    let mut weighed = RuntimeDrivers { in_force: answers, ..RuntimeDrivers::default() };
    for file in files {
        let answer = weighed.in_force.iter().find(|answer| same_switch(&answer.component, &file.component));
        match answer {
            Some(answer) => {
                weighed.findings.extend(pending(answer, &file));
                weighed.others.push(file);
            }
            // An answer of one handler says nothing of the runtime's other handlers.
            None if weighed.in_force.iter().any(|answer| same_runtime(&answer.component, &file.component)) => {
                weighed.in_force.push(file);
            }
            None => weighed.others.push(file),
        }
    }
    weighed
}

fn same_switch(a: &Component, b: &Component) -> bool {
    match (a, b) {
        (
            Component::Containerd { handler, default },
            Component::Containerd { handler: other, default: other_default },
        ) => handler == other || *default && *other_default,
        (a, b) => a == b,
    }
}

fn same_runtime(a: &Component, b: &Component) -> bool {
    matches!((a, b), (Component::Containerd { .. }, Component::Containerd { .. })) || a == b
}

fn pending(answer: &Configured, file: &Configured) -> Option<Finding> {
    (answer.driver != file.driver).then(|| Finding {
        severity: Severity::Warning,
        code: "cgroup-driver-pending",
        object: file.component.describe(),
        message: format!(
            "it uses {} ({}), while {} says {}, which its next start puts into force",
            answer.driver, answer.source, file.source, file.driver
        ),
        remedy: "drain the node before the runtime is restarted, or set the file back".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::cgroup::CgroupDriver::{self, Cgroupfs, Systemd};

    fn containerd(handler: &str, default: bool, driver: CgroupDriver) -> Configured {
        let component = Component::Containerd { handler: handler.into(), default };
        Configured { component, driver, source: "somewhere".into() }
    }

    fn crio(driver: CgroupDriver) -> Configured {
        Configured { component: Component::CriO, driver, source: "somewhere".into() }
    }

    #[test]
    fn answers_come_before_files_and_silence_other_runtimes() {
        let runc = |driver| containerd("runc", true, driver);
        let rows = [
            ("no answer", vec![], vec![runc(Systemd)], vec![runc(Systemd)], 0, 0),
            ("alike", vec![runc(Systemd)], vec![runc(Systemd)], vec![runc(Systemd)], 1, 0),
            ("a newer file", vec![runc(Systemd)], vec![runc(Cgroupfs)], vec![runc(Systemd)], 1, 1),
            (
                "another handler",
                vec![runc(Systemd)],
                vec![runc(Systemd), containerd("crun", false, Cgroupfs)],
                vec![runc(Systemd), containerd("crun", false, Cgroupfs)],
                1,
                0,
            ),
            (
                "the default by another name",
                vec![runc(Systemd)],
                vec![containerd("crun", true, Systemd)],
                vec![runc(Systemd)],
                1,
                0,
            ),
            ("another runtime", vec![crio(Systemd)], vec![runc(Cgroupfs)], vec![crio(Systemd)], 1, 0),
        ];
        for (name, answers, files, in_force, others, findings) in rows {
            let weighed = weigh_drivers(answers, files);
            assert_eq!(weighed.in_force, in_force, "{name}");
            assert_eq!((weighed.others.len(), weighed.findings.len()), (others, findings), "{name}");
        }
    }
}
