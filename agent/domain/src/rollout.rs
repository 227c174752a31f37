//! When this node may take a new profile, decided by each node for itself.
//!
//! Nodes stand in an order that a hash gives them, another one for each change, so that no node is always the first. The
//! steps of the rollout say how far along this order the change may be at what time. Nobody coordinates.

#[cfg(test)]
mod tests;

/// A position is a share of all nodes in hundredths of a percent: 0 to 9,999.
pub const POSITIONS: u16 = 10_000;

/// How a change spreads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rollout {
    /// In order; after the last one every node may follow. None: every node at once.
    pub steps: Vec<RolloutStep>,
    /// The change stops where more than this share of the nodes that have it are unwell, in percent; absent: it never stops.
    pub max_unhealthy_percent: Option<u8>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutStep {
    /// The nodes that have the change once this step has begun, in percent of all.
    pub percent: u8,
    /// How long these have to stay well before the next step, in seconds.
    pub soak: u64,
}

/// How those nodes are that already have the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Nodes that hold the new generation and say so.
    pub updated: usize,
    /// Of these, nodes that are failing, fighting or refusing what they held before.
    pub unwell: usize,
}

/// Whether this node may take the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Now,
    /// At the earliest at this moment, in seconds since 1970; to be asked again then.
    NotBefore(u64),
    /// The change has stopped; the node keeps what it has.
    Stopped(String),
}

/// Where a node stands in the order of one change: a number below [`POSITIONS`].
///
/// `change` names the change, for instance uid and generation of the profile (FNV-1a/64, then mixed, so that names that
/// differ in their last character only are far apart).
#[must_use]
pub fn position(node: &str, change: &str) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in change.bytes().chain([0]).chain(node.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    u16::try_from(hash % u64::from(POSITIONS)).unwrap_or(0)
}

/// Whether the node at this position may take the change that was made at `since`; both times in seconds since 1970.
///
/// A clock that is behind the change counts as being at its moment.
#[must_use]
pub fn verdict(rollout: &Rollout, position: u16, health: Health, since: u64, now: u64) -> Verdict {
    let mut begins = since;
    for step in &rollout.steps {
        if u32::from(position) < u32::from(step.percent) * u32::from(POSITIONS) / 100 {
            break;
        }
        begins = begins.saturating_add(step.soak);
    }
    // The first step cannot be stopped by nodes that have the change: there are none before it.
    if begins > since
        && let Some(stopped) = stopped(rollout, health)
    {
        return Verdict::Stopped(stopped);
    }
    if now.max(since) >= begins { Verdict::Now } else { Verdict::NotBefore(begins) }
}

fn stopped(rollout: &Rollout, health: Health) -> Option<String> {
    let limit = rollout.max_unhealthy_percent?;
    let is_over = health.unwell.saturating_mul(100) > health.updated.saturating_mul(usize::from(limit));
    is_over.then(|| {
        format!(
            "{} of {} nodes with the new profile are unwell, more than {limit} %: mend the profile, or raise \
             maxUnhealthyPercent",
            health.unwell, health.updated
        )
    })
}
