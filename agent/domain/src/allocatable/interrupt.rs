//! Interrupts and the CPUs that they may be delivered to.

use std::fmt;

use crate::cpuset::CpuSet;

/// Whose CPUs are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interrupt {
    /// Those that are yet to come: `/proc/irq/default_smp_affinity`.
    Default,
    /// One, by its number: `/proc/irq/<number>/smp_affinity_list`.
    Number(u32),
}

/// Which CPUs ordinary interrupts may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum InterruptCpus {
    /// All; nothing is moved.
    #[default]
    Any,
    /// The reserved ones only: never a CPU that a container can own.
    Reserved,
    /// All but those that the kernel isolates.
    NotIsolated,
}

impl Interrupt {
    /// The file (Documentation/core-api/irq/irq-affinity.rst).
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Default => "/proc/irq/default_smp_affinity".into(),
            Self::Number(number) => format!("/proc/irq/{number}/smp_affinity_list"),
        }
    }

    /// Reads a name of the ledger.
    #[must_use]
    pub fn parse(object: &str) -> Option<Self> {
        match object.strip_prefix("irq/")? {
            "default" => Some(Self::Default),
            number => number.parse().ok().map(Self::Number),
        }
    }

    /// Reads the text of the file: a list of CPUs, for the default a mask. `None` if it is neither.
    #[must_use]
    pub fn cpus(self, text: &str) -> Option<CpuSet> {
        match self {
            Self::Default => parse_mask(text),
            Self::Number(_) => CpuSet::parse(text.trim()).ok(),
        }
    }

    /// The text to write for these CPUs.
    #[must_use]
    pub fn text(self, cpus: &CpuSet) -> String {
        match self {
            Self::Default => mask(cpus),
            Self::Number(_) => cpus.to_string(),
        }
    }
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("irq/default"),
            Self::Number(number) => write!(f, "irq/{number}"),
        }
    }
}

/// Most groups of a mask: no kernel is built for more CPUs (x86 `NR_CPUS` 8192).
const MAX_GROUPS: u32 = 256;
/// CPUs of one group.
const GROUP: u32 = 32;

/// Groups of eight hexadecimal digits, the highest CPUs first, joined by commas (kernel `lib/bitmap.c`).
fn parse_mask(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for (group, digits) in (0_u32..).zip(text.trim().rsplit(',')) {
        if group >= MAX_GROUPS || digits.is_empty() || digits.len() > 8 {
            return None;
        }
        let bits = u32::from_str_radix(digits, 16).ok()?;
        (0..GROUP).filter(|bit| bits >> bit & 1 == 1).for_each(|bit| {
            cpus.insert(group * GROUP + bit);
        });
    }
    Some(cpus)
}

fn mask(cpus: &CpuSet) -> String {
    let groups = cpus.last().map_or(0, |last| last / GROUP);
    let bits = |group: u32| {
        let range = CpuSet::range(group * GROUP, group * GROUP + GROUP - 1);
        cpus.intersection(&range).iter().fold(0_u32, |bits, cpu| bits | 1 << (cpu % GROUP))
    };
    (0..=groups).rev().map(|group| format!("{:08x}", bits(group))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn masks_are_read_and_written_in_groups_of_32() {
        for (text, list, written) in [
            ("ff\n", "0-7", "000000ff"),
            ("0000000f,00000001", "0,32-35", "0000000f,00000001"),
            ("80000000,00000000", "63", "80000000,00000000"),
            ("0", "", "00000000"),
        ] {
            let cpus = Interrupt::Default.cpus(text).unwrap();
            assert_eq!((cpus.to_string().as_str(), Interrupt::Default.text(&cpus).as_str()), (list, written));
        }
        let too_long = vec!["0"; 257].join(",");
        for odd in ["", "x", "1,,1", "123456789", too_long.as_str()] {
            assert_eq!(Interrupt::Default.cpus(odd), None, "{odd}");
        }
    }

    #[test]
    fn names_of_the_ledger_are_read_back() {
        for interrupt in [Interrupt::Default, Interrupt::Number(24)] {
            assert_eq!(Interrupt::parse(&interrupt.to_string()), Some(interrupt));
        }
        assert_eq!(Interrupt::parse("irq/x"), None);
    }
}
