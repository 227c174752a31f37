//! A node is given back while it is on its way: it is brought back first, or nothing is touched.

use std::process::Command;

use trimtab::cluster::migration::leave::{Stranded, turn_back, under_way};

use super::*;

impl World {
    async fn leave(&self) -> Result<Option<Outcome>, Stranded> {
        let api = ApiServer::new(self.server.client());
        turn_back((api, self.name.to_owned()), self.ports(), |_| {}).await
    }

    /// `trimtab rollback`, where nothing of this node can be reached.
    async fn roll_back(&self, more: &[&str]) -> (Option<i32>, String) {
        let root = tempfile::tempdir().unwrap();
        for directory in ["run/trimtab", "proc", "sys", "etc"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
        command.args(["rollback", "--node-name", self.name, "--api-server", "off"]).args(more).env_clear();
        command.arg("--state-dir").arg(self.disk.path()).arg("--host-root").arg(root.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// An agent that is gone at this change.
    async fn abandoned_at(number: usize, death: Death) -> Option<Self> {
        let world = Self::new();
        world.services.die_at(number, death);
        let scene = world.agent();
        world.until("death or the end", |world| world.services.has_died() || world.outcome().is_some()).await;
        drop(scene);
        let died = world.services.has_died();
        world.services.live();
        died.then_some(world)
    }
}

fn is_turned_back(outcome: Option<&Outcome>) -> bool {
    matches!(outcome, Some(Outcome::TurnedBack { reason }) if reason.contains("rollback"))
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_after_any_change_finds_the_node_as_before() {
    for death in [Death::Before, Death::After] {
        for number in 0.. {
            let Some(world) = World::abandoned_at(number, death).await else {
                assert!(number >= 5, "there are at least five changes to die at");
                break;
            };
            let about = format!("{death:?} {number}");
            assert_eq!(under_way(&world.journal()).unwrap(), Some(CgroupDriver::Systemd), "{about}");
            let outcome = world.leave().await.unwrap();
            assert!(is_turned_back(outcome.as_ref()), "{about}: {outcome:?}");
            world.assert_as_before(&about);
            assert_eq!(under_way(&world.journal()).unwrap(), None, "{about}");
            assert_eq!(world.leave().await.unwrap(), None, "{about}: once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_at_any_moment_leaves_an_open_node_with_one_driver() {
    for moment in 0..20 {
        let world = World::new();
        let scene = world.agent();
        pass(Duration::from_millis(moment * 1700)).await;
        drop(scene);
        world.leave().await.unwrap();
        match world.outcome() {
            Some(Outcome::Migrated) => world.assert_moved(&format!("{moment}")),
            Some(Outcome::TurnedBack { .. }) => world.assert_as_before(&format!("{moment}")),
            None => {
                assert!(world.journal().read().unwrap().is_none(), "{moment}: not begun");
                world.assert_as_before(&format!("{moment}"));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leave_that_dies_itself_is_gone_on_with_and_systemd_starts_what_it_had_stopped() {
    for number in 0.. {
        // Both files are edited, neither kubelet nor runtime runs.
        let world = World::abandoned_at(3, Death::Before).await.unwrap();
        let done = world.services.log().len();
        assert_eq!(world.services.running(), (None, None));
        world.services.die_at(done + number, Death::After);
        let leaving = tokio::time::timeout(Duration::from_secs(120), world.leave()).await;
        if !world.services.has_died() {
            assert!(leaving.unwrap().is_ok() && number >= 2, "at least two changes back");
            break;
        }
        world.services.live();
        assert_eq!(world.services.timers(), [RUNTIME, KUBELET], "{number}: until it is all done");
        world.services.strike_timers();
        let running = world.services.running();
        assert!(running.0.is_some() && running.1.is_some(), "{number}: {running:?}");
        assert!(is_turned_back(world.leave().await.unwrap().as_ref()), "{number}");
        world.assert_as_before(&format!("{number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_api_server_the_node_is_not_left_and_can_be_later() {
    let world = World::new();
    let scene = world.agent();
    world.until("cordoned", World::is_cordoned).await;
    drop(scene);
    world.server.fault(Fault::down());
    let error = world.leave().await.unwrap_err();
    assert!(matches!(&error, Stranded::Unfinished { target: CgroupDriver::Systemd, .. }), "{error}");
    assert!(error.to_string().contains("the API server does not answer"), "{error}");
    world.server.heal();
    assert!(is_turned_back(world.leave().await.unwrap().as_ref()));
    world.assert_as_before("healed");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_has_cordoned_stays_so() {
    let world = World::new();
    world.server.edit(NODE, |node| node["spec"]["unschedulable"] = true.into());
    let scene = world.agent();
    world.until("begun", |world| !world.holders().is_empty()).await;
    drop(scene);
    assert!(is_turned_back(world.leave().await.unwrap().as_ref()));
    assert!(world.is_cordoned() && world.holders().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_cannot_bring_the_node_back_says_so_and_touches_nothing() {
    let world = World::abandoned_at(2, Death::Before).await.unwrap();
    let before = world.journal().read().unwrap();
    let (code, said) = world.roll_back(&[]).await;
    assert_eq!(code, Some(7), "{said}");
    for part in ["on its way to cgroup driver systemd", "no API server", "nothing was given back", "onMismatch: Report"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.journal().read().unwrap(), before);
    let (code, said) = world.roll_back(&["--dry-run"]).await;
    assert!(code != Some(7) && said.contains("it would be brought back first"), "{code:?} {said}");
    let (code, said) = world.roll_back(&["sysctl"]).await;
    assert!(code != Some(7) && !said.contains("cgroup driver"), "one part has nothing to do with it: {said}");

    std::fs::write(world.disk.path().join("migration"), "torn").unwrap();
    let (code, said) = world.roll_back(&[]).await;
    assert!(code == Some(7) && said.contains("by hand"), "{code:?} {said}");
    world.leave().await.unwrap_err();
}
