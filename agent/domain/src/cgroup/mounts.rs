//! Where the cgroup hierarchies are mounted, from a mountinfo text (`proc_pid_mountinfo(5)`).

use std::collections::BTreeMap;
use std::fmt;

/// Version of one hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// One of several hierarchies, file system type `cgroup`.
    V1,
    /// The unified hierarchy, file system type `cgroup2`.
    V2,
}

/// Which hierarchies a node has, as Kubernetes names the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CgroupMode {
    /// Version 1 controllers only.
    V1,
    /// The unified hierarchy only.
    V2,
    /// Version 1 controllers, and the unified hierarchy for processes only; counts as v1 for Kubernetes.
    Hybrid,
}

impl CgroupMode {
    /// `v1`, `v2` or `hybrid`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for CgroupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Absolute path of the mount point.
    pub mount: String,
    /// Version.
    pub version: Version,
}

/// A mountinfo text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountsError {
    /// A line without the ` - ` that ends the optional fields.
    #[error("mountinfo line {line} has no separator: {text:?}")]
    NoSeparator {
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A line with too few fields.
    #[error("mountinfo line {line} has too few fields: {text:?}")]
    TooShort {
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// `\` that is not followed by three octal digits.
    #[error("mountinfo line {line} has a bad escape in {text:?}")]
    Escape {
        /// Number of the line, from 1.
        line: usize,
        /// The field.
        text: String,
    },
}

/// The cgroup mounts of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupMounts {
    unified: Option<Mounted>,
    controllers: BTreeMap<String, Mounted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    point: String,
    /// True if the mount shows the whole hierarchy, not a subtree of it.
    whole: bool,
}

/// Super block options of a version 1 mount that are not names of controllers (cgroups-v1, section 2.1).
const V1_OPTIONS: [&str; 9] =
    ["rw", "ro", "none", "all", "noprefix", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods"];

impl CgroupMounts {
    /// Reads a mountinfo text. Of several mounts of one hierarchy the first that shows all of it counts, else the
    /// first.
    ///
    /// # Errors
    /// [`MountsError`] for a line that no kernel writes.
    pub fn parse(mountinfo: &str) -> Result<Self, MountsError> {
        let mut mounts = Self::default();
        for (index, text) in mountinfo.lines().enumerate() {
            let line = index + 1;
            let short = || MountsError::TooShort { line, text: text.into() };
            let (left, right) =
                text.split_once(" - ").ok_or_else(|| MountsError::NoSeparator { line, text: text.into() })?;
            let mut left = left.split(' ').skip(3);
            let (root, point) = (left.next().ok_or_else(short)?, left.next().ok_or_else(short)?);
            let mut right = right.split(' ');
            let kind = right.next().ok_or_else(short)?;
            if kind != "cgroup" && kind != "cgroup2" {
                continue;
            }
            let options = right.nth(1).ok_or_else(short)?;
            let mounted = Mounted { point: unescape(point, line)?, whole: root == "/" };
            if kind == "cgroup2" {
                prefer_whole(&mut mounts.unified, mounted);
                continue;
            }
            for name in options.split(',').filter(|option| !V1_OPTIONS.contains(option)) {
                if !name.is_empty() && !name.starts_with("release_agent=") {
                    let mut slot = mounts.controllers.remove(name);
                    prefer_whole(&mut slot, mounted.clone());
                    mounts.controllers.extend(slot.map(|mount| (name.to_owned(), mount)));
                }
            }
        }
        Ok(mounts)
    }

    /// The mode; `None` if no hierarchy is mounted. A version 1 hierarchy without a controller (`name=systemd`) beside
    /// the unified one does not make a node hybrid.
    #[must_use]
    pub fn mode(&self) -> Option<CgroupMode> {
        let v1 = self.controllers.keys().any(|name| !name.starts_with("name="));
        match (v1, self.unified.is_some()) {
            (true, true) => Some(CgroupMode::Hybrid),
            (true, false) => Some(CgroupMode::V1),
            (false, true) => Some(CgroupMode::V2),
            (false, false) => None,
        }
    }

    /// The hierarchy that has the controller (`cpuset`, `cpu`, `name=systemd` …): its own one of version 1, else the
    /// unified one, which may lack it.
    #[must_use]
    pub fn hierarchy_of(&self, controller: &str) -> Option<Hierarchy> {
        if let Some(mounted) = self.controllers.get(controller) {
            return Some(Hierarchy { mount: mounted.point.clone(), version: Version::V1 });
        }
        let unified = self.unified.as_ref()?;
        Some(Hierarchy { mount: unified.point.clone(), version: Version::V2 })
    }

    /// Names of the version 1 controllers with their mount points, in byte order; named hierarchies among them.
    pub fn controllers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.controllers.iter().map(|(name, mounted)| (name.as_str(), mounted.point.as_str()))
    }

    /// Mount point of the unified hierarchy.
    #[must_use]
    pub fn unified(&self) -> Option<&str> {
        self.unified.as_ref().map(|mounted| mounted.point.as_str())
    }
}

