//! The CPU-list text, read as leniently and refused with the same words as in the kubelet.

use std::fmt::{self, Write as _};

use super::{CpuSet, MAX_CPUS};

/// A text is not a list of CPUs. All but [`CpuSetError::TooHigh`] have the words of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    /// A member is not a decimal integer; signs and leading zeros are allowed.
    #[error("strconv.Atoi: parsing {}: invalid syntax", quote(.0))]
    Syntax(String),
    /// A member does not fit a signed 64-bit integer.
    #[error("strconv.Atoi: parsing {}: value out of range", quote(.0))]
    OutOfRange(String),
    /// A range runs backwards.
    #[error("invalid range {} ({first} > {last})", quote(.text))]
    Backwards {
        /// The member as written.
        text: String,
        /// The number before the dash.
        first: i64,
        /// The number after the dash.
        last: i64,
    },
    /// A CPU number that no Linux machine has; the kubelet would try to take memory for it.
    #[error("CPU {0} is too high: numbers below {MAX_CPUS} are allowed")]
    TooHigh(i64),
}

/// A CPU list of any numbers, as a text gives it: the kubelet sets no upper bound, [`CpuSet`] does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuList {
    /// First and last number of each maximal run, ascending.
    runs: Vec<(i64, i64)>,
}

impl CpuList {
    /// Reads `n` and `a-b` joined by commas; no blanks, no empty members. The empty text is the empty list.
    ///
    /// # Errors
    /// Exactly where the kubelet refuses the text and with its words.
    pub fn parse(text: &str) -> Result<Self, CpuSetError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut runs = text.split(',').map(parse_member).collect::<Result<Vec<_>, _>>()?;
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let touches = next.0 <= run.1.saturating_add(1);
            if touches {
                run.1 = run.1.max(next.1);
            }
            touches
        });
        Ok(Self { runs })
    }

    /// How many numbers are in the list.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add(last.abs_diff(*first)).saturating_add(1))
    }
}

impl TryFrom<CpuList> for CpuSet {
    type Error = CpuSetError;

    fn try_from(list: CpuList) -> Result<Self, CpuSetError> {
        let bound = |cpu: i64| u32::try_from(cpu).ok().filter(|cpu| *cpu < MAX_CPUS).ok_or(CpuSetError::TooHigh(cpu));
        let mut set = Self::new();
        for (first, last) in list.runs {
            set.extend(bound(first)?..=bound(last)?);
        }
        Ok(set)
    }
}

/// Canonical list form, as that of [`CpuSet`].
impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_runs(f, self.runs.iter().copied())
    }
}

/// Prints maximal runs as `a-b` (also of two numbers) and single numbers as `a`, joined by commas.
pub(super) fn print_runs<N: fmt::Display + Eq>(
    f: &mut fmt::Formatter<'_>,
    runs: impl Iterator<Item = (N, N)>,
) -> fmt::Result {
    for (position, (first, last)) in runs.enumerate() {
        if position > 0 {
            f.write_char(',')?;
        }
        write!(f, "{first}")?;
        if first != last {
            write!(f, "-{last}")?;
        }
    }
    Ok(())
}

fn parse_member(member: &str) -> Result<(i64, i64), CpuSetError> {
    let (first, last) = match member.split_once('-') {
        None => {
            let cpu = parse_integer(member)?;
            (cpu, cpu)
        }
        Some((first, last)) => (parse_integer(first)?, parse_integer(last)?),
    };
    if first > last {
        return Err(CpuSetError::Backwards { text: member.to_owned(), first, last });
    }
    Ok((first, last))
}

/// Decimal digits with an optional sign, as `strconv.Atoi` of Go reads them.
fn parse_integer(text: &str) -> Result<i64, CpuSetError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CpuSetError::Syntax(text.to_owned()));
    }
    text.parse().map_err(|_| CpuSetError::OutOfRange(text.to_owned()))
}

/// Double quotes and escapes as `strconv.Quote` of Go writes them.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            ' ' => quoted.push(c),
            c if !c.is_control() && !c.is_whitespace() => quoted.push(c),
            // Writing to a string cannot fail.
            c if u32::from(c) < 0x80 => _ = write!(quoted, "\\x{:02x}", u32::from(c)),
            c => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted
}
