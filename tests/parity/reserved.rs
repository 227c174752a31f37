//! Category `reserved_memory`: the flag, the configuration check, and what a node sets aside at its start.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use trimtab_domain::cpu::{CpuConfig, CpuManager};
use trimtab_domain::memory::{MemoryConfig, MemoryManager};
use trimtab_domain::quantity::Quantity;
use trimtab_domain::reservation::{NodeReservation, ReservationError, config_errors};
use trimtab_domain::reserved_memory::{MemoryReservation, ReservedMemoryFlag, faults};
use trimtab_domain::spec::ResourceManagersSpec;
use trimtab_domain::topology::Machine;
use trimtab_domain::workload::ResourceName;

use crate::category::{Mismatch, Verdict, malformed, same};
use crate::machine::Machines;

/// `reserved_memory`.
pub(crate) fn judge(case: &Value, machines: &Machines) -> Verdict {
    match case["kind"].as_str() {
        Some("reserved_memory_flag") => same(&case["expect"], &flag(case)?),
        Some("config_validation") => {
            let mut errors: Vec<String> = match &case["reservedMemory"] {
                Value::Null => config_errors(&spec(&case["config"])?),
                list => faults(&reservations(list)?).iter().map(ToString::to_string).collect(),
            };
            errors.sort();
            same(&case["expect"], &json!({ "errors": errors }))
        }
        Some("node_start") => {
            let name = case["machine"].as_str().unwrap_or_default();
            let machine = machines.named(name).ok_or_else(|| malformed("an unknown machine"))?;
            let mut expected = case["expect"].clone();
            // The recorded text shows quantities in a debug notation; only the resource is compared.
            if let Some(text) = expected.get_mut("node_allocatable_error") {
                *text = shortened(text.as_str().unwrap_or_default()).into();
            }
            same(&expected, &node_start(case, machine)?)
        }
        _ => Err(malformed("an unknown kind")),
    }
}

fn flag(case: &Value) -> Result<Value, Mismatch> {
    let mut flag = ReservedMemoryFlag::default();
    for value in case["values"].as_array().into_iter().flatten() {
        let value = value.as_str().ok_or_else(|| malformed("values"))?;
        if let Err(error) = flag.add(value) {
            return Ok(json!({ "error": error.to_string() }));
        }
    }
    let limits = |r: &MemoryReservation| r.limits.iter().map(|(k, q)| (k.to_string(), q.to_string().into())).collect();
    let parsed =
        flag.reservations().iter().map(|r| json!({ "numaNode": r.numa_node, "limits": Value::Object(limits(r)) }));
    Ok(json!({ "parsed": parsed.collect::<Vec<_>>(), "printed": flag.to_string() }))
}

fn reservations(list: &Value) -> Result<Vec<MemoryReservation>, Mismatch> {
    let entry = |entry: &Value| {
        let numa_node = entry["numaNode"].as_i64().and_then(|id| i32::try_from(id).ok());
        let limits = texts(&entry["limits"])?;
        let limits = limits.iter().map(|(kind, text)| Some((kind.as_str().into(), Quantity::parse(text).ok()?)));
        let limits = limits.collect::<Option<_>>().ok_or_else(|| malformed("limits"))?;
        Ok(MemoryReservation { numa_node: numa_node.ok_or_else(|| malformed("numaNode"))?, limits })
    };
    list.as_array().into_iter().flatten().map(entry).collect()
}

fn texts(map: &Value) -> Result<BTreeMap<String, String>, Mismatch> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.map(|(k, v)| Ok((k.clone(), v.as_str().ok_or_else(|| malformed(k))?.to_owned()))).collect()
}

