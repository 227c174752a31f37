//! What runtimes show only in the free texts of verbose answers, as JSON without a schema: read as far as it is known,
//! and never relied on.
//!
//! containerd `internal/cri/types`, `internal/cri/config`; CRI-O `server/container_status.go`.

use std::collections::BTreeMap;

use serde::Deserialize;
use trimtab_domain::cgroup::tree::hugepage_resource;
use trimtab_domain::cgroup::{Component, Configured};
use trimtab_domain::roster::ToldResources;
use trimtab_domain::roster::isolation::HandlerTypes;
use trimtab_domain::spec::cgroup::CgroupDriver;

/// `info` of `ContainerStatus` and of `PodSandboxStatus`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ObjectInfo {
    /// First process, in the runtime's PID namespace.
    pub(super) pid: Option<u32>,
    /// `io.containerd.runc.v2` …
    pub(super) runtime_type: Option<String>,
    runtime_spec: Option<OciSpec>,
    config: Option<Config>,
}

/// The OCI runtime specification, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OciSpec {
    process: Option<OciProcess>,
    linux: Option<OciLinux>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OciProcess {
    oom_score_adj: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OciLinux {
    cgroups_path: Option<String>,
    resources: Option<OciResources>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OciResources {
    cpu: Option<OciCpu>,
    memory: Option<OciMemory>,
    hugepage_limits: Option<Vec<OciHugepages>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct OciCpu {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
    cpus: Option<String>,
    mems: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct OciMemory {
    limit: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct OciHugepages {
    page_size: String,
    limit: u64,
}

/// The kubelet's request for a sandbox or a container, with the names of the protocol.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Config {
    linux: Option<ConfigLinux>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ConfigLinux {
    cgroup_parent: Option<String>,
    resources: Option<ConfigResources>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct ConfigResources {
    cpu_period: i64,
    cpu_quota: i64,
    cpu_shares: i64,
    memory_limit_in_bytes: i64,
}

impl ObjectInfo {
    /// Reads the text; one that is not understood tells nothing.
    pub(super) fn parse(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// First process; 0 where none runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.pid.filter(|pid| *pid > 0)
    }

    /// `linux.cgroupsPath`.
    pub(super) fn cgroups_path(&self) -> &str {
        self.linux().and_then(|linux| linux.cgroups_path.as_deref()).unwrap_or_default()
    }

    /// The cgroup that the kubelet chose for the pod: by its request, else by the place of the sandbox's own cgroup.
    pub(super) fn cgroup_parent(&self) -> String {
        let asked = self.config.as_ref().and_then(|config| config.linux.as_ref()?.cgroup_parent.clone());
        asked.filter(|parent| !parent.is_empty()).unwrap_or_else(|| {
            let path = self.cgroups_path();
            let parent = match path.split_once(':') {
                Some((slice, _)) => slice,
                None => path.rsplit_once('/').map(|(parent, _)| parent).unwrap_or_default(),
            };
            parent.to_owned()
        })
    }

    /// What the kubelet reckoned for the pod as a whole; absent where it told nothing (before Kubernetes 1.23).
    pub(super) fn pod_resources(&self) -> Option<ToldResources> {
        let told = self.asked()?;
        let unsigned = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        Some(ToldResources {
            cpu_shares: unsigned(told.cpu_shares),
            cpu_quota_us: Some(told.cpu_quota),
            cpu_period_us: unsigned(told.cpu_period),
            memory_limit_bytes: Some(told.memory_limit_in_bytes),
            ..ToldResources::default()
        })
    }

    /// Resources of the specification, which the runtime rewrites with each update; absent where it is not shown.
    pub(super) fn resources(&self) -> Option<ToldResources> {
        let spec = self.runtime_spec.as_ref()?;
        let resources = spec.linux.as_ref()?.resources.as_ref()?;
        let cpu = resources.cpu.clone().unwrap_or_default();
        let pages = resources.hugepage_limits.iter().flatten();
        Some(ToldResources {
            cpu_shares: cpu.shares,
            cpu_quota_us: Some(cpu.quota.unwrap_or(0)),
            made_with_quota_us: self.asked().map(|asked| asked.cpu_quota),
            cpu_period_us: cpu.period,
            memory_limit_bytes: Some(resources.memory.as_ref().and_then(|memory| memory.limit).unwrap_or(0)),
            // containerd 1.x appends with each update, so the last one counts.
            hugepage_limits: pages
                .filter_map(|pages| Some((hugepage_resource(&pages.page_size)?, pages.limit)))
                .collect(),
            cpus: cpu.cpus.unwrap_or_default(),
            mems: cpu.mems.unwrap_or_default(),
            oom_score_adj: spec.process.as_ref().and_then(|process| process.oom_score_adj),
        })
    }

    /// What the kubelet asked for when the object was made (containerd).
    fn asked(&self) -> Option<&ConfigResources> {
        self.config.as_ref()?.linux.as_ref()?.resources.as_ref()
    }

    fn linux(&self) -> Option<&OciLinux> {
        self.runtime_spec.as_ref()?.linux.as_ref()
    }
}

/// `config` of containerd's `Status`: the configuration that is in force.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct RuntimeInfo {
    containerd: Containerd,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Containerd {
    default_runtime_name: String,
    runtimes: BTreeMap<String, Handler>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Handler {
    runtime_type: String,
    options: Option<Options>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Options {
    systemd_cgroup: Option<bool>,
}

impl RuntimeInfo {
    /// Reads the text; `None` for one that names no handler.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|info: &Self| !info.containerd.runtimes.is_empty())
    }

    /// Handler of pods without a RuntimeClass.
    pub(super) fn default_handler(&self) -> Option<String> {
        Some(self.containerd.default_runtime_name.clone()).filter(|name| !name.is_empty())
    }

    /// Types by handler, that of the default under the empty name too.
    pub(super) fn handler_types(&self) -> HandlerTypes {
        let runtimes = &self.containerd.runtimes;
        let mut types: BTreeMap<_, _> =
            runtimes.iter().map(|(name, handler)| (name.clone(), handler.runtime_type.clone())).collect();
        if let Some(default) = runtimes.get(&self.containerd.default_runtime_name) {
            types.insert(String::new(), default.runtime_type.clone());
        }
        HandlerTypes(types)
    }

    /// Drivers of the handlers that are runc by type.
    pub(super) fn drivers(&self, source: &str) -> Vec<Configured> {
        let runc = self.containerd.runtimes.iter().filter(|(_, handler)| handler.runtime_type.contains(".runc."));
        runc.map(|(name, handler)| {
            let systemd = handler.options.as_ref().and_then(|options| options.systemd_cgroup).unwrap_or(false);
            Configured {
                component: Component::Containerd {
                    handler: name.clone(),
                    default: *name == self.containerd.default_runtime_name,
                },
                driver: if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs },
                source: source.into(),
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
