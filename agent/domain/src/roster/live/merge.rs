//! How what was told before and what is told now become one. Mostly the same is told again, and then nothing is copied: a
//! node's lists are long, and whoever looks at the roster shares what is not touched.

use std::sync::Arc;

use crate::roster::{ContainerState, Sandbox, SandboxContainer};
use crate::workload::Labels;

/// Takes everything that the newer telling says.
pub(super) fn take_sandbox(known: &mut Arc<Sandbox>, newer: Sandbox) {
    let same = texts_of_sandbox(known, &newer).iter().all(|(known, newer)| newer.is_empty() || known == newer)
        && map_stays(&known.labels, &newer.labels)
        && map_stays(&known.annotations, &newer.annotations)
        && (newer.ready || !known.ready)
        && (newer.created_at_ns == 0 || newer.created_at_ns == known.created_at_ns)
        && (newer.pod_resources.is_none() || newer.pod_resources == known.pod_resources);
    if !same {
        merge_sandbox(Arc::make_mut(known), newer);
    }
}

/// Takes everything that the newer telling says; the state never goes back.
pub(super) fn take_container(known: &mut Arc<SandboxContainer>, newer: SandboxContainer) {
    let same = texts_of_container(known, &newer).iter().all(|(known, newer)| newer.is_empty() || known == newer)
        && map_stays(&known.labels, &newer.labels)
        && map_stays(&known.annotations, &newer.annotations)
        && later(known.state, newer.state) == known.state
        && (newer.created_at_ns == 0 || newer.created_at_ns == known.created_at_ns)
        && (newer.pid.is_none() || newer.pid == known.pid)
        && (newer.resources.is_none() || newer.resources == known.resources);
    if !same {
        merge_container(Arc::make_mut(known), newer);
    }
}

/// Takes what is not known yet.
pub(super) fn fill_sandbox(known: &mut Arc<Sandbox>, other: &Sandbox) {
    let tells_more = texts_of_sandbox(known, other).iter().any(|(known, other)| known.is_empty() && !other.is_empty())
        || map_fills(&known.labels, &other.labels)
        || map_fills(&known.annotations, &other.annotations)
        || (known.created_at_ns == 0 && other.created_at_ns != 0)
        || (known.pod_resources.is_none() && other.pod_resources.is_some());
    if tells_more {
        let (mut filled, ready) = (other.clone(), known.ready);
        filled.ready = true;
        merge_sandbox(&mut filled, known.as_ref().clone());
        filled.ready = ready;
        *known = Arc::new(filled);
    }
}

/// Takes what is not known yet, and the process.
pub(super) fn fill_container(known: &mut Arc<SandboxContainer>, other: &SandboxContainer) {
    let made_with = other.resources.as_ref().and_then(|told| told.made_with_quota_us);
    let resources_fill = match &known.resources {
        Some(told) => told.made_with_quota_us.is_none() && made_with.is_some(),
        None => other.resources.is_some(),
    };
    let tells_more =
        texts_of_container(known, other).iter().any(|(known, other)| known.is_empty() && !other.is_empty())
            || map_fills(&known.labels, &other.labels)
            || map_fills(&known.annotations, &other.annotations)
            || (known.created_at_ns == 0 && other.created_at_ns != 0)
            || (known.pid.is_none() && other.pid.is_some())
            || resources_fill;
    if tells_more {
        let mut filled = other.clone();
        filled.state = known.state;
        merge_container(&mut filled, known.as_ref().clone());
        if let Some(told) = &mut filled.resources {
            told.made_with_quota_us = told.made_with_quota_us.or(made_with);
        }
        *known = Arc::new(filled);
    }
}

fn merge_sandbox(known: &mut Sandbox, newer: Sandbox) {
    known.ready &= newer.ready;
    told(newer.uid.0, &mut known.uid.0);
    told(newer.namespace, &mut known.namespace);
    told(newer.name, &mut known.name);
    told(newer.runtime_handler, &mut known.runtime_handler);
    told(newer.cgroup_parent, &mut known.cgroup_parent);
    told_pairs(newer.labels, &mut known.labels);
    told_pairs(newer.annotations, &mut known.annotations);
    told_time(newer.created_at_ns, &mut known.created_at_ns);
    known.pod_resources = newer.pod_resources.or(known.pod_resources.take());
}

fn merge_container(known: &mut SandboxContainer, newer: SandboxContainer) {
    known.state = later(known.state, newer.state);
    told(newer.sandbox.0, &mut known.sandbox.0);
    told(newer.name, &mut known.name);
    told(newer.cgroups_path, &mut known.cgroups_path);
    told_pairs(newer.labels, &mut known.labels);
    told_pairs(newer.annotations, &mut known.annotations);
    told_time(newer.created_at_ns, &mut known.created_at_ns);
    known.pid = newer.pid.or(known.pid);
    known.resources = newer.resources.or(known.resources.take());
}

/// An empty text says nothing.
fn told(text: String, known: &mut String) {
    if !text.is_empty() {
        *known = text;
    }
}

/// No pairs say nothing.
fn told_pairs(pairs: Labels, known: &mut Labels) {
    if !pairs.is_empty() {
        *known = pairs;
    }
}

/// 0 says nothing.
fn told_time(ns: i64, known: &mut i64) {
    if ns != 0 {
        *known = ns;
    }
}

fn texts_of_sandbox<'a>(known: &'a Sandbox, other: &'a Sandbox) -> [(&'a str, &'a str); 5] {
    [
        (&known.uid.0, &other.uid.0),
        (&known.namespace, &other.namespace),
        (&known.name, &other.name),
        (&known.runtime_handler, &other.runtime_handler),
        (&known.cgroup_parent, &other.cgroup_parent),
    ]
}

fn texts_of_container<'a>(known: &'a SandboxContainer, other: &'a SandboxContainer) -> [(&'a str, &'a str); 3] {
    [(&known.sandbox.0, &other.sandbox.0), (&known.name, &other.name), (&known.cgroups_path, &other.cgroups_path)]
}

fn map_stays(known: &Labels, newer: &Labels) -> bool {
    newer.is_empty() || newer == known
}

fn map_fills(known: &Labels, other: &Labels) -> bool {
    known.is_empty() && !other.is_empty()
}

/// The later of two states of one container; "unknown" says nothing.
fn later(known: ContainerState, newer: ContainerState) -> ContainerState {
    use ContainerState::{Created, Exited, Running, Unknown};
    match (known, newer) {
        (Exited, _) | (_, Exited) => Exited,
        (Running, _) | (_, Running) => Running,
        (Created, _) | (_, Created) => Created,
        (Unknown, Unknown) => Unknown,
    }
}
