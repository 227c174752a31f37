//! Values of the CPU and memory controllers, and what they say about requests and limits.

use std::num::IntErrorKind;

use super::Version;

/// A value of a cgroup file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} holds {value:?}, which is not {expected}")]
pub struct ControlError {
    /// Name of the file, for instance `cpu.max`.
    pub file: &'static str,
    /// Its text, without the final newline.
    pub value: String,
    /// What it should hold.
    pub expected: &'static str,
}

/// Share of CPU time among siblings, as the two versions write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// `cpu.shares`, 2–262144.
    Shares(u64),
    /// `cpu.weight`, 1–10000; 0 under `cpu.idle`.
    Weight(u64),
}

/// A bound of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Microseconds per period; absent: no bound.
    pub quota_us: Option<u64>,
    /// Microseconds.
    pub period_us: u64,
}

impl Quota {
    /// The text of `cpu.max`.
    #[must_use]
    pub fn to_cpu_max(self) -> String {
        match self.quota_us {
            Some(quota) => format!("{quota} {}", self.period_us),
            None => format!("max {}", self.period_us),
        }
    }

    /// The text of `cpu.cfs_quota_us`; the period has a file of its own.
    #[must_use]
    pub fn to_cfs_quota(self) -> String {
        self.quota_us.map_or_else(|| "-1".to_owned(), |quota| quota.to_string())
    }

    /// The text of the file that bounds CPU time in this version: `cpu.cfs_quota_us` or `cpu.max`.
    #[must_use]
    pub fn to_text(self, version: Version) -> String {
        match version {
            Version::V1 => self.to_cfs_quota(),
            Version::V2 => self.to_cpu_max(),
        }
    }

    /// Microseconds of the same bound in another period; `None`: no bound, or a period of 0.
    #[must_use]
    pub fn in_period(self, period_us: u64) -> Option<u64> {
        self.quota_us?.saturating_mul(period_us).checked_div(self.period_us)
    }

    /// The same without a bound.
    #[must_use]
    pub const fn lifted(self) -> Self {
        Self { quota_us: None, period_us: self.period_us }
    }
}

/// A bound of memory or huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No bound.
    Unlimited,
    /// Bytes.
    Bytes(u64),
}

/// What the CPU controller of one cgroup is set to; absent where the controller or the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuControl {
    /// Share of time.
    pub weight: Option<Weight>,
    /// Bound of time.
    pub quota: Option<Quota>,
}

/// Smallest and largest `cpu.shares` (sched-design-CFS, `kernel/sched/sched.h`).
const SHARES: (u64, u64) = (2, 262_144);
/// Shares of one CPU.
const SHARES_PER_CPU: u64 = 1024;
/// Version 1 shows "no limit" as the largest page-aligned number; cadvisor's bound catches every page size.
const UNLIMITED_FROM: u64 = 1 << 62;
/// systemd rounds a quota up to a hundredth of a CPU (`CPUQuotaPerSecUSec`, 10 ms per second).
const SYSTEMD_QUOTA_STEP_MILLI: u64 = 10;

/// `milli × 1024 / 1000`, truncated, within 2–262144 (kubelet `cm/helpers_linux.go`).
#[must_use]
pub fn milli_to_shares(milli: u64) -> u64 {
    (milli.saturating_mul(SHARES_PER_CPU) / 1000).clamp(SHARES.0, SHARES.1)
}

/// The request that gives these shares: 0 for 2 and less, else rounded up. Exact for whole CPUs: no other request has a
/// multiple of 1024 shares. Saturates at 262144, that is, 256 CPUs.
#[must_use]
pub const fn shares_to_milli(shares: u64) -> u64 {
    if shares <= SHARES.0 { 0 } else { shares.saturating_mul(1000).div_ceil(SHARES_PER_CPU) }
}

/// `milli × period / 1000`, at least 1000 µs; 0 milli is no quota at all.
#[must_use]
pub fn milli_to_quota(milli: u64, period_us: u64) -> Option<u64> {
    (milli > 0).then(|| (milli.saturating_mul(period_us) / 1000).max(1000))
}

/// The old, linear formula: kubelet 1.36 down to the pods, runc before 1.3.2, crun before 1.23.
#[must_use]
pub fn shares_to_weight_old(shares: u64) -> u64 {
    1 + (shares.clamp(SHARES.0, SHARES.1) - SHARES.0) * 9999 / 262_142
}

/// The new formula, which maps 1024 to 100: runc 1.3.2, crun 1.23 and later, for containers.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "shares are below 2^19 and the result is within 1-10000"
)]
pub fn shares_to_weight_new(shares: u64) -> u64 {
    if shares <= SHARES.0 {
        return 1;
    }
    if shares >= SHARES.1 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    let exponent = l.mul_add(l, 125.0 * l) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u64
}

/// The way back from the old formula, which loses: 500m becomes 489m.
#[must_use]
pub const fn weight_to_shares(weight: u64) -> u64 {
    weight.saturating_sub(1) * 262_142 / 9999 + 2
}

/// Reads `cpu.max`: `<quota|max> <period>`.
///
/// # Errors
/// [`ControlError`] for anything else.
pub fn parse_cpu_max(text: &str) -> Result<Quota, ControlError> {
    let text = text.trim_end_matches('\n');
    let bad = || ControlError { file: "cpu.max", value: text.into(), expected: "a quota and a period" };
    let (quota, period) = text.split_once(' ').ok_or_else(bad)?;
    let quota_us = match quota {
        "max" => None,
        number => Some(parse_positive(number).ok_or_else(bad)?),
    };
    Ok(Quota { quota_us, period_us: parse_positive(period).ok_or_else(bad)? })
}

