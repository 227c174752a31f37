//! What the history is told of besides passes: starts, profiles, placements; and the copy kept for the next run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use trimtab_domain::cpuset::CpuSet;

use crate::adapters::history_file::HistoryFile;
use crate::reconcile::history::{Change, ChangeKind, History};
use crate::reconcile::node_view::{ContainerView, NodeView};
use crate::reconcile::report::ProfileReport;

/// Shortest time between two copies of the history.
const KEEP_PAUSE: Duration = Duration::from_secs(30);

/// The subsystem that places.
const PINNING: &str = "pinning";

/// The agent started.
pub(super) fn started() -> Change {
    Change { new: Some(env!("CARGO_PKG_VERSION").to_owned()), ..Change::new("", ChangeKind::Started, "") }
}

/// Notes a profile that came into force or was rejected.
pub(super) fn profile(history: &History, before: &ProfileReport, now: &ProfileReport) {
    if now.generation != before.generation {
        history.note(Change {
            old: (before.generation > 0).then(|| format!("{} (generation {})", before.name, before.generation)),
            new: Some(format!("{} (generation {})", now.name, now.generation)),
            reason: "the profile has changed".to_owned(),
            ..Change::new("", ChangeKind::Profile, &now.source)
        });
    }
    if !now.valid && !now.errors.is_empty() && now.errors != before.errors {
        let error = Some(now.errors.join("; "));
        history.note(Change { error, ..Change::new("", ChangeKind::ProfileRejected, &now.source) });
    }
}

/// Notes who gets CPUs and memory of its own, and who gives them back, from the first view on that a pass has made.
pub(super) async fn follow_placements(mut view: watch::Receiver<Arc<NodeView>>, history: Arc<History>) {
    if view.changed().await.is_err() {
        return;
    }
    let mut before = Arc::clone(&view.borrow_and_update());
    while view.changed().await.is_ok() {
        let now = Arc::clone(&view.borrow_and_update());
        for change in placement_changes(&before, &now) {
            history.note(change);
        }
        before = now;
    }
}

/// What a container holds, by its id.
type Holdings = BTreeMap<String, (String, String)>;

fn holdings(view: &NodeView) -> Holdings {
    let pods = view.pods.iter();
    let containers = pods.flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
    let held = containers.filter_map(|(pod, container)| {
        let name = [pod.namespace.as_str(), pod.name.as_str(), container.name.as_str()].join("/");
        Some((container.id.0.clone(), (name, held_by(container)?)))
    });
    held.collect()
}

