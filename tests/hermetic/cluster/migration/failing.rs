//! What goes wrong on the way: the node is as before, and is not tried again until the profile changes.

use nix::errno::Errno;

use super::*;

/// Breaks something of a node.
type Break = fn(&World);

#[tokio::test(start_paused = true)]
async fn every_failure_on_the_way_gives_the_node_back_as_it_was() {
    let cases: [(&str, &str, Break); 7] = [
        ("sick with systemd", "was not ready", |world| world.services.sick_with(CgroupDriver::Systemd)),
        ("the kubelet does not start", "did not start", |world| {
            world.services.never_starts_with(CgroupDriver::Systemd);
        }),
        ("the kubelet cannot be stopped", "could not be stopped", |world| world.services.refuse("stop")),
        ("a sandbox stays", "could not be stopped", |world| world.services.refuse("end")),
        ("the runtime's file cannot be written", "runtime's configuration", |world| {
            world.services.host.fail_writes(RUNTIME_CONFIG, Errno::EROFS, 1);
        }),
        ("the kubelet's file cannot be written", "kubelet's configuration", |world| {
            world.services.host.fail_writes(KUBELET_CONFIG, Errno::ENOSPC, 1);
        }),
        ("a budget lets no pod go", "pods were left", |world| {
            world.server.put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/b", budget("web-n1"));
        }),
    ];
    for (name, why, broken) in cases {
        let world = World::new();
        broken(&world);
        let scene = world.agent();
        let outcome = world.until_ended().await;
        assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains(why)), "{name}: {outcome:?}");
        world.assert_as_before(name);
        let before = world.services.log();
        pass(Duration::from_secs(3600)).await;
        assert_eq!(world.services.log(), before, "{name}: it is not tried again");
        let progress = scene.engine.progress.borrow().clone();
        assert_eq!(progress.phase, Phase::TurnedBack, "{name}");
        assert!(progress.message.contains(why), "{name}: {}", progress.message);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_on_the_way_back_is_followed_by_one_that_goes_on_back() {
    let sick = || {
        let world = World::new();
        world.services.sick_with(CgroupDriver::Systemd);
        world
    };
    after_each_death(sick, FORWARD_AND_BACK, |world, outcome, about| {
        assert!(matches!(outcome, Outcome::TurnedBack { .. }), "{about}: {outcome:?}");
        world.assert_as_before(about);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_profile_tries_again_and_one_that_asks_no_more_turns_back() {
    let mut world = World::new();
    world.services.sick_with(CgroupDriver::Systemd);
    let scene = world.agent();
    assert!(matches!(world.until_ended().await, Outcome::TurnedBack { .. }));
    world.spec.ready_timeout_seconds = 60;
    world.ask(&scene.engine, 2, Some(world.spec.clone()));
    world.until("begun again", |world| world.outcome().is_none()).await;
    world.until("running with the new driver", |world| world.services.running() == BOTH_SYSTEMD).await;
    world.ask(&scene.engine, 3, None);
    let outcome = world.until_ended().await;
    assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains("profile")), "{outcome:?}");
    world.assert_as_before("asked no more");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_a_person_has_cordoned_stays_cordoned() {
    let world = World::new();
    world.server.edit(NODE, |node| node["spec"]["unschedulable"] = true.into());
    let _scene = world.agent();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    assert!(world.is_cordoned());
    assert_eq!(world.services.running(), BOTH_SYSTEMD);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_not_there_is_gone_again_after_the_way_back() {
    let world = World::new();
    world.services.host.vanish(RUNTIME_CONFIG);
    // What is configured elsewhere tells that there is a containerd.
    world.services.host.file("/proc/7/comm", "containerd\n");
    world.services.host.file("/proc/7/cmdline", "/usr/bin/containerd\0");
    world.services.sick_with(CgroupDriver::Systemd);
    let _scene = world.agent();
    assert!(matches!(world.until_ended().await, Outcome::TurnedBack { .. }));
    assert_eq!(world.services.host.text(RUNTIME_CONFIG), None);
    assert_eq!(world.services.running(), BOTH_CGROUPFS);
    world.assert_open("as before");
}
