//! containerd 2.x of Debian testing, which has NRI on by default. What is in testing changes any day, so nothing depends on
//! it: where it cannot be had, and in CI, this is skipped and says so.

use super::with_containerd;
use crate::cluster::containerd::Release;
use crate::cluster::pods::Pod;
use crate::support::node::metric;

#[test]
fn containerd_of_testing_places_pods_from_their_first_moment() {
    if std::env::var_os("CI").is_some() {
        eprintln!("skipped: CI does not depend on Debian testing");
        return;
    }
    let name = "containerd::testing::containerd_of_testing_places_pods_from_their_first_moment";
    with_containerd(Release::Forky, name, |mut bench| {
        let mut agent = bench.agent();
        for pod in [Pod::best_effort(1), Pod::burstable(2, 100), Pod::guaranteed(3, 500), Pod::guaranteed(4, 1000)] {
            bench.run(pod);
            bench.exclusive();
        }
        let before = bench.exclusive();
        assert_eq!(before.len(), 1, "{}", bench.log());
        bench.settle("everybody else has the rest");
        let refusal = bench.refusal(&Pod::guaranteed(5, 64_000));
        assert!(refusal.contains("not enough cpus available to satisfy request"), "{refusal}");
        bench.containerd.restart();
        bench.reconnect();
        assert_eq!(bench.exclusive(), before);
        agent.until("the runtime asks again", || {
            metric("trimtab_nri_registrations_total") >= Some(2.0) && metric("trimtab_nri_connected") == Some(1.0)
        });
        bench.end();
        bench.run(Pod::guaranteed(6, 1000));
        assert_eq!(bench.exclusive().len(), 1);
        bench.settle("settled");
    });
}
