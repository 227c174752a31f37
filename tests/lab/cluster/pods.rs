//! Pods as a kubelet with `cpuManagerPolicy: none` runs them: what it tells the runtime of each QoS class.

use std::collections::HashMap;
use std::path::Path;

use tonic::Status;

use super::cri::{
    ContainerConfig, ContainerMetadata, ContainerRequest, CreateContainerRequest, CreateContainerResponse, Cri,
    ImageSpec, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    NamespaceOption, Nothing, PodSandboxConfig, PodSandboxMetadata, PodSandboxRequest, RunPodSandboxRequest,
    RunPodSandboxResponse, SecurityContext, StopContainerRequest, UpdateContainerResourcesRequest,
};

/// Namespace mode of CRI: the container's own.
const OWN: i32 = 1;
/// Namespace mode of CRI: the node's.
const NODE: i32 = 2;
/// CFS period in microseconds, the kubelet's default.
const PERIOD: i64 = 100_000;

/// What a container runs.
const WAITS: &str = "sleep 2147483647 & wait";
/// The same, with more than a megabyte of its own.
const TOUCHES: &str = "text=$(cat /bin/busybox); sleep 2147483647 & wait";

/// Name of an ephemeral container, which asks for nothing and does not count for the class of its pod.
pub(crate) const DEBUGGER: &str = "debugger";

/// What one container asks for; 0: nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) request_milli: i64,
    pub(crate) limit_milli: i64,
    pub(crate) memory_limit: i64,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) wishes: Vec<Wish>,
    /// True if its process fills memory of its own before it waits.
    pub(crate) touches: bool,
}

impl Pod {
    fn of_one(number: u32, wish: Wish) -> Self {
        let uid = format!("{number:08x}-0000-4000-8000-000000000000");
        Self { name: format!("pod-{number}"), uid, wishes: vec![wish], touches: false }
    }

    /// Guaranteed, one container `app` of so many thousandths of a CPU.
    pub(crate) fn guaranteed(number: u32, milli: i64) -> Self {
        let memory_limit = 32 << 20;
        Self::of_one(number, Wish { name: "app".into(), request_milli: milli, limit_milli: milli, memory_limit })
    }

    /// Burstable: a request without a limit.
    pub(crate) fn burstable(number: u32, milli: i64) -> Self {
        Self::of_one(number, Wish { name: "app".into(), request_milli: milli, limit_milli: 0, memory_limit: 0 })
    }

    /// `BestEffort`: no request at all.
    pub(crate) fn best_effort(number: u32) -> Self {
        Self::of_one(number, Wish { name: "app".into(), request_milli: 0, limit_milli: 0, memory_limit: 0 })
    }

    /// The pod when somebody looks into it (`kubectl debug`).
    #[allow(dead_code, reason = "the lab has other things to look at")]
    pub(crate) fn debugged(mut self) -> Self {
        let name = DEBUGGER.to_owned();
        self.wishes.push(Wish { name, request_milli: 0, limit_milli: 0, memory_limit: 0 });
        self
    }

    /// The QoS class in the words of cgroup names; Guaranteed has none.
    fn class(&self) -> Option<&'static str> {
        let nothing = |wish: &Wish| (wish.request_milli, wish.limit_milli, wish.memory_limit) == (0, 0, 0);
        let bound =
            |wish: &Wish| wish.limit_milli > 0 && wish.memory_limit > 0 && wish.request_milli == wish.limit_milli;
        let counts = || self.wishes.iter().filter(|wish| wish.name != DEBUGGER);
        match () {
            () if counts().all(nothing) => Some("besteffort"),
            () if counts().all(bound) => None,
            () => Some("burstable"),
        }
    }

    /// Whole CPUs that a static policy gives the container exclusively.
    pub(crate) fn exclusive_cpus(&self, container: &str) -> usize {
        let wish = self.wishes.iter().find(|wish| wish.name == container).unwrap();
        let whole = self.class().is_none() && wish.request_milli % 1000 == 0;
        if whole { usize::try_from(wish.request_milli / 1000).unwrap() } else { 0 }
    }
}

/// How the kubelet names cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Paths below a root (empty: that of the machine).
    Cgroupfs { root: String },
    /// Slices.
    Systemd,
}

/// Asks the runtime for pods.
pub(crate) struct Kubelet {
    pub(crate) cri: Cri,
    driver: Driver,
}

impl Kubelet {
    pub(crate) fn new(socket: &Path, driver: Driver) -> Self {
        Self { cri: Cri::connect(socket).unwrap(), driver }
    }

    fn cgroup_parent(&self, pod: &Pod) -> String {
        match (&self.driver, pod.class()) {
            (Driver::Cgroupfs { root }, None) => format!("{root}/kubepods/pod{}", pod.uid),
            (Driver::Cgroupfs { root }, Some(class)) => format!("{root}/kubepods/{class}/pod{}", pod.uid),
            (Driver::Systemd, None) => format!("kubepods-pod{}.slice", pod.uid.replace('-', "_")),
            (Driver::Systemd, Some(class)) => format!("kubepods-{class}-pod{}.slice", pod.uid.replace('-', "_")),
        }
    }

