//! What `pods` prints.

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use trimtab_domain::cpuset::CpuSet;
use trimtab_proto::node::v1alpha1 as wire;

use super::output::{Detail, printable, table};
use crate::picture::Size;

/// Who holds what, as JSON and YAML show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placements {
    /// CPUs of the shared pool, list form.
    pub shared_cpus: String,
    /// CPUs reserved for the system, list form.
    pub reserved_cpus: String,
    /// CPUs that could be given out exclusively on the empty node, list form.
    pub allocatable_cpus: String,
    /// Why pins are only observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observe_only: Option<String>,
    /// Containers that were there when the agent started, and were pinned late.
    pub late_at_start: Lateness,
    /// Containers that came while the agent ran, and were pinned late.
    pub late_later: Lateness,
    /// The pods.
    pub pods: Vec<Pod>,
}

/// Time from the creation of containers to their pin.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lateness {
    /// How many containers.
    pub count: u64,
    /// Of the last one, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seconds: Option<f64>,
    /// The longest, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_seconds: Option<f64>,
}

/// One pod.
#[derive(Debug, Serialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `Guaranteed`, `Burstable` or `BestEffort`.
    pub qos: &'static str,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// One container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// CPUs that only it may use, list form; empty: the shared pool.
    pub exclusive_cpus: String,
    /// CPUs that the kernel lets it use now, list form.
    pub effective_cpus: String,
    /// NUMA nodes that the kernel lets it use now, list form.
    pub effective_mems: String,
    /// Why it does not run as was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mispinned: Option<String>,
    /// Memory that it holds.
    pub memory: Vec<Memory>,
    /// True while it does not run and keeps what it holds for its next start; absent: it runs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
}

/// One block of memory.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// `memory`, `hugepages-2Mi` …
    pub memory_type: String,
    /// Bytes over all nodes.
    pub size_bytes: u64,
    /// NUMA nodes.
    pub numa_nodes: Vec<u32>,
}

impl From<wire::ListPlacementsResponse> for Placements {
    fn from(answer: wire::ListPlacementsResponse) -> Self {
        Self {
            shared_cpus: list(answer.shared_cpus),
            reserved_cpus: list(answer.reserved_cpus),
            allocatable_cpus: list(answer.allocatable_cpus),
            observe_only: answer.observe_only,
            late_at_start: answer.late_at_start.map(Lateness::from).unwrap_or_default(),
            late_later: answer.late_later.map(Lateness::from).unwrap_or_default(),
            pods: answer.pods.into_iter().map(Pod::from).collect(),
        }
    }
}

impl From<wire::Lateness> for Lateness {
    fn from(lateness: wire::Lateness) -> Self {
        Self {
            count: lateness.count,
            last_seconds: lateness.last.and_then(seconds),
            longest_seconds: lateness.longest.and_then(seconds),
        }
    }
}

impl From<wire::Pod> for Pod {
    fn from(pod: wire::Pod) -> Self {
        let qos = match pod.qos() {
            wire::QosClass::Guaranteed => "Guaranteed",
            wire::QosClass::Burstable => "Burstable",
            wire::QosClass::BestEffort => "BestEffort",
            wire::QosClass::Unspecified => "",
        };
        let containers = pod.containers.into_iter().map(Container::from).collect();
        Self { namespace: pod.namespace, name: pod.name, uid: pod.uid, qos, containers }
    }
}

impl From<wire::Container> for Container {
    fn from(container: wire::Container) -> Self {
        let memory = container.memory.into_iter().map(|block| Memory {
            memory_type: block.memory_type,
            size_bytes: block.size_bytes,
            numa_nodes: block.numa_nodes,
        });
        Self {
            name: container.name,
            id: container.id,
            exclusive_cpus: list(container.exclusive_cpus),
            effective_cpus: container.effective_cpus,
            effective_mems: container.effective_mems,
            mispinned: container.mispinned,
            memory: memory.collect(),
            waiting: container.waiting,
        }
    }
}

/// A duration of the wire; one out of range is nobody's.
fn seconds(duration: impl TryInto<Duration>) -> Option<f64> {
    Some(duration.try_into().ok()?.as_secs_f64())
}

fn list(cpus: Vec<u32>) -> String {
    cpus.into_iter().collect::<CpuSet>().to_string()
}

const NAME: Style = Style::new().bold();
const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Renders for people: the pools, then a line per container; if wide, with ids and memory.
#[must_use]
pub fn render(placements: &Placements, detail: Detail) -> String {
    let mut text = String::new();
    let or_none = |cpus: &str| if cpus.is_empty() { "none".to_owned() } else { cpus.to_owned() };
    let (shared, reserved) = (or_none(&placements.shared_cpus), or_none(&placements.reserved_cpus));
    let _ = writeln!(text, "CPUs: {NAME}shared{NAME:#} {shared}, {NAME}reserved{NAME:#} {reserved}");
    if let Some(reason) = &placements.observe_only {
        let _ = writeln!(text, "{DOUBT}observed only{DOUBT:#}: {}", printable(reason));
    }
    let wide = detail == Detail::Wide;
    let mut header = vec!["NAMESPACE", "POD", "CONTAINER", "QOS", "EXCLUSIVE", "RUNS ON", "MEMORY NODES"];
    header.extend(if wide { &["MEMORY", "UID", "CONTAINER ID"][..] } else { &[] });
    let mut rows = table(&header);
    for pod in &placements.pods {
        for container in &pod.containers {
            let mut row = vec![
                printable(&pod.namespace),
                printable(&pod.name),
                printable(&container.name),
                pod.qos.to_owned(),
                if container.exclusive_cpus.is_empty() { "-".to_owned() } else { container.exclusive_cpus.clone() },
                if container.waiting { "waiting".to_owned() } else { printable(&container.effective_cpus) },
                printable(&container.effective_mems),
            ];
            if wide {
                row.extend([held(&container.memory), printable(&pod.uid), printable(&container.id)]);
            }
            rows.add_row(row);
        }
    }
    let _ = writeln!(text, "{}", rows.trim_fmt());
    render_troubles(&mut text, placements);
    text
}

/// `memory 1 GiB @ 0-1`, one per block.
fn held(memory: &[Memory]) -> String {
    let block = |block: &Memory| {
        let nodes = list(block.numa_nodes.clone());
        format!("{} {} @ {nodes}", printable(&block.memory_type), Size(block.size_bytes))
    };
    if memory.is_empty() { "-".to_owned() } else { memory.iter().map(block).collect::<Vec<_>>().join(", ") }
}

fn render_troubles(text: &mut String, placements: &Placements) {
    for pod in &placements.pods {
        for (container, reason) in pod.containers.iter().filter_map(|c| Some((c, c.mispinned.as_ref()?))) {
            let name = [&pod.namespace, &pod.name, &container.name].map(|part| printable(part)).join("/");
            let _ = writeln!(text, "{DOUBT}mispinned{DOUBT:#} {name}: {}", printable(reason));
        }
    }
    for (late, when) in [(&placements.late_at_start, "when the agent started"), (&placements.late_later, "since then")]
    {
        if late.count > 0 {
            let longest = late.longest_seconds.map(|seconds| format!(", unpinned for {seconds:.3} s at most"));
            let _ = writeln!(text, "pinned late {when}: {}{}", late.count, longest.unwrap_or_default());
        }
    }
}
