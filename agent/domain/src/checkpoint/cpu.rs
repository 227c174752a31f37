//! `cpu_manager_state`: versions 1 (container ids, up to 1.17), 2 (the default) and 3 (with pods as a whole).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::decode::Decoder;
use super::dump::{self, Fnv1a};
use super::json::{self, Json};
use super::{CheckpointError, Layout};
use crate::cpu::CpuState;
use crate::cpuset::CpuSet;
use crate::workload::{ContainerId, PodUid};

/// Containers that the runtime knew at the start: to which pod an id belongs, and the name of the container in it.
pub type InitialContainers = BTreeMap<ContainerId, (PodUid, String)>;

/// CPUs by pod and name of the container, as texts.
type Entries<'a> = BTreeMap<Cow<'a, str>, Option<BTreeMap<Cow<'a, str>, String>>>;

/// The file, field by field; keys and texts are borrowed when writing.
struct Document<'a> {
    policy: Cow<'a, str>,
    shared: String,
    entries: Option<Entries<'a>>,
    pods: Option<BTreeMap<Cow<'a, str>, Option<Cow<'a, CpuSet>>>>,
    checksum: u64,
}

/// A file of version 1.
struct Oldest {
    policy: String,
    shared: String,
    entries: Option<BTreeMap<String, String>>,
    checksum: u64,
}

/// Name under which the current layout is hashed; older kubelets know only this one.
const NAME: &str = "CPUManagerCheckpoint";

/// Writes the current layout, byte for byte as the kubelet does.
#[must_use]
pub fn write_cpu_state(policy: &str, state: &CpuState, layout: Layout) -> String {
    let entries = state.assignments.iter().map(|(pod, containers)| {
        let containers = containers.iter().map(|(name, cpus)| (Cow::from(name), cpus.to_string()));
        (Cow::from(&pod.0), Some(containers.collect()))
    });
    let pods = state.pods.iter().map(|(pod, cpus)| (Cow::from(&pod.0), Some(Cow::Borrowed(cpus))));
    let mut document = Document {
        policy: policy.into(),
        shared: state.default_cpu_set.to_string(),
        entries: Some(entries.collect()),
        pods: Some(pods.collect()),
        checksum: 0,
    };
    document.checksum = Fnv1a::of(|out| document.dump(out, NAME, layout));
    // A container takes some 60 bytes; more only costs the text a move.
    let mut text = String::with_capacity(256 + 64 * state.assignments.len());
    let written = document.json(&mut text, layout);
    debug_assert!(written.is_ok(), "a string takes every text");
    text
}

/// Reads any version and checks it against the configured policy.
///
/// # Errors
/// The error of the *oldest* layout that was tried, as the kubelet reports it.
pub fn read_cpu_state(
    bytes: &[u8],
    policy: &str,
    layout: Layout,
    initial: &InitialContainers,
) -> Result<CpuState, CheckpointError> {
    let json = json::parse(bytes)?;
    let newest = if layout == Layout::Pod { Document::decode(&json, Layout::Pod).ok() } else { None };
    let newest = newest.filter(|d| d.checksum == Fnv1a::of(|out| d.dump(out, NAME, Layout::Pod)));
    let document = match newest {
        Some(document) => document,
        None => match Document::decode(&json, Layout::Container).ok().filter(|d| d.is_intact(layout)) {
            Some(document) => document,
            None => Oldest::decode(&json)?.migrate(initial)?,
        },
    };
    document.into_state(policy)
}