/// `None` for a container of the shared pool.
fn held_by(container: &ContainerView) -> Option<String> {
    let cpus: CpuSet = container.exclusive_cpus.iter().copied().collect();
    let memory = container.memory.iter().map(|block| {
        let nodes: CpuSet = block.numa_nodes.iter().copied().collect();
        format!("{} {} bytes @ {nodes}", block.memory_type, block.size_bytes)
    });
    let cpus = (!cpus.is_empty()).then(|| format!("CPUs {cpus}"));
    let parts: Vec<String> = cpus.into_iter().chain(memory).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn placement_changes(before: &NodeView, now: &NodeView) -> Vec<Change> {
    let (old, new) = (holdings(before), holdings(now));
    // A container that is started again has another id and keeps what it has.
    let kept = |holdings: &Holdings, holding: &(String, String)| holdings.values().any(|other| other == holding);
    let gone =
        old.iter().filter(|(id, holding)| !new.contains_key(*id) && !kept(&new, holding)).map(|(_, (name, held))| {
            Change {
                old: Some(held.clone()),
                reason: "it ended, or is in the shared pool now".to_owned(),
                ..Change::new(PINNING, ChangeKind::GivenBack, name)
            }
        });
    let came = new.iter().filter_map(|(id, (name, held))| {
        let before = old.get(id).map(|(_, held)| held.clone());
        let same = before.as_ref() == Some(held) || kept(&old, &(name.clone(), held.clone()));
        (!same).then(|| Change {
            old: before,
            new: Some(held.clone()),
            reason: now
                .explanations
                .iter()
                .find(|(key, _)| key.0 == *id)
                .map(|(_, why)| why.rule.clone())
                .unwrap_or_default(),
            ..Change::new(PINNING, ChangeKind::Placed, name)
        })
    });
    gone.chain(came).collect()
}

/// Keeps a copy of the history, seldom, and once more at the end.
pub(super) async fn keep(file: HistoryFile, history: Arc<History>, cancel: CancellationToken) {
    let mut newest = history.subscribe();
    let mut failing = false;
    loop {
        let stopping = tokio::select! {
            () = cancel.cancelled() => true,
            changed = newest.changed() => changed.is_err(),
        };
        let _seen = *newest.borrow_and_update();
        let stored = file.store(&history.entries());
        if let Err(error) = &stored
            && !failing
        {
            warn!(%error, "the history cannot be kept; the next run of the agent will not know it");
        }
        failing = stored.is_err();
        if stopping {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(KEEP_PAUSE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use trimtab_domain::workload::{ContainerId, PodUid, QosClass};

    use super::*;
    use crate::reconcile::node_view::PodView;

    fn view(containers: &[(&str, &[u32])]) -> NodeView {
        let container = |(id, cpus): &(&str, &[u32])| ContainerView {
            name: format!("name-{id}"),
            id: ContainerId((*id).into()),
            exclusive_cpus: cpus.to_vec(),
            memory: Vec::new(),
            effective_cpus: String::new(),
            effective_mems: String::new(),
            mispinned: None,
            waiting: false,
        };
        let pod = PodView {
            uid: PodUid("uid".into()),
            name: "pod".into(),
            namespace: "ns".into(),
            qos: QosClass::Guaranteed,
            containers: containers.iter().map(container).collect(),
        };
        NodeView { pods: vec![pod], ..NodeView::default() }
    }

    #[test]
    fn containers_that_get_keep_change_and_give_back_are_told_apart() {
        let before = view(&[("kept", &[1]), ("moved", &[2, 3]), ("gone", &[4]), ("poor", &[])]);
        let now = view(&[("kept", &[1]), ("moved", &[3, 5]), ("new", &[6]), ("poor", &[])]);
        let told: Vec<_> = placement_changes(&before, &now)
            .into_iter()
            .map(|change| (change.kind.as_str(), change.object, change.old, change.new))
            .collect();
        let cpus = |text: &str| Some(format!("CPUs {text}"));
        assert_eq!(
            told,
            [
                ("given-back", "ns/pod/name-gone".to_owned(), cpus("4"), None),
                ("placed", "ns/pod/name-moved".to_owned(), cpus("2-3"), cpus("3,5")),
                ("placed", "ns/pod/name-new".to_owned(), None, cpus("6")),
            ]
        );
        assert!(placement_changes(&now, &now).is_empty());
    }

    #[test]
    fn a_restart_that_keeps_its_cpus_is_no_change() {
        let mut now = view(&[("2", &[1])]);
        let before = view(&[("1", &[1])]);
        now.pods[0].containers[0].name.clone_from(&before.pods[0].containers[0].name);
        assert!(placement_changes(&before, &now).is_empty());
        now.pods[0].containers[0].exclusive_cpus = vec![2];
        assert_eq!(placement_changes(&before, &now).len(), 2, "other CPUs are a change");
    }

    #[test]
    fn a_profile_is_noted_when_it_comes_into_force_and_when_it_is_rejected() {
        let history = History::default();
        let first = ProfileReport { name: "a".into(), generation: 1, valid: true, ..ProfileReport::default() };
        let bad = ProfileReport { valid: false, errors: vec!["line 1: no".into()], ..first.clone() };
        let second = ProfileReport { generation: 2, ..first.clone() };
        profile(&history, &ProfileReport::default(), &first);
        profile(&history, &first, &bad);
        profile(&history, &bad, &bad);
        profile(&history, &bad, &second);
        let kinds: Vec<_> = history.entries().iter().map(|entry| entry.change.kind.as_str()).collect();
        assert_eq!(kinds, ["profile", "profile-rejected", "profile"]);
    }
}
