//! An exact decimal: a 128-bit integer times a power of ten.

use std::cmp::Ordering;

/// `unscaled · 10^exponent`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    unscaled: i128,
    exponent: i32,
}

impl Decimal {
    pub(super) const ZERO: Self = Self { unscaled: 0, exponent: 0 };

    pub(super) const fn new(unscaled: i128, exponent: i32) -> Self {
        Self { unscaled, exponent }
    }

    pub(super) const fn whole(value: i128) -> Self {
        Self::new(value, 0)
    }

    pub(super) const fn is_zero(self) -> bool {
        self.unscaled == 0
    }

    pub(super) const fn is_negative(self) -> bool {
        self.unscaled < 0
    }

    pub(super) const fn exponent(self) -> i32 {
        self.exponent
    }

    pub(super) const fn negated(self) -> Self {
        // The smallest 128-bit integer has 39 digits and is never built by the parser, nor by the checked sums.
        Self { unscaled: self.unscaled.wrapping_neg(), exponent: self.exponent }
    }

    pub(super) fn fits_i64(self) -> bool {
        i64::try_from(self.unscaled).is_ok()
    }

    /// The whole value, if the exponent is not negative and the result fits.
    pub(super) fn to_i64_exact(self) -> Option<i64> {
        let power = power_of_ten(u32::try_from(self.exponent).ok()?);
        if self.is_zero() {
            return Some(0);
        }
        i64::try_from(self.unscaled.checked_mul(power?)?).ok()
    }

    /// The value in units of `10^unit`, rounded away from zero and capped.
    pub(super) fn scaled_up(self, unit: i32) -> i64 {
        if self.is_zero() {
            return 0;
        }
        let capped = if self.is_negative() { i64::MIN } else { i64::MAX };
        let shift = i64::from(self.exponent) - i64::from(unit);
        let power = u32::try_from(shift.unsigned_abs()).ok().and_then(power_of_ten);
        if shift >= 0 {
            let exact = power.and_then(|p| self.unscaled.checked_mul(p));
            return exact.and_then(|v| i64::try_from(v).ok()).unwrap_or(capped);
        }
        let Some(power) = power else { return self.unscaled.signum().try_into().unwrap_or(capped) };
        let (whole, rest) = (self.unscaled / power, self.unscaled % power);
        i64::try_from(whole + rest.signum()).unwrap_or(capped)
    }

    /// Cuts digits finer than `10^exponent`, rounding away from zero.
    pub(super) fn rounded_up_to(self, exponent: i32) -> Self {
        if self.is_zero() || self.exponent >= exponent {
            return self;
        }
        let digits = i64::from(exponent) - i64::from(self.exponent);
        let power = u32::try_from(digits).ok().and_then(power_of_ten);
        let Some(power) = power else { return Self::new(self.unscaled.signum(), exponent) };
        let (whole, rest) = (self.unscaled / power, self.unscaled % power);
        Self::new(whole + rest.signum(), exponent)
    }

    pub(super) fn checked_add(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return Some(self);
        }
        if self.is_zero() {
            return Some(other);
        }
        let exponent = self.exponent.min(other.exponent);
        let sum = self.aligned(exponent)?.checked_add(other.aligned(exponent)?)?;
        (sum.unsigned_abs() < LIMIT).then_some(Self::new(sum, exponent))
    }

    fn aligned(self, exponent: i32) -> Option<i128> {
        let digits = u32::try_from(i64::from(self.exponent) - i64::from(exponent)).ok()?;
        self.unscaled.checked_mul(power_of_ten(digits)?)
    }

    /// Compares values, whatever the exponents: first by sign, then by the place of the first digit.
    pub(super) fn cmp_value(self, other: Self) -> Ordering {
        let signs = self.unscaled.signum().cmp(&other.unscaled.signum());
        if signs.is_ne() || self.is_zero() {
            return signs;
        }
        let by_size = self.first_digit_place().cmp(&other.first_digit_place()).then_with(|| {
            // Same place of the first digit: aligning adds only as many digits as the other number already has.
            let exponent = self.exponent.min(other.exponent);
            let key = |d: Self| d.aligned(exponent).map(i128::unsigned_abs);
            key(self).cmp(&key(other))
        });
        if self.is_negative() { by_size.reverse() } else { by_size }
    }

    fn first_digit_place(self) -> i64 {
        i64::from(self.unscaled.unsigned_abs().checked_ilog10().unwrap_or(0)) + i64::from(self.exponent)
    }

    /// `(number, power)` with `number · 1024^power`; absent for a fraction, for |value| < 1024 (both are printed
    /// decimally, so that nothing is lost) and for more than can be printed so.
    pub(super) fn base_1024(self) -> Option<(i128, usize)> {
        let mut number = self.to_integer()?;
        if number.unsigned_abs() < 1024 {
            return None;
        }
        let mut power = 0;
        while number % 1024 == 0 && power < 6 {
            number /= 1024;
            power += 1;
        }
        Some((number, power))
    }

    fn to_integer(self) -> Option<i128> {
        if self.exponent >= 0 {
            return self.aligned(0);
        }
        let power = power_of_ten(self.exponent.unsigned_abs())?;
        (self.unscaled % power == 0).then(|| self.unscaled / power)
    }

    /// `(number, exponent)` with `number · 10^exponent`, the exponent a multiple of three and as large as it can be.
    pub(super) fn base_1000(self) -> (i128, i32) {
        let (mut number, mut exponent) = (self.unscaled, self.exponent);
        while number % 10 == 0 && number != 0 && exponent < i32::MAX {
            number /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 {
            let Some(wider) = number.checked_mul(10) else { break };
            number = wider;
            exponent -= 1;
        }
        (number, exponent)
    }
}

/// Above this a sum is refused: 10^38, so that every held number has at most 38 digits.
const LIMIT: u128 = 10_u128.pow(38);

fn power_of_ten(digits: u32) -> Option<i128> {
    10_i128.checked_pow(digits)
}
