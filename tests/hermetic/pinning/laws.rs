//! The five laws, for both versions and both drivers.

use nix::errno::Errno;
use trimtab::subsystems::pinning::Pinning;
use trimtab_domain::cgroup::Version;
use trimtab_domain::spec::NodeSpec;
use trimtab_domain::spec::cgroup::CgroupDriver;
use trimtab_domain::workload::QosClass;

use super::{agent, static_cpus};
use crate::laws::{Fixture, prove_five_laws};
use crate::support::fake_cgroups::{Ask, FakeCgroups, Shape};
use crate::support::fake_host::Contents;
use crate::support::fake_ledger::Records;

struct Pods {
    node: FakeCgroups,
    agent: Pinning,
    pinned: String,
    shared: String,
    /// Whether bounds of CPU time are lifted.
    lift: bool,
}

impl Pods {
    fn new(version: Version, driver: CgroupDriver, lift: bool) -> Self {
        let node = FakeCgroups::new(version, driver, Shape { nodes: 2, cores_per_node: 2, threads: 2 });
        let pinned = node.simple(QosClass::Guaranteed, "11111111-1111", Ask::cpus(2));
        let shared = node.simple(QosClass::Burstable, "22222222-2222", Ask::cpus(1));
        node.simple(QosClass::BestEffort, "33333333-3333", Ask { milli: 0, memory: None });
        if version == Version::V2 {
            // The kernel takes no empty list while processes run; what comes instead is shown elsewhere.
            node.stop_processes();
        }
        Self { agent: agent(&node), node, pinned, shared, lift }
    }
}

impl Fixture for Pods {
    type Sub = Pinning;
    type State = (Contents, Records);

    fn subsystem(&self) -> &Pinning {
        &self.agent
    }

    fn spec(&self) -> NodeSpec {
        let mut spec = static_cpus("0");
        spec.resource_managers.as_mut().unwrap().extensions.lift_cpu_quota = Some(self.lift);
        spec
    }

    fn state(&self) -> Self::State {
        (self.node.controls(), self.node.ledger.snapshot())
    }

    fn attempts(&self) -> Option<usize> {
        Some(self.node.host.attempts())
    }

    fn drift(&self) {
        self.node.drift(&self.shared, "cpuset.cpus", "0-7");
        self.node.drift(&self.pinned, "cpuset.cpus", "0-1");
    }

    fn break_one(&self) -> Option<String> {
        if self.lift {
            // A bound is not lifted before the pin, so here a broken pin leaves more than itself: proven elsewhere.
            return None;
        }
        self.node.host.fail_writes(self.node.cpuset_file(&self.pinned, "cpuset.cpus"), Errno::EIO, usize::MAX);
        Some(format!("{}/cpuset.cpus", self.pinned))
    }

    fn repair(&self) {
        self.node.host.repair();
    }
}

#[tokio::test]
async fn five_laws_on_version_1() {
    for lift in [false, true] {
        prove_five_laws(|| Pods::new(Version::V1, CgroupDriver::Cgroupfs, lift)).await;
        prove_five_laws(|| Pods::new(Version::V1, CgroupDriver::Systemd, lift)).await;
    }
}

#[tokio::test]
async fn five_laws_on_version_2() {
    for lift in [false, true] {
        prove_five_laws(|| Pods::new(Version::V2, CgroupDriver::Systemd, lift)).await;
        prove_five_laws(|| Pods::new(Version::V2, CgroupDriver::Cgroupfs, lift)).await;
    }
}
