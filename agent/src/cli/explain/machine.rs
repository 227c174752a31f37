//! Who holds a CPU, and why.

use trimtab_domain::cpuset::CpuSet;

use super::{Explanation, Facts, Snapshot, workload};
use crate::picture::{Cpu, Usage};

/// The number of a CPU: `3`, `cpu3` or `cpu:3`.
pub(super) fn number(what: &str) -> Option<u32> {
    let digits = what.strip_prefix("cpu").map_or(what, |rest| rest.strip_prefix(':').unwrap_or(rest));
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(super) fn cpu(number: u32, snapshot: &Snapshot) -> Explanation {
    let topology = &snapshot.topology;
    let mut facts = Facts::default();
    let answer = if let Some(cpu) = topology.cpus.iter().find(|cpu| cpu.place.cpu == number) {
        place(cpu, snapshot, &mut facts);
        usage(cpu, snapshot, &mut facts)
    } else if topology.offline_cpus.contains(&number) {
        "it is offline; nobody can run on it until it is brought online".to_owned()
    } else if topology.cpus.is_empty() {
        "not known: the agent has not read the machine yet".to_owned()
    } else {
        let online: CpuSet = topology.cpus.iter().map(|cpu| cpu.place.cpu).collect();
        format!("this machine has no such CPU; online are {online}")
    };
    facts.add_some("observed only", topology.observe_only.clone());
    Explanation { kind: "cpu".to_owned(), subject: number.to_string(), answer, facts: facts.0 }
}

fn place(cpu: &Cpu, snapshot: &Snapshot, facts: &mut Facts) {
    let place = &cpu.place;
    facts.add("place", format!("socket {}, NUMA node {}, core {}", place.socket, place.numa_node, place.core));
    facts.add_some("L3 cache", place.uncore_cache.map(|id| id.to_string()));
    let of_core = snapshot.topology.cpus.iter().filter(|other| {
        (other.place.socket, other.place.numa_node, other.place.core) == (place.socket, place.numa_node, place.core)
            && other.place.cpu != place.cpu
    });
    let siblings: CpuSet = of_core.map(|other| other.place.cpu).collect();
    facts.add("threads of the same core", siblings.to_string());
    if cpu.isolated {
        facts.add("isolated", "the kernel keeps it free of ordinary tasks (isolcpus=)");
    }
}

fn usage(cpu: &Cpu, snapshot: &Snapshot, facts: &mut Facts) -> String {
    match cpu.usage {
        Usage::Exclusive => {
            let holders = cpu.holders.iter().filter_map(|holder| snapshot.topology.holders.get(*holder));
            let mut names = Vec::new();
            for holder in holders {
                let name = [holder.namespace.as_str(), &holder.pod, &holder.container].join("/");
                if let Some((_, container)) = workload::containers(snapshot).find(|(found, _)| *found == name) {
                    workload::why(container, facts);
                }
                names.push(name);
            }
            format!("{} holds it, nobody else runs on it", names.join(" and "))
        }
        Usage::Free => "free to be given out; until then every container of the shared pool may run on it".to_owned(),
        Usage::Shared => "one of the shared pool; it is never given out to one container".to_owned(),
        Usage::Reserved => {
            "reserved for the system: by reservedSystemCPUs, or by the CPUs of kubeReserved and systemReserved"
                .to_owned()
        }
        Usage::Other => "no pod may use it: the pods' cgroup does not grant it".to_owned(),
    }
}
