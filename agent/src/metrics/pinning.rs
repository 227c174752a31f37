//! Instruments of pinning, fed from the placements and from the findings about them.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{KindLabel, PhaseLabel, PoolLabel};
use super::subsystem::to_gauge;
use crate::reconcile::node_view::{Lateness, NodeView, PinnerKind};

pub(super) struct PinningMetrics {
    cpus: Family<PoolLabel, Gauge>,
    allocatable_cpus: Gauge,
    pods: Gauge,
    containers: Gauge,
    pinned_containers: Gauge,
    mispinned_containers: Gauge,
    observe_only: Gauge,
    foreign_pinners: Family<KindLabel, Gauge>,
    held_pods: Gauge,
    late_pins: Family<PhaseLabel, Counter>,
    unpinned: Family<PhaseLabel, Gauge<f64, AtomicU64>>,
}

impl PinningMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            cpus: Family::default(),
            allocatable_cpus: Gauge::default(),
            pods: Gauge::default(),
            containers: Gauge::default(),
            pinned_containers: Gauge::default(),
            mispinned_containers: Gauge::default(),
            observe_only: Gauge::default(),
            foreign_pinners: Family::default(),
            held_pods: Gauge::default(),
            late_pins: Family::default(),
            unpinned: Family::default(),
        };
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge(
            "pinning_allocatable_cpus",
            "CPUs that the empty node could give out exclusively",
            &metrics.allocatable_cpus,
        );
        gauge("pinning_pods", "Pods that run on the node", &metrics.pods);
        gauge("pinning_containers", "Containers that run on the node", &metrics.containers);
        gauge("pinning_pinned_containers", "Containers that hold exclusive CPUs", &metrics.pinned_containers);
        gauge(
            "pinning_mispinned_containers",
            "Containers whose CPUs, memory nodes, CPU time or threads are not as ordered",
            &metrics.mispinned_containers,
        );
        gauge(
            "pinning_observe_only",
            "1 if a policy is set and yet nothing is written, because another program pins",
            &metrics.observe_only,
        );
        gauge(
            "pinning_held_pods",
            "Pods that wait because a container of theirs was refused when it was to be created",
            &metrics.held_pods,
        );
        registry.register(
            "pinning_foreign_pinner",
            "1 for each kind of other program that was found to pin: the kubelet itself, or somebody at the runtime",
            metrics.foreign_pinners.clone(),
        );
        registry.register(
            "pinning_late_pins",
            "Containers that ran before they were pinned: there when the agent started (start), or new (later)",
            metrics.late_pins.clone(),
        );
        registry.register_with_unit(
            "pinning_unpinned",
            "Longest time that such a container ran unpinned, where its age is known",
            Unit::Seconds,
            metrics.unpinned.clone(),
        );
        registry.register("pinning_cpus", "CPUs by what they are used for", metrics.cpus.clone());
        metrics.record_view(&NodeView::default());
        metrics
    }

    pub(super) fn record_view(&self, view: &NodeView) {
        let containers = || view.pods.iter().flat_map(|pod| &pod.containers);
        let exclusive: BTreeSet<u32> =
            containers().flat_map(|container| container.exclusive_cpus.iter().copied()).collect();
        for (pool, count) in
            [("exclusive", exclusive.len()), ("shared", view.shared_cpus.len()), ("reserved", view.reserved_cpus.len())]
        {
            self.cpus.get_or_create(&PoolLabel { pool }).set(to_gauge(count));
        }
        self.allocatable_cpus.set(to_gauge(view.allocatable_cpus.len()));
        self.pods.set(to_gauge(view.pods.len()));
        self.containers.set(to_gauge(containers().filter(|container| !container.waiting).count()));
        let pinned = containers().filter(|container| !container.exclusive_cpus.is_empty()).count();
        self.pinned_containers.set(to_gauge(pinned));
        self.observe_only.set(i64::from(view.observe_only.is_some()));
        for kind in PinnerKind::ALL {
            let found = i64::from(view.foreign_pinners.contains(&kind));
            self.foreign_pinners.get_or_create(&KindLabel { kind: kind.as_str() }).set(found);
        }
        self.held_pods.set(to_gauge(view.held_pods));
        self.mispinned_containers.set(to_gauge(containers().filter(|container| container.mispinned.is_some()).count()));
        self.record_lateness("start", &view.late_pins.at_start);
        self.record_lateness("later", &view.late_pins.later);
    }

    fn record_lateness(&self, phase: &'static str, lateness: &Lateness) {
        let pins = self.late_pins.get_or_create_owned(&PhaseLabel { phase });
        pins.inc_by(lateness.count.saturating_sub(pins.get()));
        let longest = lateness.longest.unwrap_or_default();
        self.unpinned.get_or_create(&PhaseLabel { phase }).set(longest.as_secs_f64());
    }
}
