//! Names of cgroups below the kubelet's root, for both drivers (kubelet `cm/cgroup_manager_linux.go`).

use crate::spec::cgroup::CgroupDriver;
use crate::workload::{ContainerId, PodUid, QosClass};

/// The kubelet's `--cgroup-root`: the cgroup in which `kubepods` lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupRoot(Vec<String>);

/// A cgroup root was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroup root {root:?} {reason}; give an absolute path such as /kubelet")]
pub struct NameError {
    /// The text.
    pub root: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl CgroupRoot {
    /// Reads an absolute path; `/` and the empty text are the root of the hierarchy.
    ///
    /// # Errors
    /// [`NameError`] for a relative path, and for `.` and `..` in it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refuse = |reason| Err(NameError { root: text.into(), reason });
        if !text.is_empty() && !text.starts_with('/') {
            return refuse("is not absolute");
        }
        let mut components = Vec::new();
        for component in text.split('/').filter(|component| !component.is_empty()) {
            if component == "." || component == ".." {
                return refuse("must not contain . or ..");
            }
            if component.contains(|c: char| c.is_control() || c.is_whitespace()) {
                return refuse("must not contain blanks");
            }
            components.push(component.to_owned());
        }
        Ok(Self(components))
    }

    /// How the tree of pods is laid out by a driver; `None` where the driver cannot express the root: a component with
    /// `_` is not reversible in the names of systemd, and the kubelet panics over it.
    #[must_use]
    pub fn layout(&self, driver: CgroupDriver) -> Option<PodsLayout> {
        if driver == CgroupDriver::Systemd && self.0.iter().any(|component| component.contains('_')) {
            return None;
        }
        let mut components = self.0.clone();
        components.push("kubepods".into());
        Some(PodsLayout { driver, components })
    }
}

/// The directories of pods under one driver. Paths have no leading slash: they are relative to a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodsLayout {
    driver: CgroupDriver,
    components: Vec<String>,
}

impl PodsLayout {
    /// The driver.
    #[must_use]
    pub const fn driver(&self) -> CgroupDriver {
        self.driver
    }

    /// The directory that holds all pods: `kubepods`, `kubepods.slice`, `foo.slice/foo-kubepods.slice` …
    #[must_use]
    pub fn root(&self) -> String {
        directory(self.driver, &self.components)
    }

    /// The directory above [`Self::root`]; empty for the mount point itself.
    #[must_use]
    pub fn parent(&self) -> String {
        match self.components.split_last() {
            Some((_, above)) => directory(self.driver, above),
            None => String::new(),
        }
    }

    /// The directory whose children are the pods of the class; for Guaranteed the root itself.
    #[must_use]
    pub fn class_directory(&self, qos: QosClass) -> String {
        directory(self.driver, &self.class_components(qos))
    }

    /// The directory of a pod.
    #[must_use]
    pub fn pod_directory(&self, qos: QosClass, uid: &PodUid) -> String {
        let mut components = self.class_components(qos);
        components.push(format!("pod{uid}"));
        directory(self.driver, &components)
    }