impl Document<'static> {
    fn decode(json: &Json, layout: Layout) -> Result<Self, CheckpointError> {
        let mut document = Self {
            policy: Cow::default(),
            shared: String::new(),
            entries: Some(BTreeMap::new()),
            pods: Some(BTreeMap::new()),
            checksum: 0,
        };
        let fields: &[&'static str] = match layout {
            Layout::Container => &["policyName", "defaultCpuSet", "entries", "checksum"],
            Layout::Pod => &["policyName", "defaultCpuSet", "entries", "podEntries", "checksum"],
        };
        let mut decoder = Decoder::default();
        let go = ("CPUManagerCheckpoint", "state.CPUManagerCheckpoint");
        decoder.structure(json, go, fields, |decoder, field, value| match field {
            "policyName" => decoder.string(value, "string", document.policy.to_mut()),
            "defaultCpuSet" => decoder.string(value, "string", &mut document.shared),
            "entries" => decoder.map(value, "map[string]map[string]string", &mut document.entries, |d, pod, value| {
                let mut containers = None;
                d.map(value, "map[string]string", &mut containers, |d, name, value| {
                    let mut cpus = String::new();
                    d.string(value, "string", &mut cpus);
                    Some((Cow::Owned(name.to_owned()), cpus))
                });
                Some((Cow::Owned(pod.to_owned()), containers))
            }),
            "podEntries" => decoder.map(value, "state.PodCPUAssignments", &mut document.pods, |d, pod, value| {
                Some((Cow::Owned(pod.to_owned()), decode_pod(d, value).map(Cow::Owned)))
            }),
            _ => decoder.integer(value, "checksum.Checksum", &mut document.checksum),
        });
        decoder.finish().map(|()| document)
    }

    /// True if the checksum is one of those under which version 2 is accepted; 0 is accepted unseen.
    fn is_intact(&self, layout: Layout) -> bool {
        let names: &[&str] =
            if layout == Layout::Pod { &[NAME] } else { &["CPUManagerCheckpointV2", "CPUManagerCheckpoint"] };
        let sum = |name| Fnv1a::of(|out| self.dump(out, name, Layout::Container));
        self.checksum == 0 || names.iter().any(|name| self.checksum == sum(name))
    }

    fn into_state(self, policy: &str) -> Result<CpuState, CheckpointError> {
        if self.policy != policy {
            return Err(CheckpointError::OtherPolicy {
                prefix: "",
                configured: policy.to_owned(),
                stored: self.policy.into_owned(),
            });
        }
        let shared = CpuSet::parse(&self.shared)
            .map_err(|cause| CheckpointError::SharedPool { text: self.shared, cause: cause.to_string() })?;
        let mut assignments = BTreeMap::new();
        for (pod, containers) in self.entries.unwrap_or_default() {
            let pod_cpus: &mut BTreeMap<_, _> = assignments.entry(PodUid(pod.clone().into_owned())).or_default();
            for (container, text) in containers.unwrap_or_default() {
                let cpus = CpuSet::parse(&text).map_err(|cause| CheckpointError::Assignment {
                    text,
                    container: container.clone().into_owned(),
                    pod: pod.clone().into_owned(),
                    cause: cause.to_string(),
                })?;
                pod_cpus.insert(container.into_owned(), cpus);
            }
        }
        let own = |cpus: Option<Cow<'_, CpuSet>>| cpus.map(Cow::into_owned).unwrap_or_default();
        let pods = self.pods.unwrap_or_default().into_iter();
        Ok(CpuState {
            default_cpu_set: shared,
            assignments,
            pods: pods.map(|(pod, cpus)| (PodUid(pod.into_owned()), own(cpus))).collect(),
        })
    }
}

fn decode_pod(decoder: &mut Decoder, value: &Json) -> Option<CpuSet> {
    let mut cpus = None;
    let go = ("PodEntry", "state.PodEntry");
    decoder.structure(value, go, &["cpuSet"], |decoder, _, value| {
        let mut text = String::new();
        decoder.string(value, "string", &mut text);
        match CpuSet::parse(&text) {
            Ok(set) => cpus = Some(set),
            // The text of this error is never seen: an older layout is tried and reported.
            Err(_) => decoder.mismatch(value, "cpuset.CPUSet"),
        }
    });
    cpus
}

