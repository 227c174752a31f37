//! The QoS class of a pod, where only a runtime tells of it.

use crate::workload::QosClass;

/// The class by the cgroup that the kubelet chose for the pod, or by one inside it: `…/kubepods-burstable-pod<uid>.slice`,
/// `/kubepods/besteffort/pod<uid>` …; with neither word it is Guaranteed. `None` for the empty text and for a cgroup that
/// is not a pod's, for instance of a container that was made by hand.
#[must_use]
pub fn class_of_cgroup(path: &str) -> Option<QosClass> {
    let pods = path.find("kubepods").and_then(|at| path.get(at..))?;
    Some(match pods {
        path if path.contains("besteffort") => QosClass::BestEffort,
        path if path.contains("burstable") => QosClass::Burstable,
        _ => QosClass::Guaranteed,
    })
}

/// The class by the `oom_score_adj` of a container (kubelet `qos/policy.go`); `None` where it does not tell. −997 also
/// belongs to node-critical pods of every class.
#[must_use]
pub const fn class_of_oom_score(score: i64) -> Option<QosClass> {
    match score {
        -997 => Some(QosClass::Guaranteed),
        1000 => Some(QosClass::BestEffort),
        3..=999 => Some(QosClass::Burstable),
        _ => None,
    }
}

/// True if a container of a pod of this class cannot have this score. Node-critical pods have −997 whatever their class.
#[must_use]
pub fn contradicts(qos: QosClass, score: i64) -> bool {
    class_of_oom_score(score).is_some_and(|told| told != qos && told != QosClass::Guaranteed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use QosClass::{BestEffort, Burstable, Guaranteed};

    #[test]
    fn the_cgroup_tells_the_class() {
        let rows = [
            ("/kubepods.slice/kubepods-pod0b7c.slice", Some(Guaranteed)),
            ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0b7c.slice", Some(Burstable)),
            ("kubepods-besteffort-pod0b7c.slice", Some(BestEffort)),
            ("kubepods-besteffort-pod0b7c.slice:cri-containerd:0123", Some(BestEffort)),
            ("/kubepods/pod0b7c", Some(Guaranteed)),
            ("/kubepods/burstable/pod0b7c/0123", Some(Burstable)),
            ("/burstable-node/kubepods/pod0b7c", Some(Guaranteed)),
            ("/k8s.io/0123", None),
            ("", None),
        ];
        for (path, class) in rows {
            assert_eq!(class_of_cgroup(path), class, "{path}");
        }
    }

    #[test]
    fn the_score_tells_the_class_or_nothing() {
        let rows = [
            (-999, None),
            (-998, None),
            (-997, Some(Guaranteed)),
            (0, None),
            (2, None),
            (3, Some(Burstable)),
            (999, Some(Burstable)),
            (1000, Some(BestEffort)),
        ];
        for (score, class) in rows {
            assert_eq!(class_of_oom_score(score), class, "{score}");
        }
        assert!(contradicts(Guaranteed, 1000) && contradicts(BestEffort, 500) && contradicts(Burstable, 1000));
        assert!(!contradicts(Burstable, -997), "a node-critical pod");
        assert!(!contradicts(Guaranteed, -998) && !contradicts(Burstable, 3));
    }
}