    /// Reads the name of a directory below that of a class; `None` if it is not a pod's.
    #[must_use]
    pub fn parse_pod(&self, qos: QosClass, name: &str) -> Option<PodUid> {
        let uid = match self.driver {
            CgroupDriver::Cgroupfs => name.strip_prefix("pod")?.to_owned(),
            CgroupDriver::Systemd => {
                let unit = name.strip_suffix(".slice")?;
                let prefix = unit_name(&self.class_components(qos));
                unit.strip_prefix(&prefix)?.strip_prefix("-pod")?.replace('_', "-")
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        (!uid.is_empty() && uid.chars().all(plain) && !uid.starts_with('.')).then_some(PodUid(uid))
    }

    fn class_components(&self, qos: QosClass) -> Vec<String> {
        let mut components = self.components.clone();
        match qos {
            QosClass::Guaranteed => {}
            QosClass::Burstable => components.push("burstable".into()),
            QosClass::BestEffort => components.push("besteffort".into()),
        }
        components
    }
}

/// Path of a cgroup by its components.
fn directory(driver: CgroupDriver, components: &[String]) -> String {
    match driver {
        CgroupDriver::Cgroupfs => components.join("/"),
        // `a-b-c.slice` lives in `a.slice/a-b.slice` (systemd.slice(5)).
        CgroupDriver::Systemd => (1..=components.len())
            .filter_map(|depth| components.get(..depth))
            .map(|above| format!("{}.slice", unit_name(above)))
            .collect::<Vec<_>>()
            .join("/"),
    }
}

/// Name of a slice without its suffix: `-` within a component becomes `_`, components are joined by `-`.
fn unit_name(components: &[String]) -> String {
    components.iter().map(|component| component.replace('-', "_")).collect::<Vec<_>>().join("-")
}

/// What a directory inside that of a pod is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKind {
    /// A container, or the sandbox of the pod: the name does not tell.
    Container,
    /// The monitor process of CRI-O, outside every container.
    Monitor,
    /// A sandbox in the making: no name tells, but that a runtime has told of everything else.
    Sandbox,
}

/// A directory inside that of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// What it is for.
    pub kind: LeafKind,
    /// The container.
    pub id: ContainerId,
    /// Prefix that the runtime wrote: `cri-containerd`, `crio`, `docker`; `None` for a plain id.
    pub runtime: Option<String>,
}

/// Digits of a container id.
const ID_DIGITS: usize = 64;

