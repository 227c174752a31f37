use proptest::prelude::*;

use super::*;

/// A node, its cluster, and what a step does to them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    lease: bool,
    healthy: bool,
    cordoned: bool,
    pods: usize,
    daemons: usize,
    kubelet: bool,
    runtime: bool,
    files: (CgroupDriver, CgroupDriver),
    original: (CgroupDriver, CgroupDriver),
    running: CgroupDriver,
    ready_with_target: bool,
    reachable: bool,
    /// Whether the kubelet starts with the target at all.
    starts_with_target: bool,
    /// Whether the runtime lets its sandboxes be removed.
    lets_go: bool,
}

impl World {
    fn new() -> Self {
        let files = (CgroupDriver::Cgroupfs, CgroupDriver::Cgroupfs);
        Self {
            lease: false,
            healthy: true,
            cordoned: false,
            pods: 2,
            daemons: 1,
            kubelet: true,
            runtime: true,
            files,
            original: files,
            running: CgroupDriver::Cgroupfs,
            ready_with_target: true,
            reachable: true,
            starts_with_target: true,
            lets_go: true,
        }
    }

    fn facts(&self) -> Facts {
        let asked = |value| self.reachable.then_some(value);
        let is_well = self.running == self.original.0 || self.ready_with_target;
        Facts {
            holds_lease: asked(self.lease),
            cluster_is_healthy: asked(self.healthy),
            cordoned: asked(self.cordoned),
            to_evict: self.reachable.then_some(self.pods),
            kubelet_runs: self.kubelet,
            runtime_runs: self.runtime,
            sandboxes: self.runtime.then_some(self.daemons),
            runtime_file: self.files.0,
            kubelet_file: self.files.1,
            files_are_original: self.files == self.original,
            runtime_says: self.runtime.then_some(self.running),
            node_is_ready: asked(self.kubelet && self.runtime && is_well),
        }
    }

    /// The step, with what must hold before it.
    fn make(&mut self, action: Action, journal: &mut Journal) {
        match action {
            Action::TakeLease => self.lease = true,
            Action::Cordon => {
                assert!(self.lease, "a node is cordoned only in its turn");
                self.cordoned = true;
                journal.cordoned = true;
            }
            Action::Evict => {
                assert!(self.cordoned, "pods would come back");
                self.pods = self.pods.saturating_sub(1);
            }
            Action::StopKubelet => {
                assert!(self.cordoned && self.pods == 0, "the kubelet of a node with pods is stopped");
                self.kubelet = false;
            }
            Action::RemoveSandboxes => {
                assert!(!self.kubelet, "the kubelet would make them anew");
                self.daemons = if self.lets_go { 0 } else { self.daemons };
            }
            Action::StopRuntime => {
                assert!(!self.kubelet);
                self.runtime = false;
            }
            Action::EditRuntime | Action::EditKubelet | Action::RestoreFiles => {
                assert!(!self.kubelet && !self.runtime, "a file is changed under a running program");
                match action {
                    Action::EditRuntime => self.files.0 = journal.target,
                    Action::EditKubelet => self.files.1 = journal.target,
                    _ => self.files = self.original,
                }
            }
            Action::StartRuntime => {
                self.runtime = true;
                self.running = self.files.0;
            }
            Action::StartKubelet => {
                assert!(self.runtime, "the kubelet does not start without a runtime");
                self.kubelet = self.files.1 == self.original.1 || self.starts_with_target;
                self.daemons = 1;
            }
            Action::Uncordon => {
                assert!(self.kubelet && self.runtime && journal.cordoned);
                self.cordoned = false;
            }
            Action::GiveLeaseBack => {
                assert!(!self.cordoned || !journal.cordoned);
                self.lease = false;
            }
        }
    }
}

fn run(world: &mut World, journal: &mut Journal, mut disturb: impl FnMut(usize, &mut World, &mut Journal)) -> Outcome {
    for step in 0..200 {
        disturb(step, world, journal);
        let now = step as u64;
        journal.note(&world.facts(), now);
        match decide(journal, &world.facts(), Limits { drain: 60, ready: 20 }, now) {
            Decision::Do(action) => world.make(action, journal),
            Decision::Wait(_) => {}
            Decision::TurnBack(reason) => journal.turn_back(reason, now),
            Decision::End(outcome) => return outcome,
        }
    }
    panic!("it never ends: {world:?} {journal:?}");
}

#[test]
fn a_node_is_moved_and_open_for_pods_again() {
    let (mut world, mut journal) = (World::new(), Journal::begin(CgroupDriver::Systemd, 0));
    assert_eq!(run(&mut world, &mut journal, |_, _, _| {}), Outcome::Migrated);
    assert_eq!(
        (world.running, world.cordoned, world.lease, world.kubelet),
        (CgroupDriver::Systemd, false, false, true)
    );
}

#[test]
fn a_node_that_a_person_had_cordoned_stays_cordoned() {
    let mut world = World { cordoned: true, ..World::new() };
    assert_eq!(run(&mut world, &mut Journal::begin(CgroupDriver::Systemd, 0), |_, _, _| {}), Outcome::Migrated);
    assert!(world.cordoned && !world.lease);
}

#[test]
fn turning_back_before_any_step_until_it_has_arrived_gives_back_the_node_as_it_was() {
    for step in 0..14 {
        let (mut world, mut journal) = (World::new(), Journal::begin(CgroupDriver::Systemd, 0));
        let mut has_arrived = false;
        let outcome = run(&mut world, &mut journal, |now, _, journal| {
            if now == step {
                has_arrived = journal.arrived;
                journal.turn_back("no longer wished".into(), now as u64);
            }
        });
        if has_arrived {
            assert_eq!(outcome, Outcome::Migrated, "step {step}");
            continue;
        }
        assert_eq!(outcome, Outcome::TurnedBack { reason: "no longer wished".into() }, "step {step}");
        let expected = World { pods: world.pods, ..World::new() };
        assert_eq!(world, expected, "step {step}");
    }
}

