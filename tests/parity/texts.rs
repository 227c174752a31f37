//! CPU lists.

use serde_json::{Value, json};
use trimtab_domain::cpuset::CpuList;

use crate::category::{Verdict, malformed, same};
use crate::machine::Machines;

/// `cpuset_parse`: canonical form and size, or the error.
pub(crate) fn cpuset(case: &Value, _: &Machines) -> Verdict {
    let input = case["input"].as_str().ok_or_else(|| malformed("no input"))?;
    let got = match CpuList::parse(input) {
        Ok(list) => json!({ "printed": list.to_string(), "size": list.count() }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    same(&case["expect"], &got)
}
