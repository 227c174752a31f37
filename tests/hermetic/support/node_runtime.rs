//! A container runtime on the node in memory, as far as it matters to who runs where: it asks before it creates, does
//! what it is answered before the container runs, and tells of every end. What it does not model: frames and calls
//! (`nri_runtime` has those), and failures of what it was told to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use trimtab::ports::admission::{Admission, CpusetUpdate, Lifecycle, Refused, RuntimePeer};
use trimtab_domain::cgroup::{milli_to_quota, milli_to_shares};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::roster::{ContainerState, Sandbox, SandboxContainer, SandboxId, ToldResources};
use trimtab_domain::workload::{ContainerId, Labels, PodUid, QosClass};

use super::fake_cgroups::{Ask, FakeCgroups};

/// A container that was made, alive or not.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) container: SandboxContainer,
    pub(crate) path: String,
    pub(crate) ask: Ask,
}

/// A pod.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) sandbox: Sandbox,
    pub(crate) qos: QosClass,
    pub(crate) path: String,
    /// By name; the last one of each.
    pub(crate) containers: BTreeMap<String, Made>,
}

/// The runtime.
pub(crate) struct NodeRuntime {
    pub(crate) node: FakeCgroups,
    /// Whom it asks; absent: nobody has registered.
    pub(crate) plugin: Option<Arc<dyn Admission>>,
    pub(crate) pods: BTreeMap<String, Pod>,
    /// True if the node has links to the logs, which tell names.
    pub(crate) links: bool,
    made: u32,
}

impl NodeRuntime {
    pub(crate) fn new(node: &FakeCgroups) -> Self {
        Self { node: node.clone(), plugin: None, pods: BTreeMap::new(), links: true, made: 0 }
    }

    /// Somebody registers, and is told of everything that runs.
    pub(crate) fn connect(&mut self, plugin: Arc<dyn Admission>) {
        plugin.connected(&RuntimePeer {
            name: "containerd".into(),
            version: "1.7.24".into(),
            nri: Some((0, 8, 0)),
            safe_unsolicited_updates: false,
        });
        let sandboxes = self.pods.values().map(|pod| pod.sandbox.clone()).collect();
        // Like containerd: those that have exited are not told.
        let containers = self.pods.values().flat_map(|pod| pod.containers.values());
        let alive = containers.filter(|made| made.container.state != ContainerState::Exited);
        let updates = plugin.synchronize(sandboxes, alive.map(|made| made.container.clone()).collect());
        self.plugin = Some(plugin);
        self.carry_out(&updates);
    }

    /// The session ends.
    pub(crate) fn disconnect(&mut self) {
        if let Some(plugin) = self.plugin.take() {
            plugin.disconnected();
        }
    }

    /// A pod with its sandbox.
    pub(crate) fn run_pod(&mut self, qos: QosClass, uid: &str, annotations: &[(&str, &str)]) {
        let path = self.node.pod(qos, uid);
        let sandbox = Sandbox {
            id: SandboxId(super::fake_cgroups::id(uid, 0)),
            uid: PodUid(uid.into()),
            namespace: "shop".into(),
            name: format!("pod-{uid}"),
            labels: Labels::default(),
            annotations: annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            runtime_handler: String::new(),
            cgroup_parent: format!("/{path}"),
            ready: true,
            created_at_ns: 0,
            pod_resources: None,
        };
        if let Some(plugin) = &self.plugin {
            plugin.event(Lifecycle::SandboxStarted, &sandbox, None);
        }
        self.pods.insert(uid.into(), Pod { sandbox, qos, path, containers: BTreeMap::new() });
    }

    /// Makes and starts a container, or the next one of that name.
    pub(crate) fn create(&mut self, uid: &str, name: &str, ask: Ask) -> Result<(), Refused> {
        self.made += 1;
        let number = self.made;
        let pod = self.pods.get(uid).unwrap().clone();
        let mut container = SandboxContainer {
            id: ContainerId(super::fake_cgroups::id(uid, number)),
            sandbox: pod.sandbox.id.clone(),
            name: name.into(),
            state: ContainerState::Created,
            created_at_ns: i64::from(number),
            pid: None,
            cgroups_path: String::new(),
            labels: Labels::default(),
            annotations: Labels::default(),
            resources: Some(told(ask, pod.qos)),
        };
        let mut answer = trimtab::ports::admission::Created::default();
        if let Some(plugin) = &self.plugin {
            answer = plugin.create(&pod.sandbox, &container)?;
        }
        self.carry_out(&answer.updates);
        let linked = self.links.then_some(name);
        let path = self.node.leaf(&pod.path, (&container.id.0, linked), ask, pod.qos);
        let resources = container.resources.as_mut().unwrap();
        if let Some(cpus) = &answer.cpus {
            assert!(!cpus.is_empty(), "an empty set cannot be told");
            self.node.drift(&path, "cpuset.cpus", &cpus.to_string());
            resources.cpus = cpus.to_string();
        }
        if let Some(mems) = &answer.mems {
            self.node.drift(&path, "cpuset.mems", &mems.to_string());
            resources.mems = mems.to_string();
        }
        container.state = ContainerState::Running;
        if let Some(plugin) = &self.plugin {
            plugin.event(Lifecycle::ContainerStarted, &pod.sandbox, Some(&container));
        }
        let made = Made { container, path, ask };
        let before = self.pods.get_mut(uid).unwrap().containers.insert(name.into(), made);
        // The kubelet removes the one before once the new one runs.
        if let (Some(before), Some(plugin)) = (before, &self.plugin) {
            plugin.event(Lifecycle::ContainerRemoved, &pod.sandbox, Some(&before.container));
        }
        Ok(())
    }