#[test]
fn a_node_that_is_not_ready_with_the_new_driver_gets_the_old_one_back() {
    let mut world = World { ready_with_target: false, ..World::new() };
    let outcome = run(&mut world, &mut Journal::begin(CgroupDriver::Systemd, 0), |_, _, _| {});
    assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains("not ready")), "{outcome:?}");
    assert_eq!((world.files, world.running), (world.original, CgroupDriver::Cgroupfs));
}

#[test]
fn a_kubelet_that_does_not_start_and_a_runtime_that_keeps_its_sandboxes_are_given_up() {
    let cases = [
        (World { starts_with_target: false, ..World::new() }, "did not start"),
        (World { lets_go: false, ..World::new() }, "could not be stopped"),
    ];
    for (mut world, why) in cases {
        let outcome = run(&mut world, &mut Journal::begin(CgroupDriver::Systemd, 0), |_, _, _| {});
        assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains(why)), "{outcome:?}");
        assert_eq!(world.files, world.original);
        assert!(world.kubelet && world.runtime && !world.cordoned && !world.lease, "{world:?}");
    }
}

#[test]
fn an_api_server_that_goes_once_the_node_is_prepared_is_waited_for_and_costs_nothing() {
    let (mut world, mut journal) = (World::new(), Journal::begin(CgroupDriver::Systemd, 0));
    let outcome = run(&mut world, &mut journal, |step, world, journal| {
        world.reachable = !journal.prepared || step > 150;
    });
    assert_eq!(outcome, Outcome::Migrated);
    assert!(!world.cordoned && !world.lease);
}

#[test]
fn nothing_begins_while_other_nodes_are_unwell_and_a_drain_is_given_up() {
    let journal = Journal::begin(CgroupDriver::Systemd, 0);
    let ill = World { healthy: false, ..World::new() };
    assert!(matches!(decide(&journal, &ill.facts(), Limits::default(), 0), Decision::Wait(_)));
    let mut world = World::new();
    let mut begun = Journal::begin(CgroupDriver::Systemd, 0);
    let outcome = run(&mut world, &mut begun, |step, world, _| world.healthy = step < 3);
    assert!(matches!(outcome, Outcome::TurnedBack { .. }));
    assert!(!world.cordoned && !world.lease && world.pods > 0);
}

#[test]
fn a_budget_that_lets_no_pod_go_ends_the_drain_in_time() {
    let mut world = World::new();
    let mut journal = Journal::begin(CgroupDriver::Systemd, 0);
    let outcome = run(&mut world, &mut journal, |_, world, _| world.pods = 1);
    assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains("pods were left")), "{outcome:?}");
    assert!(world.kubelet && !world.cordoned);
}

proptest! {
    /// The API server goes and comes, somebody starts or stops the units, the wish is taken back: the invariants in
    /// `World::make` hold, and once all is calm it ends in one of the two states that a person knows.
    #[test]
    fn whatever_happens_it_ends_whole(events in proptest::collection::vec(0u8..7, 0..40)) {
        let (mut world, mut journal) = (World::new(), Journal::begin(CgroupDriver::Systemd, 0));
        let outcome = run(&mut world, &mut journal, |step, world, journal| {
            match events.get(step) {
                Some(0) => world.reachable = false,
                Some(1) => world.reachable = true,
                Some(2) => world.kubelet = false,
                Some(3) if world.runtime => world.kubelet = true,
                Some(4) => journal.turn_back("no longer wished".into(), step as u64),
                Some(5) => world.healthy = !world.healthy,
                _ => {}
            }
            if step >= events.len() {
                (world.reachable, world.healthy) = (true, true);
            }
        });
        let driver = if outcome == Outcome::Migrated { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        prop_assert_eq!(world.files, (driver, driver));
        prop_assert!(world.kubelet && world.runtime && !world.cordoned && !world.lease);
    }
}

#[test]
fn the_key_is_set_and_all_else_stays() {
    let cases = [
        ("a: 1\ncgroupDriver: cgroupfs # by hand\nb: 2\n", "a: 1\ncgroupDriver: systemd # by hand\nb: 2\n"),
        ("# head\nkind: KubeletConfiguration\n", "# head\nkind: KubeletConfiguration\ncgroupDriver: systemd\n"),
        ("kind: X", "kind: X\ncgroupDriver: systemd\n"),
        ("---\n\"cgroupDriver\" : \"cgroupfs\"\n", "---\n\"cgroupDriver\" : systemd\n"),
        ("a: 1\r\ncgroupDriver: cgroupfs\r\n", "a: 1\r\ncgroupDriver: systemd\r\n"),
        ("x:\n  cgroupDriver: cgroupfs\n", "x:\n  cgroupDriver: cgroupfs\ncgroupDriver: systemd\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(set_cgroup_driver(text, CgroupDriver::Systemd).as_deref(), Ok(expected), "{text:?}");
        assert_eq!(set_cgroup_driver(expected, CgroupDriver::Systemd).as_deref(), Ok(expected), "{expected:?}");
    }
}

#[test]
fn what_cannot_be_edited_by_lines_is_refused() {
    for text in [
        "{\"cgroupDriver\": \"cgroupfs\"}",
        "",
        "# only a comment\n",
        "a: 1\n---\nb: 2\n",
        "cgroupDriver: a\ncgroupDriver: b\n",
    ] {
        assert!(set_cgroup_driver(text, CgroupDriver::Systemd).is_err(), "{text:?}");
    }
}
