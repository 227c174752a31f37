//! One bound of one cgroup: the file that holds it, how its text is compared, and the property that systemd has for it.

use std::fmt;

use crate::cgroup::Version;
use crate::cpuset::CpuSet;

/// What is bounded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// Share of CPU time among siblings.
    CpuWeight,
    /// Memory in bytes.
    Memory,
    /// Number of tasks.
    Pids,
    /// Huge pages of one size in bytes; the size as the controller spells it, for instance `2MB`.
    HugePages(String),
    /// CPUs that its tasks may run on.
    Cpus,
}

/// A bound of a cgroup. `Display` is its name in the ledger and in reports: `system.slice/memory.max`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Knob {
    /// Path relative to the mount point, without a leading slash.
    pub cgroup: String,
    /// What is bounded.
    pub control: Control,
    /// Version of the hierarchy that has the controller.
    pub version: Version,
}

/// Text of a bound that bounds nothing.
const NO_LIMIT: &str = "max";
/// From here on version 1 means "no limit" (largest page-aligned number, for every page size).
const V1_NO_LIMIT_FROM: u64 = 1 << 62;
/// Largest page that a kernel rounds a limit down to (arm64 with pages of 64 KiB).
const LARGEST_PAGE: u64 = 64 << 10;
/// `cpu.weight` and `cpu.shares` of a cgroup that nobody has set (cgroup-v2.rst; sched-design-CFS).
const DEFAULT_WEIGHT: (&str, &str) = ("100", "1024");

impl Knob {
    /// The controller.
    #[must_use]
    pub const fn controller(&self) -> &'static str {
        match self.control {
            Control::CpuWeight => "cpu",
            Control::Memory => "memory",
            Control::Pids => "pids",
            Control::HugePages(_) => "hugetlb",
            Control::Cpus => "cpuset",
        }
    }

    /// The file (cgroup-v1/*.rst, cgroup-v2.rst).
    #[must_use]
    pub fn file(&self) -> String {
        match (&self.control, self.version) {
            (Control::CpuWeight, Version::V1) => "cpu.shares".into(),
            (Control::CpuWeight, Version::V2) => "cpu.weight".into(),
            (Control::Memory, Version::V1) => "memory.limit_in_bytes".into(),
            (Control::Memory, Version::V2) => "memory.max".into(),
            (Control::Pids, _) => "pids.max".into(),
            (Control::HugePages(size), Version::V1) => format!("hugetlb.{size}.limit_in_bytes"),
            (Control::HugePages(size), Version::V2) => format!("hugetlb.{size}.max"),
            (Control::Cpus, _) => "cpuset.cpus".into(),
        }
    }

    /// The file that shows how much is in use; absent where a bound below it does no harm.
    #[must_use]
    pub fn usage_file(&self) -> Option<String> {
        match (&self.control, self.version) {
            (Control::CpuWeight | Control::Cpus, _) => None,
            (Control::Memory, Version::V1) => Some("memory.usage_in_bytes".into()),
            (Control::Memory, Version::V2) => Some("memory.current".into()),
            (Control::Pids, _) => Some("pids.current".into()),
            (Control::HugePages(size), Version::V1) => Some(format!("hugetlb.{size}.usage_in_bytes")),
            (Control::HugePages(size), Version::V2) => Some(format!("hugetlb.{size}.current")),
        }
    }

    /// The property of the unit (systemd.resource-control(5), org.freedesktop.systemd1(5)); absent where systemd has
    /// none and leaves the file alone.
    #[must_use]
    pub const fn unit_property(&self) -> Option<&'static str> {
        match (&self.control, self.version) {
            (Control::CpuWeight, Version::V1) => Some("CPUShares"),
            (Control::CpuWeight, Version::V2) => Some("CPUWeight"),
            (Control::Memory, Version::V1) => Some("MemoryLimit"),
            (Control::Memory, Version::V2) => Some("MemoryMax"),
            (Control::Pids, _) => Some("TasksMax"),
            (Control::Cpus, Version::V2) => Some("AllowedCPUs"),
            (Control::Cpus, Version::V1) | (Control::HugePages(_), _) => None,
        }
    }

    /// The unit that the cgroup is, by its name; absent if it is none.
    #[must_use]
    pub fn unit(&self) -> Option<&str> {
        let name = self.cgroup.rsplit('/').next()?;
        [".slice", ".service", ".scope"].iter().any(|suffix| name.ends_with(suffix)).then_some(name)
    }

    /// Reads a name of the ledger; `None` if it is no bound of a cgroup. For files that both versions have the version
    /// is that of the caller.
    #[must_use]
    pub fn parse(object: &str, both: Version) -> Option<Self> {
        let (cgroup, file) = object.rsplit_once('/')?;
        let pages = |text: &str| Control::HugePages(text.to_owned());
        let (control, version) = match file {
            "cpu.shares" => (Control::CpuWeight, Version::V1),
            "cpu.weight" => (Control::CpuWeight, Version::V2),
            "memory.limit_in_bytes" => (Control::Memory, Version::V1),
            "memory.max" => (Control::Memory, Version::V2),
            "pids.max" => (Control::Pids, both),
            "cpuset.cpus" => (Control::Cpus, both),
            other => {
                let size = other.strip_prefix("hugetlb.")?;
                match (size.strip_suffix(".limit_in_bytes"), size.strip_suffix(".max")) {
                    (Some(size), _) => (pages(size), Version::V1),
                    (None, Some(size)) => (pages(size), Version::V2),
                    (None, None) => return None,
                }
            }
        };
        Some(Self { cgroup: cgroup.to_owned(), control, version })
    }

    /// True if the kernel makes the same of both texts: limits are rounded down to a page, sets are respelled.
    #[must_use]
    pub fn same(&self, shown: &str, ordered: &str) -> bool {
        let (shown, ordered) = (shown.trim(), ordered.trim());
        match &self.control {
            Control::Cpus => match (CpuSet::parse(shown), CpuSet::parse(ordered)) {
                (Ok(shown), Ok(ordered)) => shown == ordered,
                _ => shown == ordered,
            },
            Control::Memory | Control::HugePages(_) => match (amount(shown), amount(ordered)) {
                (Some(shown), Some(ordered)) => shown <= ordered && ordered - shown < LARGEST_PAGE,
                (shown_amount, ordered_amount) => shown_amount == ordered_amount,
            },
            Control::CpuWeight | Control::Pids => shown == ordered,
        }
    }

    /// True if a bound below this usage would be put in force by this text.
    #[must_use]
    pub fn is_below(&self, text: &str, usage: u64) -> bool {
        amount(text).is_some_and(|limit| limit < usage)
    }

    /// What a cgroup shows that nobody has bounded.
    #[must_use]
    pub const fn default_text(&self) -> &'static str {
        match (&self.control, self.version) {
            (Control::CpuWeight, Version::V1) => DEFAULT_WEIGHT.1,
            (Control::CpuWeight, Version::V2) => DEFAULT_WEIGHT.0,
            (Control::Cpus, _) => "",
            (Control::Memory | Control::Pids | Control::HugePages(_), _) => NO_LIMIT,
        }
    }

    /// True if the text is what a cgroup shows that nobody has bounded.
    #[must_use]
    pub fn is_default(&self, text: &str) -> bool {
        self.same(text, self.default_text())
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cgroup, self.file())
    }
}