/// Reads the name of a directory inside that of a pod: `cri-containerd-<id>.scope`, `crio-<id>`, `<id>` …; `None` if it
/// does not end in the 64 hexadecimal digits of a container id.
#[must_use]
pub fn parse_leaf(name: &str) -> Option<Leaf> {
    let (name, scope) = match name.strip_suffix(".scope") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (prefix, id) = match name.rsplit_once('-') {
        Some((prefix, id)) => (Some(prefix), id),
        None => (None, name),
    };
    let hexadecimal = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    // A scope always has the name of the runtime before the id.
    if id.len() != ID_DIGITS || !id.bytes().all(hexadecimal) || (scope && prefix.is_none()) || prefix == Some("") {
        return None;
    }
    let kind = if prefix == Some("crio-conmon") { LeafKind::Monitor } else { LeafKind::Container };
    Some(Leaf { kind, id: ContainerId(id.into()), runtime: prefix.map(Into::into) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use CgroupDriver::{Cgroupfs, Systemd};
    use QosClass::{BestEffort, Burstable, Guaranteed};

    const UID: &str = "0b7c2c4e-8d3f-4a2a-9a0e-0123456789ab";

    fn layout(root: &str, driver: CgroupDriver) -> PodsLayout {
        CgroupRoot::parse(root).unwrap().layout(driver).unwrap()
    }

    #[test]
    fn directories_are_named_as_the_kubelet_names_them() {
        let unit = UID.replace('-', "_");
        let rows = [
            ("/", Systemd, Guaranteed, format!("kubepods.slice/kubepods-pod{unit}.slice")),
            (
                "",
                Systemd,
                Burstable,
                format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{unit}.slice"),
            ),
            (
                "/",
                Systemd,
                BestEffort,
                format!("kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{unit}.slice"),
            ),
            ("/", Cgroupfs, Guaranteed, format!("kubepods/pod{UID}")),
            ("/", Cgroupfs, Burstable, format!("kubepods/burstable/pod{UID}")),
            ("/", Cgroupfs, BestEffort, format!("kubepods/besteffort/pod{UID}")),
            ("/foo", Systemd, Guaranteed, format!("foo.slice/foo-kubepods.slice/foo-kubepods-pod{unit}.slice")),
            ("/foo/", Cgroupfs, Burstable, format!("foo/kubepods/burstable/pod{UID}")),
            (
                "/a-b/c",
                Systemd,
                Guaranteed,
                format!("a_b.slice/a_b-c.slice/a_b-c-kubepods.slice/a_b-c-kubepods-pod{unit}.slice"),
            ),
        ];
        for (root, driver, qos, path) in rows {
            let layout = layout(root, driver);
            let directory = layout.pod_directory(qos, &PodUid(UID.into()));
            assert_eq!(directory, path, "{root} {driver} {qos}");
            let name = directory.rsplit('/').next().unwrap();
            assert_eq!(layout.parse_pod(qos, name), Some(PodUid(UID.into())), "{root} {driver} {qos}, and back");
        }
        assert_eq!(layout("/foo", Systemd).parent(), "foo.slice");
        assert_eq!(layout("/", Cgroupfs).parent(), "");
    }

    #[test]
    fn a_static_pod_keeps_its_hash_as_uid() {
        let hash = "d4f0a2b1c3e5968778695a4b3c2d1e0f";
        let name = format!("kubepods-burstable-pod{hash}.slice");
        assert_eq!(layout("/", Systemd).parse_pod(Burstable, &name), Some(PodUid(hash.into())));
    }

    #[test]
    fn directories_of_others_are_not_pods() {
        let rows = [
            (Systemd, Guaranteed, "kubepods-burstable.slice"),
            (Systemd, Guaranteed, "kubepods-burstable-podx.slice"),
            (Systemd, Guaranteed, "kubepods-pod.slice"),
            (Systemd, Guaranteed, "kubepods-podx.scope"),
            (Systemd, Burstable, "kubepods-podx.slice"),
            (Cgroupfs, Guaranteed, "burstable"),
            (Cgroupfs, Guaranteed, "pod"),
            (Cgroupfs, Guaranteed, "pod.."),
            (Cgroupfs, Burstable, "podx y"),
            (Cgroupfs, Guaranteed, "kubepods-podx.slice"),
        ];
        for (driver, qos, name) in rows {
            assert_eq!(layout("/", driver).parse_pod(qos, name), None, "{driver} {name}");
        }
    }

    #[test]
    fn roots_that_cannot_be_are_refused() {
        for (text, part) in [("foo", "not absolute"), ("/a/../b", ". or .."), ("/./b", ". or .."), ("/a b", "blanks")] {
            let error = CgroupRoot::parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
        let underscore = CgroupRoot::parse("/a_b").unwrap();
        assert_eq!(underscore.layout(Systemd), None);
        assert_eq!(underscore.layout(Cgroupfs).unwrap().root(), "a_b/kubepods");
    }

    #[test]
    fn leaves_of_every_runtime_are_read() {
        let id = "0123456789abcdef".repeat(4);
        let rows = [
            (format!("cri-containerd-{id}.scope"), LeafKind::Container, Some("cri-containerd")),
            (format!("crio-{id}.scope"), LeafKind::Container, Some("crio")),
            (format!("crio-conmon-{id}.scope"), LeafKind::Monitor, Some("crio-conmon")),
            (format!("docker-{id}.scope"), LeafKind::Container, Some("docker")),
            (id.clone(), LeafKind::Container, None),
            (format!("crio-{id}"), LeafKind::Container, Some("crio")),
            (format!("crio-conmon-{id}"), LeafKind::Monitor, Some("crio-conmon")),
        ];
        for (name, kind, runtime) in rows {
            let leaf = Leaf { kind, id: ContainerId(id.clone()), runtime: runtime.map(Into::into) };
            assert_eq!(parse_leaf(&name), Some(leaf), "{name}");
        }
        let upper = id.to_uppercase();
        for name in [
            "container",
            "init.scope",
            &id[1..],
            &upper,
            &format!("{id}.scope"),
            &format!("-{id}"),
            &format!("crio-{id}0"),
            &format!("crio-{id}.slice"),
        ] {
            assert_eq!(parse_leaf(name), None, "{name}");
        }
    }
}
