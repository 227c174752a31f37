//! A node as it truly is, and what each source tells of it, as kubelet, runtime and kernel would make it.

use std::collections::BTreeMap;

use crate::cgroup::tree::{ContainerCgroup, Cpuset, PodCgroup, PodTree, Processes};
use crate::cgroup::{CgroupRoot, CpuControl, LeafKind, Limit, Quota, Version, Weight, milli_to_quota, milli_to_shares};
use crate::roster::isolation::HandlerTypes;
use crate::roster::join::{Joined, Sources, join};
use crate::roster::names::{ContainerName, Names, PodName};
use crate::roster::{ContainerState, Roster, Sandbox, SandboxContainer, SandboxId, ToldResources};
use crate::spec::cgroup::CgroupDriver;
use crate::workload::{ContainerId, Labels, PodUid, QosClass};

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) pods: Vec<TruePod>,
}

#[derive(Debug, Clone)]
pub(super) struct TruePod {
    pub(super) uid: String,
    pub(super) qos: QosClass,
    pub(super) is_static: bool,
    pub(super) handler: String,
    pub(super) containers: Vec<TrueContainer>,
}

/// Requests are limits in Guaranteed pods; in Burstable ones there is no limit.
#[derive(Debug, Clone)]
pub(super) struct TrueContainer {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) milli: u64,
    pub(super) exited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Nri,
    Cri,
    Tree,
    Links,
}

/// What the sources told.
pub(super) struct Facts {
    pub(super) roster: Roster,
    pub(super) tree: Option<PodTree>,
    pub(super) names: Names,
}

impl Facts {
    pub(super) fn join(&self) -> Joined {
        join(&Sources {
            roster: &self.roster,
            tree: self.tree.as_ref(),
            names: &self.names,
            handlers: &HandlerTypes::default(),
            memory_capacity: Some(64 << 30),
        })
    }
}

impl Node {
    pub(super) fn join(&self, sources: &[Source]) -> Joined {
        self.facts(sources).join()
    }

    /// NRI tells of events; CRI lists what lives, and, beside NRI, only completes it.
    pub(super) fn facts(&self, sources: &[Source]) -> Facts {
        let mut roster = Roster::default();
        let has = |source| sources.contains(&source);
        if has(Source::Nri) {
            for pod in &self.pods {
                roster.put_sandbox(Sandbox { created_at_ns: 0, ..pod.sandbox() });
                for container in &pod.containers {
                    roster.put_container(SandboxContainer { pid: None, ..pod.told(container) });
                    if container.exited {
                        roster.stop_container(&ContainerId(container.id.clone()));
                    }
                }
            }
        }
        if has(Source::Cri) {
            let sandboxes: Vec<Sandbox> =
                self.pods.iter().map(|pod| Sandbox { pod_resources: None, ..pod.sandbox() }).collect();
            let alive = |pod: &TruePod| {
                let alive = pod.containers.iter().filter(|container| !container.exited);
                alive.map(|container| pod.told(container)).collect::<Vec<_>>()
            };
            let containers: Vec<_> = self.pods.iter().flat_map(alive).collect();
            if has(Source::Nri) {
                roster.complete(&sandboxes, &containers);
            } else {
                roster.refresh(sandboxes, containers);
            }
        }
        let names = if has(Source::Links) { self.names() } else { Names::default() };
        Facts { roster, tree: has(Source::Tree).then(|| self.tree()), names }
    }

    fn names(&self) -> Names {
        let mut names = Names::default();
        for pod in &self.pods {
            names.pods.insert(PodUid(pod.uid.clone()), pod.name());
            for container in &pod.containers {
                let name = ContainerName { pod: pod.name(), container: container.name.clone() };
                names.containers.insert(ContainerId(container.id.clone()), name);
            }
        }
        names
    }

