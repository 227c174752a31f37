//! What must outlive the agent while a node is moved to another driver.

use serde::{Deserialize, Serialize};

use super::Facts;
use crate::spec::cgroup::CgroupDriver;

/// One migration of this node. Written before the first step, and again whenever a field changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// The driver that kubelet and runtime are to use.
    pub target: CgroupDriver,
    /// Forward, or back and why.
    pub direction: Direction,
    /// When this direction was taken, in seconds since 1970.
    pub since: u64,
    /// When kubelet and runtime were last both seen to run with the files of this direction, in seconds since 1970; the wait
    /// for the node to be ready counts from here.
    pub started: Option<u64>,
    /// True once the node was seen to be in its turn, cordoned and empty: from here on the API server is not needed.
    pub prepared: bool,
    /// When the node was first seen to be in its turn and cordoned, in seconds since 1970; the drain counts from here.
    #[serde(default)]
    pub draining_at: Option<u64>,
    /// When it was first seen to be prepared, in seconds since 1970; the wait for kubelet and runtime to stop counts from here.
    #[serde(default)]
    pub prepared_at: Option<u64>,
    /// When both files were first seen to say the target, in seconds since 1970; the wait for kubelet and runtime to start
    /// counts from here.
    #[serde(default)]
    pub edited_at: Option<u64>,
    /// True once the node was cordoned by this migration, and not by a person before it.
    pub cordoned: bool,
    /// True once the node was seen to be ready with the target: from here on there is no way back, as pods may come.
    pub arrived: bool,
    /// How it ended; absent while it goes on. One that failed is not tried again until the profile changes.
    pub outcome: Option<Outcome>,
}

impl Journal {
    /// A migration that begins now.
    #[must_use]
    pub fn begin(target: CgroupDriver, now: u64) -> Self {
        Self {
            target,
            direction: Direction::Forward,
            since: now,
            started: None,
            prepared: false,
            draining_at: None,
            prepared_at: None,
            edited_at: None,
            cordoned: false,
            arrived: false,
            outcome: None,
        }
    }

    /// Takes note of what later steps build on: that the node is prepared, and the moment from which it has to become
    /// ready, as kubelet and runtime run with the new files.
    pub fn note(&mut self, facts: &Facts, now: u64) {
        if facts.holds_lease == Some(true) && facts.cordoned == Some(true) {
            self.draining_at.get_or_insert(now);
        }
        self.prepared |= facts.holds_lease == Some(true)
            && facts.cordoned == Some(true)
            && facts.to_evict == Some(0)
            && facts.cluster_is_healthy != Some(false);
        if self.prepared {
            self.prepared_at.get_or_insert(now);
        }
        let run = facts.kubelet_runs && facts.runtime_runs;
        let edited = facts.runtime_file == self.target && facts.kubelet_file == self.target;
        if edited && self.direction == Direction::Forward {
            self.edited_at.get_or_insert(now);
        }
        if run && edited && self.direction == Direction::Forward {
            if facts.node_is_ready.is_none() {
                // Nobody can tell, and that must not cost a node that may be well: the wait begins when somebody can.
                self.started = Some(now);
            }
            self.started.get_or_insert(now);
            let is_right = facts.runtime_says.is_none_or(|says| says == self.target);
            self.arrived |= self.prepared && is_right && facts.node_is_ready == Some(true);
        } else {
            self.started = None;
        }
    }

    /// Turns back, for a reason that a person reads. One that is already on its way back keeps its first reason, and one
    /// that has arrived stays there.
    pub fn turn_back(&mut self, reason: String, now: u64) {
        if self.direction == Direction::Forward && !self.arrived {
            self.direction = Direction::Back { reason };
            self.since = now;
            self.started = None;
        }
    }
}

/// Where a migration is heading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "to")]
pub enum Direction {
    /// To the target.
    Forward,
    /// To what was before.
    Back {
        /// Why.
        reason: String,
    },
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Outcome {
    /// The node runs with the target.
    Migrated,
    /// The node is as before.
    TurnedBack {
        /// Why.
        reason: String,
    },
}

/// How long what may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the cordon until the last pod is evicted (kubectl drain `--timeout`).
    pub drain: u64,
    /// From the start of the kubelet until the node is ready with the new driver; kubelet and runtime get as long to stop, and
    /// as long to start.
    pub ready: u64,
}

impl Default for Limits {
    /// Fifteen minutes for the drain, five for the node to be ready.
    fn default() -> Self {
        Self { drain: 900, ready: 300 }
    }
}
