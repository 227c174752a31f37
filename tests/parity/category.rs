//! The known categories of cases, and how each is judged.

use std::fmt::Debug;

use serde_json::Value;

use crate::machine::Machines;
use crate::{checkpoints, cpu, ipmasq, load, merge, reserved, scenario, sysctl, texts};

/// Replays one case.
pub(crate) type Judge = fn(&Value, &Machines) -> Verdict;

/// Nothing if the decision is the recorded one.
pub(crate) type Verdict = Result<(), Mismatch>;

/// The recorded decision and the one that was made.
#[derive(Debug)]
pub(crate) struct Mismatch {
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// How a category (the base name of its file) is judged; absent for an unknown one.
pub(crate) fn judge(category: &str) -> Option<Judge> {
    Some(match category {
        "cpuset_parse" => texts::cpuset,
        "hints_merge" => merge::judge,
        "scenarios" | "scenarios_podlevel" => scenario::judge,
        "sysctl" => sysctl::judge,
        "reserved_memory" => reserved::judge,
        "write" => checkpoints::write,
        "files" => checkpoints::file,
        "cpu_assignment" | "cpu_assignment_hangs" => cpu::assignment,
        "cpu_hints" => cpu::numa_hints,
        "load" => load::judge,
        "ipmasq" => ipmasq::judge,
        "ipmasq-packets" => ipmasq::packets::judge,
        _ => return None,
    })
}

/// Compares what was recorded with what was decided.
pub(crate) fn same<T: PartialEq + Debug + ?Sized>(expected: &T, got: &T) -> Verdict {
    if expected == got { Ok(()) } else { Err(Mismatch { expected: format!("{expected:?}"), got: format!("{got:?}") }) }
}

/// The case is not in the documented form.
pub(crate) fn malformed(what: &str) -> Mismatch {
    Mismatch { expected: "a case in the documented form".to_owned(), got: what.to_owned() }
}