    fn sandbox_config(&self, pod: &Pod) -> PodSandboxConfig {
        let options = NamespaceOption { network: NODE, pid: OWN };
        let sum = Wish {
            name: String::new(),
            request_milli: pod.wishes.iter().map(|wish| wish.request_milli).sum(),
            limit_milli: pod.wishes.iter().map(|wish| wish.limit_milli).sum(),
            memory_limit: pod.wishes.iter().map(|wish| wish.memory_limit).sum(),
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                namespace: "default".into(),
                attempt: 0,
            }),
            log_directory: format!("/var/log/pods/default_{}_{}", pod.name, pod.uid),
            labels: labels(pod),
            annotations: HashMap::from([("kubernetes.io/config.source".into(), "api".into())]),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent(pod),
                security_context: Some(SecurityContext { namespace_options: Some(options) }),
                resources: Some(resources(&sum, pod.class())),
            }),
        }
    }

    /// Runs the sandbox of a pod; its id.
    pub(crate) fn sandbox(&self, pod: &Pod) -> Result<String, Status> {
        let request = RunPodSandboxRequest { config: Some(self.sandbox_config(pod)) };
        Ok(self.cri.call::<RunPodSandboxResponse>("RunPodSandbox", request)?.pod_sandbox_id)
    }

    /// Creates a container of a pod; its id. `attempt` counts the restarts.
    pub(crate) fn create(&self, pod: &Pod, sandbox: &str, container: &str, attempt: u32) -> Result<String, Status> {
        let wish = pod.wishes.iter().find(|wish| wish.name == container).unwrap();
        let mut labels = labels(pod);
        labels.insert("io.kubernetes.container.name".into(), container.into());
        let count = ("io.kubernetes.container.restartCount".into(), attempt.to_string());
        let options = NamespaceOption { network: NODE, pid: OWN };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: container.into(), attempt }),
            image: Some(ImageSpec { image: "localhost/app:1".into() }),
            // Two processes, so that a set that reaches the first one only is noticed.
            command: ["/bin/sh", "-c", if pod.touches { TOUCHES } else { WAITS }].map(str::to_owned).to_vec(),
            labels,
            annotations: HashMap::from([count]),
            log_path: format!("{container}/{attempt}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(resources(wish, pod.class())),
                security_context: Some(LinuxContainerSecurityContext { namespace_options: Some(options) }),
            }),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(self.sandbox_config(pod)),
        };
        Ok(self.cri.call::<CreateContainerResponse>("CreateContainer", request)?.container_id)
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), Status> {
        self.cri.call("StartContainer", ContainerRequest { container_id: id.into() }).map(|Nothing {}| ())
    }

    /// Kills a container at once.
    pub(crate) fn stop(&self, id: &str) -> Result<(), Status> {
        self.cri
            .call("StopContainer", StopContainerRequest { container_id: id.into(), timeout: 0 })
            .map(|Nothing {}| ())
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), Status> {
        self.cri.call("RemoveContainer", ContainerRequest { container_id: id.into() }).map(|Nothing {}| ())
    }

    /// Ends a pod with all its containers.
    pub(crate) fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = PodSandboxRequest { pod_sandbox_id: id.into() };
        self.cri.call("StopPodSandbox", request.clone()).map(|Nothing {}| ())?;
        self.cri.call("RemovePodSandbox", request).map(|Nothing {}| ())
    }

    /// What the kubelet sends for an in-place resize: shares, quota and memory, no sets.
    pub(crate) fn resize(&self, pod: &Pod, container: &str, id: &str) -> Result<(), Status> {
        let wish = pod.wishes.iter().find(|wish| wish.name == container).unwrap();
        let linux = LinuxContainerResources { oom_score_adj: 0, ..resources(wish, pod.class()) };
        let request = UpdateContainerResourcesRequest { container_id: id.into(), linux: Some(linux) };
        self.cri.call("UpdateContainerResources", request).map(|Nothing {}| ())
    }
}

fn labels(pod: &Pod) -> HashMap<String, String> {
    let of_pod = [("name", pod.name.clone()), ("namespace", "default".to_owned()), ("uid", pod.uid.clone())];
    of_pod.into_iter().map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value)).collect()
}

/// The kubelet's own conversion (`MilliCPUToShares`, `MilliCPUToQuota`).
fn resources(wish: &Wish, class: Option<&str>) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: if wish.limit_milli == 0 { 0 } else { (wish.limit_milli * PERIOD / 1000).max(1000) },
        cpu_shares: (wish.request_milli * 1024 / 1000).max(2),
        memory_limit_in_bytes: wish.memory_limit,
        oom_score_adj: match class {
            None => -997,
            Some("burstable") => 900,
            Some(_) => 1000,
        },
        ..LinuxContainerResources::default()
    }
}