fn prefer_whole(slot: &mut Option<Mounted>, candidate: Mounted) {
    match slot {
        Some(present) if present.whole || !candidate.whole => {}
        _ => *slot = Some(candidate),
    }
}

/// Undoes the octal escapes that the kernel uses for space, tab, newline and backslash.
fn unescape(field: &str, line: usize) -> Result<String, MountsError> {
    let bad = || MountsError::Escape { line, text: field.into() };
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3).ok_or_else(bad)?;
        let code = u8::from_str_radix(digits, 8).map_err(|_| bad())?;
        if !code.is_ascii() {
            return Err(bad());
        }
        text.push(char::from(code));
        text.push_str(rest);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n";
    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_mode_follows_from_the_mounts() {
        let hybrid = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let named = format!("{V2}40 31 0:37 / /run/systemd-v1 rw - cgroup cgroup rw,name=systemd\n");
        let rows = [
            ("v1", V1, Some(CgroupMode::V1)),
            ("v2", V2, Some(CgroupMode::V2)),
            ("hybrid", hybrid.as_str(), Some(CgroupMode::Hybrid)),
            ("a named hierarchy alone is not hybrid", named.as_str(), Some(CgroupMode::V2)),
            ("none", "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n", None),
            ("empty", "", None),
        ];
        for (name, text, mode) in rows {
            assert_eq!(CgroupMounts::parse(text).unwrap().mode(), mode, "{name}");
        }
    }

    #[test]
    fn a_controller_is_found_in_its_own_hierarchy_first() {
        let mounts = CgroupMounts::parse(V1).unwrap();
        let at = |mount: &str, version| Some(Hierarchy { mount: mount.into(), version });
        assert_eq!(mounts.hierarchy_of("cpuacct"), at("/sys/fs/cgroup/cpu,cpuacct", Version::V1));
        assert_eq!(mounts.hierarchy_of("cpuset"), at("/sys/fs/cgroup/cpuset", Version::V1));
        assert_eq!(mounts.hierarchy_of("hugetlb"), None);
        assert_eq!(CgroupMounts::parse(V2).unwrap().hierarchy_of("cpu"), at("/sys/fs/cgroup", Version::V2));
        assert_eq!(mounts.controllers().count(), 4);
    }

    #[test]
    fn a_mount_of_the_whole_hierarchy_wins_over_a_subtree() {
        let text = "1 1 0:1 /kubepods /mnt/a\\040b rw - cgroup2 c rw\n2 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n";
        assert_eq!(CgroupMounts::parse(text).unwrap().unified(), Some("/sys/fs/cgroup"));
        let first = text.lines().next().unwrap();
        assert_eq!(CgroupMounts::parse(first).unwrap().unified(), Some("/mnt/a b"));
    }

    #[test]
    fn lines_that_no_kernel_writes_are_refused() {
        let rows = [
            ("separator", "36 35 98:0 / /mnt rw ext3 /dev/root rw", "has no separator"),
            ("short left", "36 35 98:0 - cgroup cgroup rw", "too few fields"),
            ("no options", "36 35 98:0 / /mnt rw - cgroup cgroup", "too few fields"),
            ("escape", "36 35 98:0 / /mnt\\9 rw - cgroup2 c rw", "bad escape"),
            ("escape beyond ascii", "36 35 98:0 / /mnt\\377 rw - cgroup2 c rw", "bad escape"),
        ];
        for (name, text, part) in rows {
            let error = CgroupMounts::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