    fn tree(&self) -> PodTree {
        let mut inode = 0;
        PodTree {
            version: Version::V1,
            mount: "/sys/fs/cgroup/cpuset".into(),
            cpu: None,
            driver: CgroupDriver::Cgroupfs,
            above: Cpuset::default(),
            root: Cpuset::default(),
            classes: Vec::new(),
            pods: self.pods.iter().map(|pod| pod.cgroup(&mut inode)).collect(),
        }
    }
}

impl TruePod {
    fn name(&self) -> PodName {
        PodName { namespace: "default".into(), name: format!("pod-{}", self.uid) }
    }

    fn directory(&self) -> String {
        let layout = CgroupRoot::default().layout(CgroupDriver::Cgroupfs).unwrap();
        layout.pod_directory(self.qos, &PodUid(self.uid.clone()))
    }

    fn sandbox(&self) -> Sandbox {
        let source = if self.is_static { "file" } else { "api" };
        Sandbox {
            id: SandboxId(format!("s-{}", self.uid)),
            uid: PodUid(self.uid.clone()),
            namespace: "default".into(),
            name: self.name().name,
            labels: Labels::default(),
            annotations: [("kubernetes.io/config.source".to_owned(), source.to_owned())].into(),
            runtime_handler: self.handler.clone(),
            cgroup_parent: format!("/{}", self.directory()),
            ready: true,
            created_at_ns: 1,
            pod_resources: Some(ToldResources::default()),
        }
    }

    fn told(&self, container: &TrueContainer) -> SandboxContainer {
        let (quota, memory, score) = match self.qos {
            QosClass::Guaranteed => (i64::try_from(container.milli * 100).unwrap().max(1000), 1 << 30, -997),
            QosClass::Burstable => (0, 0, 999),
            QosClass::BestEffort => (0, 0, 1000),
        };
        SandboxContainer {
            id: ContainerId(container.id.clone()),
            sandbox: SandboxId(format!("s-{}", self.uid)),
            name: container.name.clone(),
            state: ContainerState::Running,
            created_at_ns: 0,
            pid: Some(4711),
            cgroups_path: format!("/{}/{}", self.directory(), container.id),
            labels: Labels::default(),
            annotations: Labels::default(),
            resources: Some(ToldResources {
                cpu_shares: Some(milli_to_shares(container.milli)),
                cpu_quota_us: Some(quota),
                cpu_period_us: Some(100_000),
                memory_limit_bytes: Some(memory),
                oom_score_adj: Some(score),
                ..ToldResources::default()
            }),
        }
    }

    fn cgroup(&self, inode: &mut u64) -> PodCgroup {
        let mut leaf = |id: &str, milli: u64, pause: bool| {
            *inode += 1;
            let guaranteed = self.qos == QosClass::Guaranteed && !pause;
            let quota_us = guaranteed.then(|| milli_to_quota(milli, 100_000)).flatten();
            ContainerCgroup {
                cpuset: Cpuset { path: format!("{}/{id}", self.directory()), ..Cpuset::default() },
                inner: Vec::new(),
                id: ContainerId(id.into()),
                kind: LeafKind::Container,
                inode: Some(*inode),
                cpu: CpuControl {
                    weight: Some(Weight::Shares(milli_to_shares(milli))),
                    quota: Some(Quota { quota_us, period_us: 100_000 }),
                },
                memory: guaranteed.then_some(Limit::Bytes(1 << 30)),
                hugepages: BTreeMap::new(),
                processes: Some(Processes { count: 1, only: pause.then(|| "pause".into()) }),
                problems: Vec::new(),
            }
        };
        let mut containers = vec![leaf(&format!("s-{}", self.uid), 0, true)];
        for container in self.containers.iter().filter(|container| !container.exited) {
            containers.push(leaf(&container.id, container.milli, false));
        }
        PodCgroup {
            cpuset: Cpuset { path: self.directory(), ..Cpuset::default() },
            uid: PodUid(self.uid.clone()),
            qos: self.qos,
            quota: None,
            containers,
        }
    }
}
