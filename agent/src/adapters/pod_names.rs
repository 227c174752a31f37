//! Names of pods and containers from the log directories, which the kubelet keeps for every pod.
//!
//! `/var/log/pods/<namespace>_<pod>_<uid>/` is one directory per pod, `/var/log/containers/` has one link
//! `<pod>_<namespace>_<container>-<id>.log` per container (kubelet `kuberuntime/legacy.go`). No name of Kubernetes
//! contains `_`. A sandbox has neither log nor link.

use std::path::Path;
use std::sync::Arc;

use trimtab_domain::workload::{ContainerId, PodUid};

use crate::ports::names::{ContainerName, Names, PodName, PodNames};
use crate::ports::{FileError, HostFiles};

const PODS: &str = "/var/log/pods";
const CONTAINERS: &str = "/var/log/containers";

/// Names as the log directories have them.
pub struct LogNames {
    files: Arc<dyn HostFiles>,
}

impl LogNames {
    /// Names below the host root's `/var/log`.
    #[must_use]
    pub fn new(files: Arc<dyn HostFiles>) -> Self {
        Self { files }
    }
}

impl PodNames for LogNames {
    fn read(&self) -> Result<Names, FileError> {
        let mut names = Names::default();
        for entry in self.files.list(Path::new(CONTAINERS))?.unwrap_or_default() {
            names.containers.extend(parse_link(&entry.name));
        }
        for entry in self.files.list(Path::new(PODS))?.unwrap_or_default() {
            names.pods.extend(parse_directory(&entry.name));
        }
        Ok(names)
    }
}

/// `<namespace>_<pod>_<uid>`.
fn parse_directory(name: &str) -> Option<(PodUid, PodName)> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && ![namespace, pod, uid].contains(&"");
    whole.then(|| (PodUid(uid.into()), PodName { namespace: namespace.into(), name: pod.into() }))
}

/// `<pod>_<namespace>_<container>-<id>.log`.
fn parse_link(name: &str) -> Option<(ContainerId, ContainerName)> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = rest.split('_');
    let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || [namespace, pod, container, id].contains(&"") {
        return None;
    }
    let pod = PodName { namespace: namespace.into(), name: pod.into() };
    Some((ContainerId(id.into()), ContainerName { pod, container: container.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_left_out() {
        let shown = |name: &str| parse_link(name).map(|(id, n)| (id.0, n.pod.namespace, n.pod.name, n.container));
        let some = |id: &str, ns: &str, pod: &str, c: &str| Some((id.into(), ns.into(), pod.into(), c.into()));
        for (name, expected) in [
            ("web-0_shop_main-0abc.log", some("0abc", "shop", "web-0", "main")),
            ("web-0_shop_side-car-0abc.log", some("0abc", "shop", "web-0", "side-car")),
            ("web-0_shop_main-0abc.log.gz", None),
            ("web-0_shop-0abc.log", None),
            ("a_b_c_d-0abc.log", None),
            ("a_b_c.log", None),
            ("_b_c-0.log", None),
            ("lost+found", None),
        ] {
            assert_eq!(shown(name), expected, "{name}");
        }
        let shown = |name: &str| parse_directory(name).map(|(uid, n)| (uid.0, n.namespace, n.name));
        for (name, expected) in [
            ("shop_web-0_0b7c-1", Some(("0b7c-1".into(), "shop".into(), "web-0".into()))),
            ("shop_web-0", None),
            ("shop_web-0_1_2", None),
            ("shop__1", None),
        ] {
            assert_eq!(shown(name), expected, "{name}");
        }
    }
}
