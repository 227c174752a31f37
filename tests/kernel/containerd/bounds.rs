//! Bounds of CPU time, and sets written by others, beside a real runtime that writes what it remembers again.

use std::fs;

use trimtab_domain::cgroup::Version;

use super::{Bench, with_containerd};
use crate::cluster::containerd::Release;
use crate::cluster::pods::Pod;
use crate::support::node::metric;

impl Bench {
    /// Path of the newest container's cgroup below the subtree.
    fn newest(&self) -> String {
        let newest = self.running.last().unwrap();
        format!("kubepods/pod{}/{}", newest.pod.uid, newest.id)
    }

    fn bound(&self) -> String {
        let file = if self.node.pods.version() == Version::V1 { "cpu.cfs_quota_us" } else { "cpu.max" };
        self.node.pods.text(file, &self.newest()).replace("max 100000", "-1")
    }
}

/// A pinned container has no bound, whatever the kubelet and a hand do, and gets everything back in the end.
fn held_and_given_back(bench: &mut Bench) {
    let everything = fs::read_to_string("/sys/devices/system/cpu/online").unwrap().trim().to_owned();
    let mut agent = bench.node.start_ready();
    bench.run(Pod::guaranteed(1, 1000));
    let path = bench.newest();
    let cpus = |bench: &Bench| bench.node.pods.text("cpuset.cpus", &path);
    agent.until("lifted", || bench.bound() == "-1");
    let pinned = cpus(bench);
    assert_ne!(pinned, everything);
    // The kubelet sends shares and quota again.
    let newest = bench.running.last().unwrap();
    bench.kubelet.resize(&newest.pod, "app", &newest.id).unwrap();
    agent.until("lifted again", || bench.bound() == "-1" && cpus(bench) == pinned);
    // A hand; what heals it is known to the runtime, so that it outlives whatever the kubelet sends next.
    bench.node.pods.set("cpuset.cpus", &path, &everything);
    agent.until("healed", || cpus(bench) == pinned);
    bench.kubelet.resize(&newest.pod, "app", &newest.id).unwrap();
    assert_eq!(cpus(bench), pinned);
    agent.until("nothing is wrong", || {
        bench.bound() == "-1" && metric("trimtab_pinning_mispinned_containers") == Some(0.0)
    });
    assert_eq!(agent.terminate(), Some(0));
    let (code, text) = bench.node.once("rollback", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!((cpus(bench), bench.bound()), (everything, "100000".to_owned()), "{text}");
}

#[test]
fn without_nri() {
    with_containerd(Release::Bookworm, "containerd::bounds::without_nri", |mut bench| held_and_given_back(&mut bench));
}

#[test]
fn with_nri() {
    with_containerd(Release::Trixie, "containerd::bounds::with_nri", |mut bench| held_and_given_back(&mut bench));
}
