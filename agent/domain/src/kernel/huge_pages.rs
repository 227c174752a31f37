//! Pools of huge pages, one per NUMA node and page size (admin-guide/mm/hugetlbpage.rst).

use std::fmt;

/// A pool: page size and NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pool {
    /// Bytes of one page.
    pub page_bytes: u64,
    /// NUMA node id.
    pub node: u32,
}

impl Pool {
    /// The pool that a name in the ledger means; `None`: none.
    #[must_use]
    pub fn parse(object: &str) -> Option<Self> {
        let (size, node) = object.strip_prefix("hugepages-")?.split_once("kB/node")?;
        let pool = Self { page_bytes: decimal(size)?.checked_mul(1024)?, node: u32::try_from(decimal(node)?).ok()? };
        (pool.to_string() == object).then_some(pool)
    }

    /// The folder's name for this page size.
    #[must_use]
    pub fn size_folder(self) -> String {
        format!("hugepages-{}kB", self.page_bytes / 1024)
    }

    /// The folder of this pool on a NUMA kernel.
    #[must_use]
    pub fn folder(self) -> String {
        format!("/sys/devices/system/node/node{}/hugepages/{}", self.node, self.size_folder())
    }

    /// The folder of the one pool of this size on a kernel without NUMA, whose memory is node 0.
    #[must_use]
    pub fn folder_without_numa(self) -> String {
        format!("/sys/kernel/mm/hugepages/{}", self.size_folder())
    }
}

/// The pool's name in reports and the ledger, `hugepages-2048kB/node0`.
impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/node{}", self.size_folder(), self.node)
    }
}

/// What a pool holds, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// All, those beyond the ordered number included.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// Beyond the ordered number: they vanish when they are released.
    pub surplus: u64,
}

/// A text of a pool that is no count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// Not a decimal number.
    #[error("{file} shows {text:?}, which is no number")]
    NoNumber {
        /// `nr_hugepages` …
        file: &'static str,
        /// What it shows.
        text: String,
    },
    /// More free or surplus pages than pages.
    #[error("{free} free and {surplus} surplus pages of {total} cannot be")]
    Contradiction {
        /// `nr_hugepages`.
        total: u64,
        /// `free_hugepages`.
        free: u64,
        /// `surplus_hugepages`.
        surplus: u64,
    },
}

impl Counts {
    /// Reads `nr_hugepages`, `free_hugepages` and `surplus_hugepages`.
    ///
    /// # Errors
    /// [`CountError`] if a text is no number or the numbers contradict one another.
    pub fn parse(total: &str, free: &str, surplus: &str) -> Result<Self, CountError> {
        let number =
            |file, text: &str| decimal(text.trim()).ok_or_else(|| CountError::NoNumber { file, text: text.to_owned() });
        let total = number("nr_hugepages", total)?;
        let (free, surplus) = (number("free_hugepages", free)?, number("surplus_hugepages", surplus)?);
        if free > total || surplus > total {
            return Err(CountError::Contradiction { total, free, surplus });
        }
        Ok(Self { total, free, surplus })
    }

    /// The ordered number, which is what a write to `nr_hugepages` sets.
    #[must_use]
    pub const fn ordered(self) -> u64 {
        self.total.saturating_sub(self.surplus)
    }

    /// Pages that somebody uses.
    #[must_use]
    pub const fn in_use(self) -> u64 {
        self.total.saturating_sub(self.free)
    }
}

/// `MemFree` of a node's `meminfo` in bytes; `None` if the text has none.
#[must_use]
pub fn free_bytes(meminfo: &str) -> Option<u64> {
    let (_, amount) = meminfo.lines().find_map(|line| line.split_once("MemFree:"))?;
    let mut words = amount.split_ascii_whitespace();
    decimal(words.next()?)?.checked_mul(1024)
}

/// Digits alone: `u64::from_str` would take a plus sign.
fn decimal(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pools_have_names() {
        let pool = Pool { page_bytes: 2 << 20, node: 3 };
        assert_eq!(pool.to_string(), "hugepages-2048kB/node3");
        assert_eq!(Pool::parse("hugepages-2048kB/node3"), Some(pool));
        for text in
            ["hugepages-2048kB", "hugepages-kB/node0", "hugepages-2048kB/node+1", "hugepages-02048kB/node1", "x"]
        {
            assert_eq!(Pool::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bad_counts_are_refused() {
        assert_eq!(Counts::parse("10\n", "4\n", "2\n").map(|counts| (counts.ordered(), counts.in_use())), Ok((8, 6)));
        let rows = [("", "0", "0"), ("-1", "0", "0"), ("+1", "0", "0"), ("1 2", "0", "0"), ("0x1", "0", "0")];
        for (total, free, surplus) in rows {
            let error = CountError::NoNumber { file: "nr_hugepages", text: total.into() };
            assert_eq!(Counts::parse(total, free, surplus), Err(error));
        }
        let huge = "99999999999999999999";
        assert!(matches!(Counts::parse("1", huge, "0"), Err(CountError::NoNumber { file: "free_hugepages", .. })));
        assert!(matches!(Counts::parse("1", "0", "one"), Err(CountError::NoNumber { file: "surplus_hugepages", .. })));
        assert!(matches!(Counts::parse("1", "2", "0"), Err(CountError::Contradiction { .. })));
        assert!(matches!(Counts::parse("1", "1", "2"), Err(CountError::Contradiction { .. })));
    }

    #[test]
    fn free_memory_is_read_from_meminfo() {
        let text = "Node 0 MemTotal:       16384 kB\nNode 0 MemFree:         8192 kB\n";
        assert_eq!(free_bytes(text), Some(8192 * 1024));
        for text in ["", "Node 0 MemFree:", "Node 0 MemFree: much kB", "MemFree: 99999999999999999999 kB"] {
            assert_eq!(free_bytes(text), None, "{text:?}");
        }
    }
}
