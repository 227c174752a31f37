//! Sets of logical CPUs, and their text form of the kernel and the kubelet (`0-3,8`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

mod parse;

pub use parse::{CpuList, CpuSetError};

/// Upper bound of CPU numbers (exclusive), the largest `CONFIG_NR_CPUS` of the kernel on any 64-bit architecture.
pub const MAX_CPUS: u32 = 8192;

/// The empty set, to be lent where no other set is at hand.
pub static NO_CPUS: CpuSet = CpuSet::new();

/// CPUs per machine word.
const WORD: u32 = u64::BITS;
/// Words that a set holds without memory of its own: 256 CPUs.
const INLINE_WORDS: usize = 4;

/// A set of logical CPU numbers below [`MAX_CPUS`].
///
/// CPUs 0–255 live in the value itself, so sets of most machines are copied without allocating; higher ones in a
/// vector whose last word is never zero, which makes equal sets equal field by field.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CpuSet {
    low: [u64; INLINE_WORDS],
    high: Vec<u64>,
}

/// Word number and bit of a CPU.
const fn place(cpu: u32) -> (usize, u64) {
    ((cpu / WORD) as usize, 1 << (cpu % WORD))
}

impl CpuSet {
    /// The empty set; text form `""`.
    #[must_use]
    pub const fn new() -> Self {
        Self { low: [0; INLINE_WORDS], high: Vec::new() }
    }

    /// Reads the list form, for instance `0-3,8`; the empty text is the empty set.
    ///
    /// # Errors
    /// Exactly where the kubelet refuses the text and with its words; besides, for CPUs of [`MAX_CPUS`] and above.
    pub fn parse(text: &str) -> Result<Self, CpuSetError> {
        CpuList::parse(text)?.try_into()
    }

    /// All CPUs of `first..=last`; numbers of [`MAX_CPUS`] and above are left out.
    #[must_use]
    pub fn range(first: u32, last: u32) -> Self {
        (first..=last.min(MAX_CPUS - 1)).collect()
    }

    /// Adds a CPU; true if it was not in the set. A number of [`MAX_CPUS`] and above is not added.
    pub fn insert(&mut self, cpu: u32) -> bool {
        if cpu >= MAX_CPUS {
            debug_assert!(false, "CPU {cpu} is beyond the highest possible number");
            return false;
        }
        let (index, bit) = place(cpu);
        let Some(word) = self.word_mut(index) else { return false };
        let added = *word & bit == 0;
        *word |= bit;
        added
    }

    /// Takes a CPU out; true if it was in the set.
    pub fn remove(&mut self, cpu: u32) -> bool {
        let (index, bit) = place(cpu);
        let word = match self.low.get_mut(index) {
            Some(word) => word,
            None => match self.high.get_mut(index - INLINE_WORDS) {
                Some(word) => word,
                None => return false,
            },
        };
        let removed = *word & bit != 0;
        *word &= !bit;
        self.trim();
        removed
    }

