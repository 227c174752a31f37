//! What a person should know about a pod that several sources tell of.

use super::parts::Parts;
use crate::plan::{Finding, Severity};
use crate::roster::pod::KnownPod;
use crate::roster::qos::{class_of_cgroup, contradicts};

/// Adds what is to be said about one pod.
pub(super) fn about(pod: &KnownPod, parts: &Parts<'_>, findings: &mut Vec<Finding>) {
    if let Some(reason) = &pod.sandboxed {
        findings.push(Finding {
            severity: Severity::Info,
            code: "pod-sandboxed",
            object: pod.display_name(),
            message: format!(
                "{reason}, which is not the kernel of this node: its CPUs and memory nodes are left alone"
            ),
            remedy: String::new(),
        });
    }
    findings.extend(parts.strangers.iter().map(|id| Finding {
        severity: Severity::Warning,
        code: "pod-contradiction",
        object: pod.display_name(),
        message: format!(
            "container {id} runs in the cgroup of this pod while the runtime counts it to another one; the cgroup counts"
        ),
        remedy: "look for a program that moves cgroups; restart the pod".into(),
    }));
    findings.extend(class_contradiction(pod, parts).map(|message| Finding {
        severity: Severity::Warning,
        code: "pod-contradiction",
        object: pod.display_name(),
        message,
        remedy: "look for a program that changes oom_score_adj or moves cgroups; restart the pod".into(),
    }));
}

/// How another source tells a class that cannot be.
fn class_contradiction(pod: &KnownPod, parts: &Parts<'_>) -> Option<String> {
    let class = *pod.qos.exact()?;
    let parent = parts.sandbox.map(|sandbox| sandbox.cgroup_parent.as_str()).unwrap_or_default();
    if class_of_cgroup(parent).is_some_and(|told| told != class) {
        return Some(format!(
            "it runs as {class} by its cgroup, while the runtime was given {parent}; the cgroup counts"
        ));
    }
    let mut scores = parts.containers.iter().filter_map(|container| {
        let score = container.resources.as_ref()?.oom_score_adj?;
        contradicts(class, score).then_some((container, score))
    });
    let (container, score) = scores.next()?;
    Some(format!(
        "it is {class} by its cgroup, while container {} has oom_score_adj {score}, which that class never has; the cgroup \
         counts",
        if container.name.is_empty() { &container.id.0 } else { &container.name }
    ))
}
