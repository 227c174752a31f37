//! Which pods leave a node before it is moved, by the rules of `kubectl drain` (k8s.io/kubectl `pkg/drain/filters.go`).

/// What a drain looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a pod of the same name with another one is another pod.
    pub uid: String,
    /// The image in the API server of a pod from a file.
    pub mirror: bool,
    /// True once it has succeeded or failed.
    pub finished: bool,
    /// True once it is being deleted.
    pub leaving: bool,
    /// Kind of its controller; absent: nobody makes it again.
    pub controller: Option<String>,
    /// True if it has an `emptyDir`, whose data are lost with it.
    pub empty_dir: bool,
}

/// What a person has allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainRules {
    /// `emptyDir` volumes may be lost (`--delete-emptydir-data`).
    pub delete_empty_dir_data: bool,
    /// Pods that nobody makes again may be evicted (`--force`).
    pub force: bool,
}

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays: it does not run, or it comes back here anyway.
    Stays,
    /// It is to be evicted.
    Evicted,
    /// It is on its way out already.
    Leaves,
    /// It must not be evicted without a person's word, so the drain cannot end.
    Forbidden(&'static str),
}

impl DrainPod {
    /// What becomes of it.
    #[must_use]
    pub fn fate(&self, rules: DrainRules) -> Fate {
        let of_daemon_set = self.controller.as_deref() == Some("DaemonSet");
        if self.mirror || self.finished || of_daemon_set {
            Fate::Stays
        } else if self.leaving {
            Fate::Leaves
        } else if self.empty_dir && !rules.delete_empty_dir_data {
            Fate::Forbidden("it has an emptyDir; set cgroup.migration.deleteEmptyDirData if its data may be lost")
        } else if self.controller.is_none() && !rules.force {
            Fate::Forbidden("nobody would make it again; set cgroup.migration.force if it may be lost")
        } else {
            Fate::Evicted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_leave_as_they_do_with_kubectl_drain() {
        let (none, all) = (DrainRules::default(), DrainRules { delete_empty_dir_data: true, force: true });
        let owned = DrainPod { controller: Some("ReplicaSet".into()), ..DrainPod::default() };
        let bare = DrainPod::default();
        let data = DrainPod { empty_dir: true, ..owned.clone() };
        let cases = [
            ("of a ReplicaSet", owned.clone(), none, Fate::Evicted),
            ("bare with force", bare.clone(), all, Fate::Evicted),
            ("with data that may go", data.clone(), all, Fate::Evicted),
            ("mirror", DrainPod { mirror: true, ..bare.clone() }, none, Fate::Stays),
            ("finished", DrainPod { finished: true, ..data.clone() }, none, Fate::Stays),
            ("leaving", DrainPod { leaving: true, ..data.clone() }, none, Fate::Leaves),
            (
                "of a DaemonSet with data",
                DrainPod { controller: Some("DaemonSet".into()), empty_dir: true, ..bare.clone() },
                none,
                Fate::Stays,
            ),
        ];
        for (name, pod, rules, expected) in cases {
            assert_eq!(pod.fate(rules), expected, "{name}");
        }
        for (name, pod) in [("bare", bare), ("with data", data)] {
            assert!(matches!(pod.fate(none), Fate::Forbidden(_)), "{name}");
        }
    }
}
