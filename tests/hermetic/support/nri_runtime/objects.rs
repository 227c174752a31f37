//! Pods and containers as a runtime tells of them.

use trimtab_proto::nri::v1alpha1 as nri;

/// A pod of the kubelet with the cgroupfs driver.
pub(crate) fn pod(name: &str, qos: Qos) -> nri::PodSandbox {
    let uid = format!("uid-{name}");
    let parent = match qos {
        Qos::Guaranteed => format!("/kubepods/pod{uid}"),
        Qos::Burstable => format!("/kubepods/burstable/pod{uid}"),
        Qos::BestEffort => format!("/kubepods/besteffort/pod{uid}"),
    };
    let label = |key: &str, value: &str| (format!("io.kubernetes.pod.{key}"), value.to_owned());
    nri::PodSandbox {
        id: format!("sandbox-{name}"),
        name: name.into(),
        uid: uid.clone(),
        namespace: "default".into(),
        labels: [label("name", name), label("namespace", "default"), label("uid", &uid)].into(),
        linux: Some(nri::LinuxPodSandbox { cgroup_parent: parent, ..nri::LinuxPodSandbox::default() }),
        ..nri::PodSandbox::default()
    }
}

/// Class of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// A container of a pod: requests in thousandths of a CPU; with a limit as high in a Guaranteed pod.
pub(crate) fn container(pod: &nri::PodSandbox, name: &str, cpu_milli: u32) -> nri::Container {
    let parent = pod.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default();
    let guaranteed = !parent.contains("burstable") && !parent.contains("besteffort");
    let score = match (guaranteed, parent.contains("besteffort")) {
        (true, _) => -997,
        (_, true) => 1000,
        _ => 900,
    };
    let id = format!("{}-{name}", pod.id.replacen("sandbox-", "container-", 1));
    let label = |key: &str, value: &str| (format!("io.kubernetes.{key}"), value.to_owned());
    nri::Container {
        pod_sandbox_id: pod.id.clone(),
        name: name.into(),
        state: nri::ContainerState::Unknown.into(),
        labels: [
            label("container.name", name),
            label("pod.name", &pod.name),
            label("pod.namespace", &pod.namespace),
            label("pod.uid", &pod.uid),
        ]
        .into(),
        linux: Some(nri::LinuxContainer {
            resources: Some(resources(cpu_milli, guaranteed)),
            oom_score_adj: Some(nri::OptionalInt64 { value: score }),
            cgroups_path: format!("{parent}/{id}"),
        }),
        id,
        ..nri::Container::default()
    }
}

/// What the kubelet asks for.
pub(crate) fn resources(cpu_milli: u32, limited: bool) -> nri::LinuxResources {
    let milli = u64::from(cpu_milli);
    let quota = nri::OptionalInt64 { value: i64::from(cpu_milli) * 100 };
    let limit = nri::OptionalInt64 { value: 256 << 20 };
    nri::LinuxResources {
        memory: limited.then_some(nri::LinuxMemory { limit: Some(limit) }),
        cpu: Some(nri::LinuxCpu {
            shares: Some(nri::OptionalUInt64 { value: (milli * 1024 / 1000).max(2) }),
            quota: limited.then_some(quota),
            period: Some(nri::OptionalUInt64 { value: 100_000 }),
            ..nri::LinuxCpu::default()
        }),
        hugepage_limits: Vec::new(),
    }
}
