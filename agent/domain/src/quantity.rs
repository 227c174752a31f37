//! Resource quantities as Kubernetes writes them: `500m`, `1.5Gi`, `1e9`.
//!
//! The value is exact (an integer times a power of ten). Like `resource.Quantity` it remembers the suffix family for
//! printing, and whether it fits the small form: only a small, whole number without a fraction in its text counts as
//! an integer for the memory manager, so `1000m` does not.

mod decimal;
mod parse;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use decimal::Decimal;

/// How a quantity is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`: powers of 1024.
    BinarySi,
    /// `12M`: powers of 1000.
    DecimalSi,
}

/// A quantity text was refused; the texts are those of `k8s.io/apimachinery/pkg/api/resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The digits are no number, or more of them than can be held exactly (38).
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is not one of Kubernetes.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    amount: Decimal,
    /// Held as a 64-bit integer times a power of ten, without a detour over a decimal fraction.
    small: bool,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { amount: Decimal::ZERO, small: true, format: Format::DecimalSi };

    /// A number of bytes, printed with binary suffixes.
    #[must_use]
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { amount: Decimal::whole(bytes as i128), small: true, format: Format::BinarySi }
    }

    /// A plain number, printed with decimal suffixes.
    #[must_use]
    pub const fn from_count(count: i64) -> Self {
        Self { amount: Decimal::whole(count as i128), small: true, format: Format::DecimalSi }
    }

    /// Thousandths, printed with decimal suffixes.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Self { amount: Decimal::new(milli as i128, -3), small: true, format: Format::DecimalSi }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// See [`QuantityError`]. A value finer than a billionth is rounded up to one, as the reference does.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse::quantity(text)
    }

    /// True for nothing.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.amount.is_zero()
    }

    /// True below zero.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.amount.is_negative()
    }

    /// The suffix family used for printing.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero; capped at the range of 64 bits.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.amount.scaled_up(0)
    }

    /// Thousandths, rounded away from zero; capped at the range of 64 bits.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.amount.scaled_up(-3)
    }

    /// The value as an integer of units, if the *text* was one: `1Gi` and `1e3` are, `1000m`, `1.0` and `1.5Gi` are
    /// not (`Quantity.AsInt64`). Absent also beyond 64 bits.
    #[must_use]
    pub fn as_int64(&self) -> Option<i64> {
        if !self.small || self.amount.exponent() < 0 {
            return None;
        }
        self.amount.to_i64_exact()
    }

    /// The sum; absent beyond what can be held exactly (38 digits).
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        self.combine(self.amount.checked_add(other.amount)?, other, format)
    }

    /// The difference; absent beyond what can be held exactly (38 digits).
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        self.combine(self.amount.checked_add(other.amount.negated())?, other, format)
    }

    #[allow(clippy::unnecessary_wraps, reason = "ends the two functions above")]
    fn combine(&self, amount: Decimal, other: &Self, format: Format) -> Option<Self> {
        Some(Self { amount, small: self.small && other.small && amount.fits_i64(), format })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By exact value; the format plays no part.
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.amount.cmp_value(other.amount)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

/// The canonical form: no fraction, the largest suffix that keeps it so.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi
            && let Some((number, power)) = self.amount.base_1024()
        {
            return write!(f, "{number}{}", BINARY.get(power).copied().unwrap_or_default());
        }
        let (number, exponent) = self.amount.base_1000();
        let suffix = DECIMAL.iter().find(|(e, _)| *e == exponent).map(|(_, s)| *s);
        match suffix {
            Some(suffix) if self.format != Format::DecimalExponent => write!(f, "{number}{suffix}"),
            _ if exponent == 0 => write!(f, "{number}"),
            _ => write!(f, "{number}e{exponent}"),
        }
    }
}

/// Suffixes of the powers of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Suffixes of the powers of ten.
const DECIMAL: [(i32, &str); 10] =
    [(-9, "n"), (-6, "u"), (-3, "m"), (0, ""), (3, "k"), (6, "M"), (9, "G"), (12, "T"), (15, "P"), (18, "E")];

#[cfg(test)]
mod tests;
