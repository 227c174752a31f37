//! Hard eviction thresholds, as far as they reserve memory.

use std::collections::BTreeMap;
use std::num::ParseFloatError;

use crate::quantity::{Quantity, QuantityError};
use crate::quote::Quoted;

/// Signals that a threshold may name.
const SIGNALS: [&str; 9] = [
    "memory.available",
    "allocatableMemory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

/// An entry of `evictionHard` was refused; the texts are those of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvictionError {
    /// No such signal.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// A percentage below zero.
    #[error("eviction percentage threshold {signal} must be >= 0%: {text}")]
    BelowZero {
        /// The signal.
        signal: String,
        /// The text.
        text: String,
    },
    /// A percentage above a hundred.
    #[error("eviction percentage threshold {signal} must be <= 100%: {text}")]
    AboveHundred {
        /// The signal.
        signal: String,
        /// The text.
        text: String,
    },
    /// A percentage that is no number.
    #[error("strconv.ParseFloat: parsing {}: invalid syntax", Quoted(.0))]
    Percentage(String),
    /// Neither a percentage nor a quantity.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    /// A quantity of zero or less.
    #[error("eviction threshold {signal} must be positive: {amount}")]
    NotPositive {
        /// The signal.
        signal: String,
        /// The amount in canonical form.
        amount: String,
    },
}

/// What `memory.available` sets aside; absent without such a threshold, and for `0%` and `100%`.
///
/// # Errors
/// The first faulty entry, whatever its signal.
pub(super) fn memory_reservation(
    thresholds: &BTreeMap<String, String>,
    capacity: &Quantity,
) -> Result<Option<Quantity>, EvictionError> {
    reservation(thresholds, "memory.available", capacity)
}

/// What one signal sets aside; absent without such a threshold, and for `0%` and `100%`.
///
/// # Errors
/// The first faulty entry, whatever its signal.
pub(super) fn reservation(
    thresholds: &BTreeMap<String, String>,
    wanted: &str,
    capacity: &Quantity,
) -> Result<Option<Quantity>, EvictionError> {
    let mut found = None;
    for (signal, text) in thresholds {
        let amount = threshold(signal, text, capacity)?;
        if signal == wanted {
            found = amount;
        }
    }
    Ok(found)
}

fn threshold(signal: &str, text: &str, capacity: &Quantity) -> Result<Option<Quantity>, EvictionError> {
    if !SIGNALS.contains(&signal) {
        return Err(EvictionError::Signal(signal.to_owned()));
    }
    let owned = || (signal.to_owned(), text.to_owned());
    if !text.ends_with('%') {
        let amount = Quantity::parse(text)?;
        if amount.is_zero() || amount.is_negative() {
            return Err(EvictionError::NotPositive { signal: signal.to_owned(), amount: amount.to_string() });
        }
        return Ok(Some(amount));
    }
    if text == "0%" || text == "100%" {
        return Ok(None);
    }
    let number = text.trim_end_matches('%');
    let percent: Result<f32, ParseFloatError> = number.parse();
    // The kubelet keeps the share in single precision, which shows in the bytes.
    let share = percent.map_err(|_| EvictionError::Percentage(number.to_owned()))? / 100.0;
    let (signal, text) = owned();
    if share < 0.0 {
        return Err(EvictionError::BelowZero { signal, text });
    }
    if share > 1.0 {
        return Err(EvictionError::AboveHundred { signal, text });
    }
    Ok(Some(Quantity::from_bytes(part_of(capacity.value(), share))))
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the kubelet computes the bytes in double precision and cuts them"
)]
fn part_of(capacity: i64, share: f32) -> i64 {
    (capacity as f64 * f64::from(share)) as i64
}
