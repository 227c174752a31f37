//! How even the free CPUs of the nodes are.

use std::cmp::Ordering;

/// Population standard deviation, rounded to thousandths as the kubelet does; smaller is more even.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Balance(f64);

impl Balance {
    /// True if all values are equal.
    pub(super) fn is_perfect(self) -> bool {
        self.0 == 0.0
    }
}

impl PartialOrd for Balance {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

/// The mean is rounded before it is used.
pub(super) fn deviation(values: &[usize]) -> Balance {
    let count = as_float(values.len());
    let mean = round(as_float(values.iter().sum()) / count);
    let sum: f64 = values.iter().map(|value| (as_float(*value) - mean).powi(2)).sum();
    Balance(round((sum / count).sqrt()))
}

/// To thousandths, halves away from zero.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Numbers of CPUs are far below the 2^53 up to which this is exact.
#[allow(clippy::cast_precision_loss, reason = "at most MAX_CPUS times 64")]
fn as_float(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_rounded_to_thousandths() {
        for (values, expected) in [(&[4, 4, 8, 8][..], 2.0), (&[7, 8, 8, 8], 0.433), (&[5], 0.0)] {
            assert_eq!(deviation(values), Balance(expected), "{values:?}");
        }
    }
}