impl Document<'_> {
    fn dump<W: Write>(&self, out: &mut W, name: &str, layout: Layout) -> fmt::Result {
        write!(out, "(*state.{name}){{PolicyName:(string){} DefaultCPUSet:(string){} ", self.policy, self.shared)?;
        out.write_str("Entries:(map[string]map[string]string)")?;
        dump::map(out, self.entries.as_ref(), |out, containers| {
            dump::map(out, containers.as_ref(), |out, cpus| out.write_str(cpus))
        })?;
        if layout == Layout::Pod {
            out.write_str(" PodEntries:(state.PodCPUAssignments)")?;
            dump::map(out, self.pods.as_ref(), |out, cpus| {
                out.write_str("{CPUSet:(cpuset.CPUSet){elems:(map[int]struct {})")?;
                dump::map(out, cpus.as_ref().map(|c| c.iter().map(|cpu| (cpu, ()))), |out, ()| out.write_str("{}"))?;
                out.write_str("}}")
            })?;
        }
        out.write_str(" Checksum:(checksum.Checksum)0}")
    }

    fn json<W: Write>(&self, out: &mut W, layout: Layout) -> fmt::Result {
        out.write_str("{\"policyName\":")?;
        dump::json_string(out, &self.policy)?;
        out.write_str(",\"defaultCpuSet\":")?;
        dump::json_string(out, &self.shared)?;
        if let Some(entries) = self.entries.as_ref().filter(|e| !e.is_empty()) {
            out.write_str(",\"entries\":")?;
            dump::json_object(out, entries, |out, containers| {
                dump::json_object(out, containers.iter().flatten(), |out, cpus| dump::json_string(out, cpus))
            })?;
        }
        if let Some(pods) = self.pods.as_ref().filter(|p| layout == Layout::Pod && !p.is_empty()) {
            out.write_str(",\"podEntries\":")?;
            dump::json_object(out, pods, |out, cpus| {
                let cpus = cpus.as_deref().map(ToString::to_string).unwrap_or_default();
                write!(out, "{{\"cpuSet\":\"{cpus}\"}}")
            })?;
        }
        write!(out, ",\"checksum\":{}}}", self.checksum)
    }
}

impl Oldest {
    fn decode(json: &Json) -> Result<Self, CheckpointError> {
        let mut oldest =
            Self { policy: String::new(), shared: String::new(), entries: Some(BTreeMap::new()), checksum: 0 };
        let mut decoder = Decoder::default();
        let go = ("CPUManagerCheckpointV1", "state.CPUManagerCheckpointV1");
        let fields = ["policyName", "defaultCpuSet", "entries", "checksum"];
        decoder.structure(json, go, &fields, |decoder, field, value| match field {
            "policyName" => decoder.string(value, "string", &mut oldest.policy),
            "defaultCpuSet" => decoder.string(value, "string", &mut oldest.shared),
            "entries" => decoder.map(value, "map[string]string", &mut oldest.entries, |d, id, value| {
                let mut cpus = String::new();
                d.string(value, "string", &mut cpus);
                Some((id.to_owned(), cpus))
            }),
            _ => decoder.integer(value, "checksum.Checksum", &mut oldest.checksum),
        });
        decoder.finish()?;
        let intact = oldest.checksum == 0 || oldest.checksum == Fnv1a::of(|out| oldest.dump(out));
        if intact { Ok(oldest) } else { Err(CheckpointError::Corrupted) }
    }

    fn dump<W: Write>(&self, out: &mut W) -> fmt::Result {
        write!(out, "(*state.{NAME}){{PolicyName:(string){} DefaultCPUSet:(string){} ", self.policy, self.shared)?;
        out.write_str("Entries:(map[string]string)")?;
        dump::map(out, self.entries.as_ref(), |out, cpus| out.write_str(cpus))?;
        out.write_str(" Checksum:(checksum.Checksum)0}")
    }

    /// Names the containers by pod and name.
    fn migrate(self, initial: &InitialContainers) -> Result<Document<'static>, CheckpointError> {
        let mut entries: BTreeMap<_, Option<BTreeMap<_, _>>> = BTreeMap::new();
        for (id, cpus) in self.entries.unwrap_or_default() {
            let id = ContainerId(id);
            let Some((pod, name)) = initial.get(&id) else { return Err(CheckpointError::UnknownContainer(id.0)) };
            let pod = entries.entry(Cow::Owned(pod.0.clone())).or_default();
            pod.get_or_insert_default().insert(Cow::Owned(name.clone()), cpus);
        }
        Ok(Document {
            policy: Cow::Owned(self.policy),
            shared: self.shared,
            entries: Some(entries),
            pods: None,
            checksum: self.checksum,
        })
    }
}
