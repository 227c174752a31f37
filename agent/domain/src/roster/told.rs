//! Facts with a mark that says how well they are known, and what the numbers of a runtime or a cgroup say about the
//! requests and limits of a container.
//!
//! The kubelet turns requests and limits into shares, a quota, a bound and an OOM score (kubelet `cm/helpers_linux.go`,
//! `qos/policy.go`); some of that can be undone exactly, some not at all.

use std::collections::BTreeMap;

use super::ToldResources;
use crate::cgroup::tree::ContainerCgroup;
use crate::cgroup::{Limit, Weight, shares_to_milli};
use crate::quantity::Quantity;
use crate::workload::{MilliCpu, QosClass, ResourceName, Resources};

/// Largest `cpu.shares`, which stands for 256 CPUs and everything above.
const MAX_SHARES: u64 = 262_144;
/// Smallest quota that the kubelet writes: every limit whose quota would be less has this one.
const MIN_QUOTA_US: u64 = 1000;
/// Period of a quota for which none is told.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// A fact and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Told<T> {
    /// It is so.
    Exact(T),
    /// It is about so; nothing may be given away or refused on the strength of it.
    Estimated(T),
    /// No source tells.
    #[default]
    Unknown,
}

impl<T> Told<T> {
    /// The value if it is exact.
    #[must_use]
    pub const fn exact(&self) -> Option<&T> {
        match self {
            Self::Exact(value) => Some(value),
            Self::Estimated(_) | Self::Unknown => None,
        }
    }

    /// The value, however well it is known.
    #[must_use]
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Exact(value) | Self::Estimated(value) => Some(value),
            Self::Unknown => None,
        }
    }

    /// The better known of two; of two that are known alike, this one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Exact(_), _) | (Self::Estimated(_), Self::Estimated(_) | Self::Unknown) => self,
            (Self::Estimated(_) | Self::Unknown, _) => other,
        }
    }

    /// Turns the value into another, equally well known.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Told<U> {
        match self {
            Self::Exact(value) => Told::Exact(turn(value)),
            Self::Estimated(value) => Told::Estimated(turn(value)),
            Self::Unknown => Told::Unknown,
        }
    }
}

/// What a container asks for, as far as it can be told without its specification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// CPU request; 0: none, or at most 2m, which nobody can tell apart.
    pub cpu_request: Told<MilliCpu>,
    /// CPU limit; `None` inside: no limit.
    pub cpu_limit: Told<Option<MilliCpu>>,
    /// Memory request in bytes; 0: none.
    pub memory_request: Told<u64>,
    /// Memory limit in bytes; `None` inside: no limit.
    pub memory_limit: Told<Option<u64>>,
    /// Huge pages in bytes by resource name (`hugepages-2Mi`), requests and limits alike; sizes of 0 are left out.
    pub hugepages: Told<BTreeMap<String, u64>>,
}

