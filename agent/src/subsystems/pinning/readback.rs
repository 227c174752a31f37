//! Whether what was ordered is in force: CPUs, memory nodes, CPU time, and where threads may really run.

use trimtab_domain::cgroup::tree::{ContainerCgroup, PodCgroup};
use trimtab_domain::cpuset::CpuSet;
use trimtab_domain::plan::{Finding, Severity};

use super::decide::{Decision, Rule};
use super::facts::{self, CPUS, MEMS, Observed, file_object};
use super::writers::quota_file;

/// What a container was to have of one file.
struct Order {
    file: &'static str,
    set: CpuSet,
}

/// What is wrong with a container, each as a clause; empty: everything that was ordered is in force.
///
/// Only an order that has been given can be wrong: a container that has just come is not mispinned, it waits.
pub(super) fn discrepancies(
    decision: &Decision,
    observed: &Observed,
    pod: &PodCgroup,
    container: &ContainerCgroup,
) -> Vec<String> {
    let orders = orders(decision, container);
    let wrong = orders.iter().filter_map(|order| wrong_set(observed, pod, container, order));
    let mut clauses: Vec<String> = wrong.collect();
    clauses.extend(bounded(observed, pod, container));
    clauses.extend(strays(decision, observed, container));
    clauses
}

fn orders(decision: &Decision, container: &ContainerCgroup) -> Vec<Order> {
    let holding = decision.holdings.get(&container.cpuset.path);
    let mut orders = Vec::new();
    if decision.cpus == Rule::Enforce {
        let own = holding.and_then(|holding| holding.cpus.clone());
        let set = own.unwrap_or_else(|| decision.shared.clone());
        orders.extend((!set.is_empty()).then_some(Order { file: CPUS, set }));
    }
    if decision.mems == Rule::Enforce
        && let Some(nodes) = holding.and_then(|holding| holding.nodes)
    {
        orders.push(Order { file: MEMS, set: nodes.iter().collect() });
    }
    orders
}

/// A set that was ordered and is not in force.
fn wrong_set(
    observed: &Observed,
    pod: &PodCgroup,
    container: &ContainerCgroup,
    Order { file, set }: &Order,
) -> Option<String> {
    let cpuset = &container.cpuset;
    let effective = facts::effective(cpuset, file)?;
    if effective == *set {
        return None;
    }
    let is_set = facts::configured_set(cpuset, file).as_ref() == Some(set);
    let ordered = observed.records.get(&file_object(&cpuset.path, file));
    let was_ordered = ordered.is_some_and(|record| CpuSet::parse(&record.ordered).as_ref() == Ok(set));
    if is_set {
        let reason = why_not(observed, pod, (file, set));
        return Some(format!("{file} is set to {set}, and {effective} is in force: {reason}"));
    }
    let text = facts::configured(cpuset, file).unwrap_or_default();
    was_ordered
        .then(|| format!("{file} was ordered to be {set}, and somebody set it to {text:?}: {effective} is in force"))
}

fn why_not(observed: &Observed, pod: &PodCgroup, (file, set): (&str, &CpuSet)) -> String {
    let offline = set.intersection(&observed.hardware.offline);
    let above = facts::effective(&pod.cpuset, file).unwrap_or_default();
    if file == CPUS && !offline.is_empty() {
        format!("CPUs {offline} are offline")
    } else if !set.is_subset(&above) {
        format!("the cgroup of its pod grants only {above}")
    } else {
        "the kernel grants something else, for instance because of a cpuset partition beside it".into()
    }
}

/// CPU time that was to be unbounded and is not.
fn bounded(observed: &Observed, pod: &PodCgroup, container: &ContainerCgroup) -> Option<String> {
    let version = observed.tree.as_ref()?.cpu.as_ref()?.version;
    let lifted = |path: &str| observed.records.contains_key(&file_object(path, quota_file(version)));
    let path = &container.cpuset.path;
    let own = container.cpu.quota.filter(|_| lifted(path) && !observed.lifted.contains(path));
    let quota = own.or_else(|| pod.quota.filter(|_| lifted(&pod.cpuset.path) && lifted(path)));
    let quota_us = quota?.quota_us?;
    Some(format!(
        "its CPU time was to be unbounded, and somebody bounds it to {quota_us} µs in {} µs",
        quota?.period_us
    ))
}

/// Threads that may run where the container must not.
fn strays(decision: &Decision, observed: &Observed, container: &ContainerCgroup) -> Option<String> {
    let own = own_cpus(decision, container)?;
    let (threads, cpus) = observed.threads.get(&container.id)?.outside(own);
    (threads > 0).then(|| format!("{threads} of its threads may run on {cpus}, which are not its own"))
}

fn own_cpus<'a>(decision: &'a Decision, container: &ContainerCgroup) -> Option<&'a CpuSet> {
    let holding = decision.holdings.get(&container.cpuset.path).filter(|_| decision.cpus == Rule::Enforce)?;
    holding.cpus.as_ref()
}

/// What a person should know of a container that no write of the plan puts right.
pub(super) fn findings(
    decision: &Decision,
    observed: &Observed,
    pod: &PodCgroup,
    container: &ContainerCgroup,
) -> Vec<Finding> {
    let name = || observed.display_name(pod, container);
    let set_and_not_in_force = orders(decision, container)
        .into_iter()
        .filter(|order| facts::configured_set(&container.cpuset, order.file).as_ref() == Some(&order.set));
    let mut clauses: Vec<String> =
        set_and_not_in_force.filter_map(|order| wrong_set(observed, pod, container, &order)).collect();
    clauses.extend(strays(decision, observed, container));
    let mut findings = Vec::new();
    if !clauses.is_empty() {
        findings.push(Finding {
            severity: Severity::Warning,
            code: "mispinned",
            object: name(),
            message: clauses.join("; "),
            remedy:
                "remove what narrows the cgroups above (AllowedCPUs= of a slice, a partition), or bring the CPUs online"
                    .into(),
        });
    }
    if let (Some(own), Some(masks)) = (own_cpus(decision, container), observed.threads.get(&container.id)) {
        let unused = own.difference(&masks.union());
        if !masks.truncated && !unused.is_empty() && masks.outside(own).0 == 0 {
            findings.push(Finding {
                severity: Severity::Info,
                code: "pinning-cpus-unused",
                object: name(),
                message: format!("none of its {} threads may run on {unused}, which only it may use", masks.threads),
                remedy:
                    "nothing, if it binds its threads by itself; else take away what does (taskset), or ask for less"
                        .into(),
            });
        }
    }
    findings
}