/// A limit; `None`: no limit.
fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    if text == NO_LIMIT || text == "-1" {
        return None;
    }
    text.parse().ok().filter(|limit| *limit < V1_NO_LIMIT_FROM)
}

/// Name of a page size in the files of the controller `hugetlb`: `64KB`, `2MB`, `1GB` (kernel `mm/hugetlb_cgroup.c`).
#[must_use]
pub fn huge_page_name(page_bytes: u64) -> String {
    match page_bytes {
        size if size >= 1 << 30 => format!("{}GB", size >> 30),
        size if size >= 1 << 20 => format!("{}MB", size >> 20),
        size => format!("{}KB", size >> 10),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn knob(control: Control, version: Version) -> Knob {
        Knob { cgroup: "kube.slice/kube-reserved.slice".into(), control, version }
    }

    #[test]
    fn names_of_the_ledger_are_read_back() {
        for version in [Version::V1, Version::V2] {
            for control in
                [Control::CpuWeight, Control::Memory, Control::Pids, Control::HugePages("2MB".into()), Control::Cpus]
            {
                let knob = knob(control, version);
                assert_eq!(Knob::parse(&knob.to_string(), version), Some(knob));
            }
        }
        for odd in ["memory.max", "a/memory.high", "a/hugetlb.2MB.rsvd", "irq/24", ""] {
            assert_eq!(Knob::parse(odd, Version::V2), None, "{odd}");
        }
    }

    #[test]
    fn texts_are_compared_as_the_kernel_shows_them() {
        let rows = [
            (Control::Memory, "12288", "12345", true),
            (Control::Memory, "12345", "12288", false),
            (Control::Memory, "9223372036854771712", "max", true),
            (Control::Memory, "max", "12288", false),
            (Control::Pids, "100", "100", true),
            (Control::Pids, "max", "100", false),
            (Control::CpuWeight, "20", "100", false),
            (Control::Cpus, "0-3", "0,1,2,3", true),
            (Control::Cpus, "", "0", false),
        ];
        for (control, shown, ordered, same) in rows {
            let knob = knob(control, Version::V2);
            assert_eq!(knob.same(shown, ordered), same, "{knob}: {shown} and {ordered}");
        }
    }

    #[test]
    fn a_bound_below_the_usage_is_known_as_such() {
        let memory = knob(Control::Memory, Version::V1);
        assert!(memory.is_below("4096", 4097) && !memory.is_below("4096", 4096) && !memory.is_below("max", u64::MAX));
        assert!(memory.is_default("9223372036854771712") && !memory.is_default("4096"));
        assert!(knob(Control::CpuWeight, Version::V1).is_default("1024"));
        assert!(knob(Control::CpuWeight, Version::V2).is_default("100"));
    }

    #[test]
    fn page_sizes_are_spelled_like_the_files_of_the_controller() {
        for (bytes, name) in
            [(64 << 10, "64KB"), (2 << 20, "2MB"), (32 << 20, "32MB"), (1 << 30, "1GB"), (16 << 30, "16GB")]
        {
            assert_eq!(huge_page_name(bytes), name);
        }
    }
}