    /// True if the CPU is in the set.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        let (index, bit) = place(cpu);
        self.word(index) & bit != 0
    }

    /// Number of CPUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words().map(|word| word.count_ones() as usize).sum()
    }

    /// True without CPUs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.low == [0; INLINE_WORDS] && self.high.is_empty()
    }

    /// The lowest CPU.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// The highest CPU.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        let words = self.low.iter().chain(&self.high);
        let (index, word) = words.zip(0_u32..).filter(|(word, _)| **word != 0).map(|(word, i)| (i, *word)).last()?;
        Some(index * WORD + (WORD - 1 - word.leading_zeros()))
    }

    /// True if every CPU of this set is in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.words().zip(other.words_forever()).all(|(a, b)| a & !b == 0)
    }

    /// True if the sets share no CPU.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.words().zip(other.words()).all(|(a, b)| a & b == 0)
    }

    /// True if some CPU is in this set and in both others.
    #[must_use]
    pub fn meets(&self, a: &Self, b: &Self) -> bool {
        self.words().zip(a.words()).zip(b.words()).any(|((x, y), z)| x & y & z != 0)
    }

    /// Number of CPUs in both sets, without building the set.
    #[must_use]
    pub fn intersection_len(&self, other: &Self) -> usize {
        self.words().zip(other.words()).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }

    /// CPUs of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.insert_all(other);
        result
    }

    /// CPUs of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.retain_all(other);
        result
    }

    /// CPUs of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.remove_all(other);
        result
    }

    /// Adds every CPU of `other`.
    pub fn insert_all(&mut self, other: &Self) {
        for (a, b) in self.low.iter_mut().zip(&other.low) {
            *a |= b;
        }
        if self.high.len() < other.high.len() {
            self.high.resize(other.high.len(), 0);
        }
        for (a, b) in self.high.iter_mut().zip(&other.high) {
            *a |= b;
        }
    }

    /// Takes every CPU of `other` out.
    pub fn remove_all(&mut self, other: &Self) {
        for (a, b) in self.low.iter_mut().zip(&other.low) {
            *a &= !b;
        }
        for (a, b) in self.high.iter_mut().zip(&other.high) {
            *a &= !b;
        }
        self.trim();
    }

    /// Keeps only the CPUs that are in `other` too.
    pub fn retain_all(&mut self, other: &Self) {
        for (a, b) in self.low.iter_mut().zip(&other.low) {
            *a &= b;
        }
        self.high.truncate(other.high.len());
        for (a, b) in self.high.iter_mut().zip(&other.high) {
            *a &= b;
        }
        self.trim();
    }

    /// CPU numbers, ascending.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        let [first, rest @ ..] = &self.low;
        Iter { current: *first, base: 0, low: rest, high: &self.high }
    }

    /// Maximal runs of adjacent CPUs as `(first, last)`, ascending.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let mut cpus = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = cpus.next()?;
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            Some((first, last))
        })
    }

    fn word(&self, index: usize) -> u64 {
        let word = self.low.get(index).or_else(|| self.high.get(index.wrapping_sub(INLINE_WORDS)));
        word.copied().unwrap_or(0)
    }

    /// The word at `index`, with memory for it.
    fn word_mut(&mut self, index: usize) -> Option<&mut u64> {
        match self.low.get_mut(index) {
            Some(word) => Some(word),
            None => {
                let index = index - INLINE_WORDS;
                if self.high.len() <= index {
                    self.high.resize(index + 1, 0);
                }
                self.high.get_mut(index)
            }
        }
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        self.low.iter().chain(&self.high).copied()
    }

    fn words_forever(&self) -> impl Iterator<Item = u64> {
        self.words().chain(std::iter::repeat(0))
    }

    fn trim(&mut self) {
        while self.high.last() == Some(&0) {
            self.high.pop();
        }
    }
}

/// Iterator over the CPUs of a set, ascending.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    current: u64,
    base: u32,
    low: &'a [u64],
    high: &'a [u64],
}

impl Iterator for Iter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.current == 0 {
            let (word, rest) = if let [word, rest @ ..] = self.low {
                (*word, (rest, self.high))
            } else if let [word, rest @ ..] = self.high {
                (*word, (self.low, rest))
            } else {
                return None;
            };
            self.current = word;
            (self.low, self.high) = rest;
            self.base += WORD;
        }
        let cpu = self.base + self.current.trailing_zeros();
        self.current &= self.current - 1;
        Some(cpu)
    }
}

impl<'a> IntoIterator for &'a CpuSet {
    type Item = u32;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = Self::new();
        set.extend(cpus);
        set
    }
}

impl Extend<u32> for CpuSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cpus: I) {
        for cpu in cpus {
            self.insert(cpu);
        }
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        Self::parse(text)
    }
}

/// Canonical list form: ascending, maximal runs as `a-b` (also of two numbers), joined by commas.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        parse::print_runs(f, self.runs())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

impl Hash for CpuSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.low.hash(state);
        self.high.hash(state);
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = CpuSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of CPUs, for instance \"0-3,8\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CpuSet, E> {
                CpuSet::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests;