    /// A container ends.
    pub(crate) fn exit(&mut self, uid: &str, name: &str) {
        let pod = self.pods.get_mut(uid).unwrap();
        let made = pod.containers.get_mut(name).unwrap();
        made.container.state = ContainerState::Exited;
        let (sandbox, made) = (pod.sandbox.clone(), made.clone());
        self.node.vanish(&made.path);
        if let Some(plugin) = &self.plugin {
            let updates = plugin.stop(&sandbox, &made.container);
            self.carry_out(&updates);
        }
    }

    /// A pod ends and is removed.
    pub(crate) fn stop_pod(&mut self, uid: &str) {
        let names: Vec<String> = self.pods[uid].containers.keys().cloned().collect();
        for name in names {
            if self.pods[uid].containers[&name].container.state != ContainerState::Exited {
                self.exit(uid, &name);
            }
        }
        let pod = self.pods.remove(uid).unwrap();
        self.node.vanish(&pod.path);
        if let Some(plugin) = &self.plugin {
            let over = Sandbox { ready: false, ..pod.sandbox };
            plugin.event(Lifecycle::SandboxStopped, &over, None);
            for made in pod.containers.values() {
                plugin.event(Lifecycle::ContainerRemoved, &over, Some(&made.container));
            }
            plugin.event(Lifecycle::SandboxRemoved, &over, None);
        }
    }

    /// The kubelet resizes a container in place.
    pub(crate) fn resize(&mut self, uid: &str, name: &str, ask: Ask) -> Result<(), Refused> {
        let pod = self.pods.get(uid).unwrap().clone();
        let made = pod.containers[name].clone();
        let full = told(ask, pod.qos);
        let asked = ToldResources { oom_score_adj: None, ..full.clone() };
        if let Some(plugin) = &self.plugin {
            let updates = plugin.update(&pod.sandbox, &made.container, &asked)?;
            self.carry_out(&updates);
        }
        self.node.set_bounds(&made.path, ask, pod.qos);
        let made = self.pods.get_mut(uid).unwrap().containers.get_mut(name).unwrap();
        let sets = made.container.resources.clone().unwrap();
        made.container.resources = Some(ToldResources { cpus: sets.cpus, mems: sets.mems, ..full });
        made.ask = ask;
        Ok(())
    }

    /// Somebody asks the runtime to change the CPUs of a container (CRI); returns what it ends up with.
    pub(crate) fn change_cpus(&mut self, uid: &str, name: &str, cpus: &str) -> Result<CpuSet, Refused> {
        let pod = self.pods.get(uid).unwrap().clone();
        let made = pod.containers[name].clone();
        let asked = ToldResources { cpus: cpus.into(), ..ToldResources::default() };
        let mut updates = vec![CpusetUpdate {
            id: made.container.id.clone(),
            cpus: Some(CpuSet::parse(cpus).unwrap()),
            mems: None,
            lift_quota: false,
        }];
        if let Some(plugin) = &self.plugin {
            let answered = plugin.update(&pod.sandbox, &made.container, &asked)?;
            // An entry for the container itself overrides the request.
            if answered.iter().any(|update| update.id == made.container.id && update.cpus.is_some()) {
                updates.clear();
            }
            updates.extend(answered);
        }
        self.carry_out(&updates);
        Ok(self.node.effective(&made.path))
    }

    /// Every living container: pod, name, and what was made.
    pub(crate) fn living(&self) -> Vec<(&Pod, &str, &Made)> {
        let pods = self.pods.values();
        let all = pods.flat_map(|pod| pod.containers.iter().map(move |(name, made)| (pod, name.as_str(), made)));
        all.filter(|(_, _, made)| made.container.state != ContainerState::Exited).collect()
    }

    fn carry_out(&mut self, updates: &[CpusetUpdate]) {
        for update in updates {
            let containers = self.pods.values_mut().flat_map(|pod| pod.containers.values_mut());
            // An unknown container is skipped in silence.
            let Some(made) = containers.into_iter().find(|made| made.container.id == update.id) else { continue };
            if made.container.state == ContainerState::Exited {
                continue;
            }
            let resources = made.container.resources.as_mut().unwrap();
            if let Some(cpus) = &update.cpus {
                assert!(!cpus.is_empty(), "an empty set cannot be told");
                self.node.drift(&made.path, "cpuset.cpus", &cpus.to_string());
                resources.cpus = cpus.to_string();
            }
            if let Some(mems) = &update.mems {
                self.node.drift(&made.path, "cpuset.mems", &mems.to_string());
                resources.mems = mems.to_string();
            }
        }
    }
}

/// What the kubelet tells a runtime of a container.
pub(crate) fn told(ask: Ask, qos: QosClass) -> ToldResources {
    let guaranteed = qos == QosClass::Guaranteed;
    ToldResources {
        cpu_shares: Some(milli_to_shares(ask.milli)),
        cpu_quota_us: guaranteed
            .then(|| milli_to_quota(ask.milli, 100_000))
            .flatten()
            .map(|quota| i64::try_from(quota).unwrap()),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: ask.memory.map(|bytes| i64::try_from(bytes).unwrap()),
        oom_score_adj: Some(match qos {
            QosClass::Guaranteed => -997,
            QosClass::Burstable => 900,
            QosClass::BestEffort => 1000,
        }),
        ..ToldResources::default()
    }
}
