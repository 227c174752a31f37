//! What must hold after every step of every scenario, whatever the kubelet did.

use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::placement::ResourceManagers;
use trimtab_domain::workload::ContainerKind;

use crate::category::{Mismatch, Verdict};

/// No reserved CPU is owned, no CPU is owned by two pods or owned and shared, and every owner has as many as it asks for.
pub(super) fn check(label: &str, managers: &ResourceManagers) -> Verdict {
    let broken = |what: String| Err(Mismatch { expected: format!("{label}: a safe placement"), got: what });
    let allocatable = managers.allocatable_cpus();
    let mut owned = CpuSet::new();
    for (pod, containers) in &managers.cpu().state().assignments {
        let mut own = CpuSet::new();
        let mut running = CpuSet::new();
        for (name, cpus) in containers {
            if !cpus.is_subset(&allocatable) {
                return broken(format!("{pod}/{name} owns {cpus}, of which only {allocatable} can be owned"));
            }
            // In a pod with resources of its own, containers without exclusive CPUs share what the pod has.
            let known = managers.active().get(pod).filter(|pod| pod.resources.is_none());
            let known = known.and_then(|pod| pod.containers.iter().find(|container| container.name == *name));
            if let Some(container) = known {
                let wanted = container.resources.cpu_request().whole();
                if wanted != Some(cpus.len()) {
                    return broken(format!("{pod}/{name} owns {cpus}, but asks for {wanted:?} CPUs"));
                }
                if container.kind != ContainerKind::Init && !cpus.is_disjoint(&running) {
                    return broken(format!("{pod}/{name} owns {cpus}, of which others of the pod run on {running}"));
                }
                if container.kind != ContainerKind::Init {
                    running.insert_all(cpus);
                }
            }
            own.insert_all(cpus);
        }
        if !own.is_disjoint(&owned) {
            return broken(format!("{pod} owns {own}, of which others own {}", own.intersection(&owned)));
        }
        owned.insert_all(&own);
    }
    if managers.cpu().is_static() && !owned.is_disjoint(managers.shared_cpus()) {
        return broken(format!("{owned} are owned, and {} shared", managers.shared_cpus()));
    }
    Ok(())
}
