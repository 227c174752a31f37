//! containerd 1.7 asks the agent while it creates a container, so nobody runs where he may not, not even for a moment.

use std::time::Duration;

use super::{Bench, with_containerd};
use crate::cluster::containerd::Release;
use crate::cluster::pods::Pod;
use crate::cluster::truth::{self, Running};
use crate::support::node::{Agent, metric};

impl Bench {
    /// Starts the daemon and waits until containers that are made now are its own from their first moment.
    pub(super) fn agent(&self) -> Agent {
        // Tests restart it more often than the agent lets itself register within ten minutes.
        let _absent = std::fs::remove_file(self.node.host().join("run/trimtab/nri-registrations"));
        let mut agent = self.node.start_ready();
        agent.until("the runtime asks the agent", || metric("trimtab_nri_connected") == Some(1.0));
        agent
    }
}

#[test]
fn pods_of_all_classes_are_placed_from_their_first_moment() {
    let name = "containerd::nri::pods_of_all_classes_are_placed_from_their_first_moment";
    with_containerd(Release::Trixie, name, |mut bench| {
        let _agent = bench.agent();
        for pod in [Pod::best_effort(1), Pod::burstable(2, 100), Pod::guaranteed(3, 500), Pod::guaranteed(4, 1000)] {
            bench.run(pod);
            bench.exclusive();
        }
        assert_eq!(bench.exclusive().len(), 1, "{}", bench.log());
        bench.settle("everybody else has the rest");
        bench.end();
        bench.settle("what the last one had is given back");
    });
}

#[test]
fn a_container_keeps_its_cpus_while_its_pod_lives() {
    with_containerd(Release::Trixie, "containerd::nri::a_container_keeps_its_cpus_while_its_pod_lives", |mut bench| {
        let _agent = bench.agent();
        let all = i64::try_from(truth::online().len()).unwrap() - 1;
        bench.run(Pod::guaranteed(1, all * 1000));
        let before = bench.exclusive();
        let old = bench.running.pop().unwrap();
        bench.kubelet.stop(&old.id).unwrap();
        let refusal = bench.refusal(&Pod::guaranteed(2, 1000));
        assert!(refusal.contains("not enough cpus available to satisfy request"), "{refusal}");
        bench.run_in(old.pod, old.sandbox, 1);
        bench.kubelet.remove(&old.id).unwrap();
        assert_eq!(bench.exclusive(), before);
        bench.end();
        bench.run(Pod::guaranteed(3, 1000));
        assert_eq!(bench.exclusive().len(), 1);
    });
}

#[test]
fn a_container_to_debug_with_takes_nothing_from_its_pod() {
    let name = "containerd::nri::a_container_to_debug_with_takes_nothing_from_its_pod";
    with_containerd(Release::Trixie, name, |mut bench| {
        let _agent = bench.agent();
        bench.debug();
    });
}

#[test]
fn what_cannot_be_had_is_refused_in_the_words_of_the_kubelet() {
    let name = "containerd::nri::what_cannot_be_had_is_refused_in_the_words_of_the_kubelet";
    with_containerd(Release::Trixie, name, |mut bench| {
        let _agent = bench.agent();
        let all = truth::online().len();
        let refusal = bench.refusal(&Pod::guaranteed(1, i64::try_from(all).unwrap() * 1000));
        let words = format!("not enough cpus available to satisfy request: requested={all}, available={}", all - 1);
        assert!(refusal.contains("UnexpectedAdmissionError") && refusal.contains(&words), "{refusal}");
        bench.run(Pod::guaranteed(2, 1000));
        assert_eq!(bench.exclusive().len(), 1, "a refusal leaves nothing behind");
    });
}

#[test]
fn an_agent_killed_while_a_container_is_made_is_made_good_by_the_next() {
    let name = "containerd::nri::an_agent_killed_while_a_container_is_made_is_made_good_by_the_next";
    with_containerd(Release::Trixie, name, |mut bench| {
        let mut agent = bench.agent();
        bench.run(Pod::burstable(1, 100));
        for (number, delay) in [(2, 0), (3, 10), (4, 20), (5, 40)] {
            let pod = Pod::guaranteed(number, 1000);
            let sandbox = bench.kubelet.sandbox(&pod).unwrap();
            let death = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(delay));
                agent.kill();
            });
            bench.run_in(pod, sandbox, 0);
            death.join().unwrap();
            agent = bench.node.start_ready();
            bench.settle("placed by the next agent");
            assert_eq!(bench.exclusive().len(), 1, "{}", bench.log());
            bench.end();
            bench.settle("given back by the next agent");
        }
    });
}

