//! Resources that a pod has of its own (`pod.spec.resources`, KEP-2837), concluded from what a runtime tells.
//!
//! No runtime tells of them. A kubelet bounds a container that has no limits by those of such a pod, and takes them for its
//! requests too (kubelet 1.34 `kuberuntime_container_linux.go`, `getCPULimit`, `calculateLinuxResources`): the container
//! looks as if it asked for everything that its pod may have. In any other Guaranteed pod every container has limits, but for
//! an ephemeral one, which somebody debugs with: that has no bounds at all.

use super::pod::{Container, ContainerKind, Pod, Resources};
use super::{QosClass, ResourceName};

impl Pod {
    /// The pod with resources of its own, if its containers show that it has some. `whole` is what the kubelet reckoned for
    /// all of the pod; containers that only seem to ask for that ask for nothing then.
    #[must_use]
    pub fn with_resources_of_its_own(mut self, whole: Option<Resources>) -> Self {
        let Some(whole) = whole.filter(|_| self.qos == QosClass::Guaranteed) else { return self };
        let asks =
            |container: &&Container| container.kind != ContainerKind::Init && container.resources.cpu_request().0 > 0;
        let asking = self.containers.iter().filter(asks).count();
        let borrowers = self.containers.iter_mut().filter(|container| borrows(container, &whole, asking));
        let mut found = false;
        for container in borrowers {
            container.resources = Resources::default();
            found = true;
        }
        if found {
            self.resources = Some(whole);
        }
        self
    }
}

/// True if the bounds of a container can only be those of its pod: it has a bound and asks for no CPU, or it asks for all that
/// the pod has although another one asks for some, too.
fn borrows(container: &Container, whole: &Resources, asking: usize) -> bool {
    let memory = |resources: &Resources| resources.limits.get(&ResourceName::Memory).copied();
    let (own, request) = (&container.resources, container.resources.cpu_request());
    let everything = asking > 1
        && container.kind != ContainerKind::Init
        && request == whole.cpu_request()
        && memory(own) == memory(whole);
    memory(own).is_some() && (request.0 == 0 || everything)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::quantity::Quantity;
    use crate::workload::{Labels, PodUid};

    /// Requests are limits; 0: not told of.
    fn resources(milli: i64, mebibytes: i64) -> Resources {
        let cpu = (milli > 0).then(|| (ResourceName::Cpu, Quantity::from_milli(milli)));
        let memory = (mebibytes > 0).then(|| (ResourceName::Memory, Quantity::from_bytes(mebibytes << 20)));
        let requests: BTreeMap<_, _> = cpu.into_iter().chain(memory).collect();
        Resources { limits: requests.clone(), requests }
    }

    type Row = (&'static str, (i64, i64), &'static [(ContainerKind, i64, i64)], Option<&'static [bool]>);

    #[test]
    fn containers_that_live_of_their_pod_are_told_from_those_with_their_own() {
        use ContainerKind::{App, Init, Sidecar};
        let rows: [Row; 10] = [
            ("one", (2000, 1024), &[(App, 2000, 1024)], None),
            ("two", (3000, 1536), &[(App, 2000, 1024), (App, 1000, 512)], None),
            ("a sidecar", (3000, 1536), &[(Sidecar, 1000, 512), (App, 2000, 1024)], None),
            ("an init container that is over", (2000, 1024), &[(Init, 2000, 1024), (App, 2000, 1024)], None),
            ("one to debug with", (2000, 1024), &[(App, 2000, 1024), (App, 0, 0)], None),
            ("resized beyond what was told", (3000, 2048), &[(App, 3000, 1024), (App, 1000, 1024)], None),
            ("bounded without a request", (4000, 1024), &[(App, 0, 1024), (App, 1000, 512)], Some(&[true, false])),
            ("all of it twice", (4000, 1024), &[(App, 4000, 1024), (App, 4000, 1024)], Some(&[true, true])),
            ("all of it and a part", (4000, 1024), &[(App, 4000, 1024), (App, 1000, 512)], Some(&[true, false])),
            (
                "and one to debug with",
                (4000, 1024),
                &[(App, 4000, 1024), (App, 4000, 1024), (App, 0, 0)],
                Some(&[true, true, false]),
            ),
        ];
        for (name, (milli, mebibytes), containers, borrowing) in rows {
            let container = |(at, (kind, milli, mebibytes)): (usize, &(ContainerKind, i64, i64))| Container {
                name: at.to_string(),
                kind: *kind,
                resources: resources(*milli, *mebibytes),
            };
            let pod = Pod {
                uid: PodUid("u".into()),
                namespace: String::new(),
                name: String::new(),
                qos: QosClass::Guaranteed,
                containers: containers.iter().enumerate().map(container).collect(),
                resources: None,
                annotations: Labels::default(),
            };
            let whole = resources(milli, mebibytes);
            let mut expected = pod.clone();
            if let Some(borrowing) = borrowing {
                expected.resources = Some(whole.clone());
                let all = expected.containers.iter_mut().zip(borrowing.iter());
                all.filter(|(_, borrows)| **borrows).for_each(|(one, _)| one.resources = Resources::default());
            }
            assert_eq!(pod.clone().with_resources_of_its_own(Some(whole.clone())), expected, "{name}");
            assert_eq!(pod.clone().with_resources_of_its_own(None), pod, "{name}: nobody told");
            let burstable = Pod { qos: QosClass::Burstable, ..pod };
            assert_eq!(burstable.clone().with_resources_of_its_own(Some(whole)), burstable, "{name}: Burstable");
        }
    }
}
