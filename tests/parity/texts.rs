//! CPU lists.

use serde_json::Value;

use crate::category::{Verdict, malformed};
use crate::machine::Machines;

/// `cpuset_parse`: canonical form and size, or the error.
pub(crate) fn cpuset(case: &Value, _: &Machines) -> Verdict {
    let _input = case["input"].as_str().ok_or_else(|| malformed("no input"))?;
    Err(malformed("not built yet"))
}