#[test]
fn a_restarted_runtime_is_found_again_and_nobody_is_moved() {
    let name = "containerd::nri::a_restarted_runtime_is_found_again_and_nobody_is_moved";
    with_containerd(Release::Trixie, name, |mut bench| {
        let mut agent = bench.agent();
        bench.run(Pod::best_effort(1));
        bench.run(Pod::guaranteed(2, 1000));
        let before = bench.exclusive();
        bench.containerd.restart();
        bench.reconnect();
        assert_eq!(bench.exclusive(), before);
        agent.until("the runtime asks again", || {
            metric("trimtab_nri_registrations_total") >= Some(2.0) && metric("trimtab_nri_connected") == Some(1.0)
        });
        bench.end();
        bench.run(Pod::guaranteed(3, 1000));
        assert_eq!(bench.exclusive().len(), 1, "placed from its first moment");
        bench.settle("settled");
    });
}

#[test]
fn what_runs_in_a_sandbox_that_has_died_keeps_its_cpus() {
    let name = "containerd::nri::what_runs_in_a_sandbox_that_has_died_keeps_its_cpus";
    with_containerd(Release::Trixie, name, |mut bench| {
        let mut agent = bench.agent();
        let all = i64::try_from(truth::online().len()).unwrap() - 1;
        bench.run(Pod::guaranteed(1, all * 1000));
        let before = bench.exclusive();
        let refused = |bench: &Bench, number| {
            let refusal = bench.refusal(&Pod::guaranteed(number, 1000));
            assert!(refusal.contains("not enough cpus available to satisfy request"), "{refusal}");
            assert_eq!(bench.exclusive(), before);
        };
        truth::kill_all(&bench.running[0].sandbox);
        bench.until_sandbox_is_not_ready();
        refused(&bench, 2);
        // A runtime that starts again tells of it as of one that is not ready.
        bench.containerd.restart();
        bench.reconnect();
        agent.until("the runtime asks again", || {
            metric("trimtab_nri_registrations_total") >= Some(2.0) && metric("trimtab_nri_connected") == Some(1.0)
        });
        bench.settle("nobody has moved");
        refused(&bench, 3);
        bench.end();
        bench.run(Pod::guaranteed(4, 1000));
        assert_eq!(bench.exclusive().len(), 1);
    });
}

#[test]
fn pods_that_ran_before_the_agent_are_placed_by_it() {
    with_containerd(
        Release::Trixie,
        "containerd::nri::pods_that_ran_before_the_agent_are_placed_by_it",
        |mut bench| {
            bench.run(Pod::best_effort(1));
            bench.run(Pod::guaranteed(2, 1000));
            let _agent = bench.agent();
            bench.settle("placed");
            // The kubelet sends shares and quota alone; what the runtime remembers of the sets must be the agent's.
            let Running { pod, id, .. } = bench.running.last().unwrap();
            bench.kubelet.resize(pod, "app", id).unwrap();
            assert_eq!(bench.exclusive().len(), 1);
        },
    );
}

#[test]
fn a_resize_of_exclusive_cpus_is_refused_in_the_words_of_the_kubelet() {
    let name = "containerd::nri::a_resize_of_exclusive_cpus_is_refused_in_the_words_of_the_kubelet";
    with_containerd(Release::Trixie, name, |mut bench| {
        let _agent = bench.agent();
        bench.run(Pod::guaranteed(1, 1000));
        let Running { pod, id, .. } = bench.running.last().unwrap();
        let mut larger = pod.clone();
        (larger.wishes[0].request_milli, larger.wishes[0].limit_milli) = (2000, 2000);
        let error = bench.kubelet.resize(&larger, "app", id).unwrap_err();
        let words = "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy";
        assert!(error.message().contains(words), "{error:?}");
        assert_eq!(bench.exclusive().len(), 1, "nothing has changed");
    });
}
