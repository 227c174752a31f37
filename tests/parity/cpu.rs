//! The CPU manager's selections and hints: categories `cpu_assignment`, `cpu_assignment_hangs` and `cpu_hints`.
//!
//! Where the kubelet broke its own promise (`violates`) or never answered (`hang`), the recorded CPUs are not compared; the
//! answer must be safe instead: there, of the right size, free. The same where it was led astray by shared memory (`quirk`)
//! to CPUs that are not there; those that are there are compared.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trimtab_domain::cpu::{CpuGates, CpuOptions, allocate_from, hints, take};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::hint::NumaMask;
use trimtab_domain::placement::AllocationError;

use crate::category::{Mismatch, Verdict, malformed, same};
use crate::machine::Machines;

/// `cpu_assignment` and `cpu_assignment_hangs`.
pub(crate) fn assignment(case: &Value, machines: &Machines) -> Verdict {
    let machine = machines.named(text(case, "machine")).ok_or_else(|| malformed("an unknown machine"))?;
    let (options, count) = (options(case)?, count(case)?);
    let (offered, got) = if case["kind"] == "allocate" {
        let mut offered = cpus(case, "shared")?.difference(&cpus(case, "reserved")?);
        offered.insert_all(&cpus(case, "reusable")?);
        let affinity = case["numa_affinity"].as_array();
        let affinity = affinity.map(|nodes| nodes.iter().filter_map(|n| u32::try_from(n.as_u64()?).ok()).collect());
        let got = allocate_from(machine, &offered, count, affinity, &options);
        (offered, got)
    } else {
        let offered = cpus(case, "available")?;
        let got = take(machine, &offered, count, &options);
        (offered, got)
    };
    let led_astray = case.get("quirk").is_some() && !is_sound(&case["expect"], &offered, count);
    if led_astray || case.get("violates").is_some() || case["expect"]["hang"] == true {
        return safe(&offered, count, &got);
    }
    let mut shown = match &got {
        Ok(chosen) => json!({ "cpus": chosen.to_string() }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    if let (Ok(chosen), Some(_)) = (&got, case["expect"].get("shared_after")) {
        shown["shared_after"] = cpus(case, "shared")?.difference(chosen).to_string().into();
    }
    same(&case["expect"], &shown)
}

/// True if the recorded CPUs could be given.
fn is_sound(expected: &Value, offered: &CpuSet, count: usize) -> bool {
    let recorded = CpuSet::parse(text(expected, "cpus"));
    recorded.is_ok_and(|cpus| cpus.len() == count && cpus.is_subset(offered))
}

/// As many CPUs as were asked for, all of them on offer; a refusal only if there are fewer.
fn safe(offered: &CpuSet, count: usize, got: &Result<CpuSet, AllocationError>) -> Verdict {
    let good = match got {
        Ok(chosen) => chosen.len() == count && chosen.is_subset(offered),
        Err(_) => count > offered.len(),
    };
    if good {
        return Ok(());
    }
    Err(Mismatch { expected: format!("{count} of {offered}"), got: format!("{got:?}") })
}

/// `cpu_hints`.
pub(crate) fn numa_hints(case: &Value, machines: &Machines) -> Verdict {
    let machine = machines.named(text(case, "machine")).ok_or_else(|| malformed("an unknown machine"))?;
    let (free, reusable) = (cpus(case, "available")?, cpus(case, "reusable")?);
    let got = hints(machine, &free, &reusable, count(case)?, &options(case)?);
    let got = got.iter().map(|hint| json!([hint.affinity.unwrap_or(NumaMask::EMPTY).0, u8::from(hint.preferred)]));
    let got = Value::Array(got.collect());
    let expected = if case["hints"].is_null() { &case["expect"] } else { &case["hints"] };
    same(expected, &got)
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_default()
}

fn count(case: &Value) -> Result<usize, Mismatch> {
    let count = case["num_cpus"].as_u64().and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| malformed("num_cpus"))
}

fn cpus(case: &Value, field: &str) -> Result<CpuSet, Mismatch> {
    CpuSet::parse(text(case, field)).map_err(|error| malformed(&error.to_string()))
}

fn options(case: &Value) -> Result<CpuOptions, Mismatch> {
    let listed = case["options"].as_object().into_iter().flatten();
    let on: BTreeMap<String, String> = listed.map(|(name, value)| (name.clone(), value.to_string())).collect();
    let gates = CpuGates { alpha_options: true, ..CpuGates::default() };
    CpuOptions::parse(&on, gates).map_err(|error| malformed(&error.to_string()))
}