/// The settings in a case; fields that it leaves out have the kubelet's defaults, but there are no default thresholds.
fn spec(config: &Value) -> Result<ResourceManagersSpec, Mismatch> {
    let mut spec = ResourceManagersSpec { eviction_hard: texts(&config["evictionHard"])?, ..Default::default() };
    spec.kube_reserved = texts(&config["kubeReserved"])?;
    spec.system_reserved = texts(&config["systemReserved"])?;
    spec.cpu_manager_policy_options = texts(&config["cpuManagerPolicyOptions"])?;
    let fields = [
        ("reservedSystemCPUs", &mut spec.reserved_system_cpus),
        ("topologyManagerPolicy", &mut spec.topology_manager_policy),
        ("topologyManagerScope", &mut spec.topology_manager_scope),
        ("systemReservedCgroup", &mut spec.system_reserved_cgroup),
        ("kubeReservedCgroup", &mut spec.kube_reserved_cgroup),
    ];
    for (name, field) in fields {
        if let Some(text) = config[name].as_str() {
            text.clone_into(field);
        }
    }
    Ok(spec)
}

fn node_start(case: &Value, machine: &Arc<Machine>) -> Result<Value, Mismatch> {
    let spec = spec(case)?;
    let reservation = match NodeReservation::new(&spec, machine) {
        Ok(reservation) => reservation,
        Err(error) => return Ok(json!({ "stage": stage(&error), "error": error.to_string() })),
    };
    let mut shown = Map::new();
    let amount = |(kind, amount): (&ResourceName, &Quantity)| {
        let cpu = *kind == ResourceName::Cpu;
        let text = if cpu { format!("{}m", amount.milli_value()) } else { amount.value().to_string() };
        (kind.to_string(), text.into())
    };
    shown.insert("reservation".to_owned(), Value::Object(reservation.amounts.iter().map(amount).collect()));
    if let Err(error) = reservation.check_capacity(machine) {
        shown.insert("node_allocatable_error".to_owned(), shortened(&error.to_string()).into());
    }
    let cpu = CpuConfig {
        policy: "static".to_owned(),
        options: spec.cpu_manager_policy_options.clone(),
        reservation: reservation.cpu(),
        ..CpuConfig::default()
    };
    match CpuManager::new(Arc::clone(machine), &cpu) {
        Ok(manager) => {
            shown.insert("reserved_cpus".to_owned(), manager.reserved().to_string().into());
            shown.insert("reserved_physical_cpus".to_owned(), manager.reserved_physical().to_string().into());
        }
        Err(error) => _ = shown.insert("cpu_manager_error".to_owned(), error.to_string().into()),
    }
    let memory = MemoryConfig {
        policy: "Static".to_owned(),
        reserved: reservations(&case["reservedMemory"])?,
        node_reservation: reservation.amounts,
        ..MemoryConfig::default()
    };
    match MemoryManager::new(machine, &memory) {
        Ok(mut manager) => {
            manager.start(None).map_err(|error| malformed(&error.to_string()))?;
            shown.insert("memory_nodes".to_owned(), memory_nodes(&manager));
        }
        Err(error) => _ = shown.insert("memory_manager_error".to_owned(), error.to_string().into()),
    }
    Ok(Value::Object(shown))
}

const fn stage(error: &ReservationError) -> &'static str {
    match error {
        ReservationError::CpuList(_) | ReservationError::CpusOffline { .. } => "reserved_cpus",
        ReservationError::Kube(_) => "kube_reserved",
        ReservationError::System(_) => "system_reserved",
        ReservationError::Eviction(_) => "eviction",
        _ => "",
    }
}

fn memory_nodes(manager: &MemoryManager) -> Value {
    let state = manager.state();
    let nodes = state.nodes().iter().map(|node| {
        let tables = state.kinds().iter().enumerate().filter_map(|(index, kind)| {
            let table = node.table(index)?;
            let shown = json!({
                "total": table.total, "system_reserved": table.system_reserved, "allocatable": table.allocatable,
            });
            Some((kind.to_string(), shown))
        });
        (node.id.to_string(), Value::Object(tables.collect()))
    });
    Value::Object(nodes.collect())
}

/// The text up to the first quantity.
fn shortened(text: &str) -> &str {
    text.split_once("has a reservation of").map_or(text, |(before, _)| before)
}