/// Reads `cpu.cfs_quota_us` (−1: none) and `cpu.cfs_period_us`.
///
/// # Errors
/// [`ControlError`] for anything else.
pub fn parse_quota_v1(quota: &str, period: &str) -> Result<Quota, ControlError> {
    let (quota, period) = (quota.trim_end_matches('\n'), period.trim_end_matches('\n'));
    let quota_us = match quota {
        "-1" => None,
        number => Some(parse_positive(number).ok_or_else(|| ControlError {
            file: "cpu.cfs_quota_us",
            value: number.into(),
            expected: "microseconds or -1",
        })?),
    };
    let bad = || ControlError { file: "cpu.cfs_period_us", value: period.into(), expected: "microseconds" };
    Ok(Quota { quota_us, period_us: parse_positive(period).ok_or_else(bad)? })
}

/// Reads `cpu.shares` or `cpu.weight`.
///
/// # Errors
/// [`ControlError`] for anything but a decimal number within the range of the kernel.
pub fn parse_weight(file: &'static str, text: &str) -> Result<Weight, ControlError> {
    let text = text.trim_end_matches('\n');
    let number = parse_number(text);
    let weight = match (file, number) {
        ("cpu.shares", Some(shares @ 2..=262_144)) => Some(Weight::Shares(shares)),
        ("cpu.weight", Some(weight @ 0..=10_000)) => Some(Weight::Weight(weight)),
        _ => None,
    };
    weight.ok_or_else(|| ControlError { file, value: text.into(), expected: "a weight within the kernel's range" })
}

/// Reads a limit in bytes: `max` of version 2, a number, or the huge number that version 1 shows for "none".
///
/// # Errors
/// [`ControlError`] for anything else.
pub fn parse_limit(file: &'static str, text: &str) -> Result<Limit, ControlError> {
    let text = text.trim_end_matches('\n');
    if text == "max" {
        return Ok(Limit::Unlimited);
    }
    match text.parse::<u64>() {
        Ok(bytes) if bytes >= UNLIMITED_FROM => Ok(Limit::Unlimited),
        Ok(bytes) if !text.starts_with('+') => Ok(Limit::Bytes(bytes)),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Ok(Limit::Unlimited),
        _ => Err(ControlError { file, value: text.into(), expected: "bytes or max" }),
    }
}

fn parse_number(text: &str) -> Option<u64> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

fn parse_positive(text: &str) -> Option<u64> {
    parse_number(text).filter(|number| *number > 0)
}

impl CpuControl {
    /// The CPU request, in thousandths, of a container whose request equals its limit, as in a Guaranteed pod; 0 where
    /// there is none, `None` where the files do not tell it exactly.
    ///
    /// Version 1 tells it by the shares, and above 256 CPUs by the quota. Version 2 by the quota alone: two formulas for
    /// the weight are in use, so no request is ever computed from one. The weight only unmasks a quota that systemd
    /// rounded up.
    #[must_use]
    pub fn guaranteed_request_milli(&self) -> Option<u64> {
        let limit = self.limit_milli();
        match (self.weight, limit) {
            (Some(Weight::Shares(shares)), Some(limit)) if shares == SHARES.1 => Some(limit),
            (Some(Weight::Shares(shares)), None) if shares == SHARES.1 => None,
            (Some(Weight::Shares(shares)), _) => Some(shares_to_milli(shares)),
            (Some(Weight::Weight(weight)), Some(limit)) => (!rounded_up(weight, limit)).then_some(limit),
            // The weight of a container without a request; the sandbox has it too.
            (Some(Weight::Weight(0 | 1)), None) => Some(0),
            (Some(Weight::Weight(_)), None) => None,
            (None, limit) => limit,
        }
    }

    /// The CPU limit in thousandths; `None` without one.
    #[must_use]
    pub fn limit_milli(&self) -> Option<u64> {
        let quota = self.quota?;
        let milli = u128::from(quota.quota_us?) * 1000 / u128::from(quota.period_us.max(1));
        Some(u64::try_from(milli).unwrap_or(u64::MAX))
    }

    /// True if the share of time is what a request of so many thousandths is given; false where there is none.
    #[must_use]
    pub fn fits_request(&self, milli: u64) -> bool {
        match self.weight {
            Some(Weight::Shares(shares)) => shares == milli_to_shares(milli),
            Some(Weight::Weight(weight)) => fits(weight, milli),
            None => false,
        }
    }

    /// True if the container asks for no CPU time and has no bound: so is every sandbox, and every container of a
    /// BestEffort pod.
    #[must_use]
    pub fn asks_for_nothing(&self) -> bool {
        let light = !matches!(self.weight, Some(Weight::Shares(3..) | Weight::Weight(2..)));
        light && self.limit_milli().is_none()
    }
}

/// True if the weight belongs to a request just below `milli`, which systemd rounded up when it wrote the quota again.
fn rounded_up(weight: u64, milli: u64) -> bool {
    let below = |less| milli.checked_sub(less).is_some_and(|milli| fits(weight, milli));
    !fits(weight, milli) && (1..SYSTEMD_QUOTA_STEP_MILLI).any(below)
}

/// True if one of the two formulas gives a request this weight.
fn fits(weight: u64, milli: u64) -> bool {
    let shares = milli_to_shares(milli);
    weight == shares_to_weight_old(shares) || weight == shares_to_weight_new(shares)
}

#[cfg(test)]
mod tests;
