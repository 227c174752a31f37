//! Amounts of memory for people.

use std::fmt;

/// Bytes, shown with a binary unit and at most one digit after the point: `512 MiB`, `7.5 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        // The largest unit of which there is at least one, after rounding to tenths.
        let fits = |power: u32| tenths(self.0, power) >= 10;
        let Some((power, unit)) = (1..).zip(units).filter(|(power, _)| fits(*power)).last() else {
            return write!(f, "{} B", self.0);
        };
        match tenths(self.0, power) {
            whole if whole % 10 == 0 || whole >= 1000 => write!(f, "{} {unit}", whole / 10),
            tenths => write!(f, "{}.{} {unit}", tenths / 10, tenths % 10),
        }
    }
}

/// Tenths of the unit of 1024 to the power, rounded to the nearest.
fn tenths(bytes: u64, power: u32) -> u128 {
    let unit = 1024_u128.pow(power);
    (u128::from(bytes) * 10 + unit / 2) / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let gib = 1_u64 << 30;
        let rows = [
            (0, "0 B"),
            (900, "900 B"),
            (1024, "1 KiB"),
            (512 << 20, "512 MiB"),
            (gib + gib / 2, "1.5 GiB"),
            (1023 << 20, "1 GiB"),
            (100 * gib + gib / 2, "100 GiB"),
            (1536 * gib, "1.5 TiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Size(bytes).to_string(), expected, "{bytes}");
        }
    }
}