impl Asked {
    /// What the numbers that a runtime was given say. `capacity` is the memory of the node in bytes: without it no
    /// memory request of a Burstable pod can be estimated.
    #[must_use]
    pub fn of_runtime(told: &ToldResources, qos: Option<QosClass>, capacity: Option<u64>) -> Self {
        if qos == Some(QosClass::BestEffort) {
            return Self::nothing();
        }
        let guaranteed = qos == Some(QosClass::Guaranteed);
        let limit = limit_of_quota(told);
        let request = match told.cpu_shares {
            None | Some(0) => Told::Unknown,
            // Above 256 CPUs only the quota of a pod whose requests are its limits still tells.
            Some(MAX_SHARES..) => match limit {
                Told::Exact(Some(milli)) if guaranteed => Told::Exact(milli),
                _ => Told::Unknown,
            },
            Some(shares) => Told::Exact(MilliCpu(shares_to_milli(shares))),
        };
        // A quota may be lifted or never enforced; the request of a Guaranteed container is its limit all the same.
        let cpu_limit = match request {
            Told::Exact(MilliCpu(0)) if guaranteed => Told::Exact(None),
            Told::Exact(milli) if guaranteed => Told::Exact(Some(milli)),
            _ => limit,
        };
        let memory_limit = match told.memory_limit_bytes {
            None => Told::Unknown,
            Some(bytes) => Told::Exact(u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)),
        };
        let memory_request = if guaranteed {
            memory_limit.map(Option::unwrap_or_default)
        } else {
            capacity.and_then(|capacity| request_of_oom_score(told, capacity)).map_or(Told::Unknown, Told::Estimated)
        };
        let pages = told.hugepage_limits.iter().filter(|(_, bytes)| **bytes > 0);
        // An empty table may also mean that the source does not tell; the kubelet names every size, with 0.
        let hugepages = match told.hugepage_limits.is_empty() {
            true => Told::Estimated(BTreeMap::new()),
            false => Told::Exact(pages.map(|(name, bytes)| (name.clone(), *bytes)).collect()),
        };
        Self { cpu_request: request, cpu_limit, memory_request, memory_limit, hugepages }
    }

    /// What the files of a cgroup say.
    #[must_use]
    pub fn of_cgroup(cgroup: &ContainerCgroup, qos: QosClass) -> Self {
        match qos {
            QosClass::BestEffort => Self::nothing(),
            QosClass::Guaranteed => Self::of_guaranteed_cgroup(cgroup),
            QosClass::Burstable => Self {
                cpu_request: match cgroup.cpu.weight {
                    Some(Weight::Shares(shares)) if shares < MAX_SHARES => {
                        Told::Exact(MilliCpu(shares_to_milli(shares)))
                    }
                    // The smallest weight stands for no request and for the smallest ones.
                    Some(Weight::Weight(0 | 1)) => Told::Estimated(MilliCpu(0)),
                    // Two formulas are in use; and shares that are at their end say nothing.
                    Some(Weight::Shares(_) | Weight::Weight(_)) | None => Told::Unknown,
                },
                // systemd rounds a quota up, and a lifted one cannot be seen.
                cpu_limit: match cgroup.cpu.quota {
                    Some(_) => Told::Estimated(cgroup.cpu.limit_milli().map(MilliCpu)),
                    None => Told::Unknown,
                },
                memory_limit: bytes_of(cgroup.memory),
                ..Self::default()
            },
        }
    }

    fn of_guaranteed_cgroup(cgroup: &ContainerCgroup) -> Self {
        let cpu_request =
            cgroup.cpu.guaranteed_request_milli().map_or(Told::Unknown, |milli| Told::Exact(MilliCpu(milli)));
        let memory_limit = bytes_of(cgroup.memory);
        let pages = cgroup.hugepages.iter().filter_map(|(name, limit)| match limit {
            Limit::Bytes(bytes @ 1..) => Some((name.clone(), *bytes)),
            Limit::Bytes(0) | Limit::Unlimited => None,
        });
        let pages: BTreeMap<String, u64> = pages.collect();
        Self {
            cpu_request,
            cpu_limit: cpu_request.map(|milli| (milli.0 > 0).then_some(milli)),
            memory_request: memory_limit.map(Option::unwrap_or_default),
            memory_limit,
            hugepages: if cgroup.hugepages.is_empty() { Told::Estimated(pages) } else { Told::Exact(pages) },
        }
    }

    /// A container of a BestEffort pod.
    fn nothing() -> Self {
        Self {
            cpu_request: Told::Exact(MilliCpu(0)),
            cpu_limit: Told::Exact(None),
            memory_request: Told::Exact(0),
            memory_limit: Told::Exact(None),
            // Huge pages count for the class no more than devices do.
            hugepages: Told::Unknown,
        }
    }

    /// Of each fact the better known; of two that are known alike, this one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cpu_request: self.cpu_request.or(other.cpu_request),
            cpu_limit: self.cpu_limit.or(other.cpu_limit),
            memory_request: self.memory_request.or(other.memory_request),
            memory_limit: self.memory_limit.or(other.memory_limit),
            hugepages: self.hugepages.or(other.hugepages),
        }
    }

    /// Requests and limits as the resource managers take them. `None` if the CPU request is not exact: then nothing may
    /// be decided. A memory request that is only estimated is left out, because none may be reserved by a guess.
    #[must_use]
    pub fn resources(&self) -> Option<Resources> {
        let mut resources = Resources::default();
        let milli = |milli: MilliCpu| i64::try_from(milli.0).ok().map(Quantity::from_milli);
        let bytes = |bytes: u64| i64::try_from(bytes).ok().map(Quantity::from_bytes);
        let request = *self.cpu_request.exact()?;
        if request.0 > 0 {
            resources.requests.insert(ResourceName::Cpu, milli(request)?);
        }
        if let Some(Some(limit)) = self.cpu_limit.exact() {
            resources.limits.insert(ResourceName::Cpu, milli(*limit)?);
        }
        if let Some(request @ 1..) = self.memory_request.exact() {
            resources.requests.insert(ResourceName::Memory, bytes(*request)?);
        }
        if let Some(Some(limit)) = self.memory_limit.exact() {
            resources.limits.insert(ResourceName::Memory, bytes(*limit)?);
        }
        for (name, size) in self.hugepages.value().into_iter().flatten() {
            resources.requests.insert(name.as_str().into(), bytes(*size)?);
            resources.limits.insert(name.as_str().into(), bytes(*size)?);
        }
        Some(resources)
    }
}

/// `ceil(quota × 1000 / period)`: the kubelet truncates on the way there. No quota, or one at the kubelet's minimum, is
/// only an estimate: enforcement may be off, and smaller limits have the same quota.
fn limit_of_quota(told: &ToldResources) -> Told<Option<MilliCpu>> {
    let Some(quota) = told.cpu_quota_us else { return Told::Unknown };
    let Some(quota) = u64::try_from(quota).ok().filter(|quota| *quota > 0) else { return Told::Estimated(None) };
    let period = told.cpu_period_us.filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD_US);
    let milli = MilliCpu(quota.saturating_mul(1000).div_ceil(period));
    // Below a period of a millisecond several limits have the same quota.
    if quota > MIN_QUOTA_US && period >= 1000 { Told::Exact(Some(milli)) } else { Told::Estimated(Some(milli)) }
}

/// `1000 − 1000 × request / capacity`, within 3–999 (KEP-2400 and kubelet `qos/policy.go`), solved for the request; wrong
/// by up to a thousandth of the capacity, and for sidecars and pod-level resources, whose score has another formula.
fn request_of_oom_score(told: &ToldResources, capacity: u64) -> Option<u64> {
    let score = told.oom_score_adj.filter(|score| (3..=999).contains(score))?;
    Some((capacity / 1000).saturating_mul(1000 - u64::try_from(score).ok()?))
}

fn bytes_of(limit: Option<Limit>) -> Told<Option<u64>> {
    match limit {
        Some(Limit::Bytes(bytes)) => Told::Exact(Some(bytes)),
        Some(Limit::Unlimited) => Told::Exact(None),
        None => Told::Unknown,
    }
}

#[cfg(test)]
mod tests;
