//! A node with CRI-O: a drop-in of ours, in a directory of which CRI-O reads every file.

use super::refusing::refused;
use super::*;
use crate::support::fake_services::{CRIO, CRIO_CONFIG, CRIO_DIRECTORY};

const DROP_IN: &str = "/etc/crio/crio.conf.d/99-trimtab-cgroup-manager.conf";

/// Changes something of a node.
type Change = fn(&mut World);

fn world() -> World {
    let server = Double::new();
    World::with(FakeServices::with_crio("n1", &server), server, "n1")
}

/// The node uses systemd, as CRI-O does by itself, and is asked for cgroupfs.
fn world_with_systemd() -> World {
    let mut world = world();
    world.services.host.file(KUBELET_CONFIG, "kind: KubeletConfiguration\ncgroupDriver: systemd\n");
    world.services.host.file(CRIO_CONFIG, "[crio.runtime]\nconmon_cgroup = \"system.slice\"\n");
    world.services.restart();
    assert_eq!(world.services.running(), BOTH_SYSTEMD);
    world.target = CgroupDriver::Cgroupfs;
    world
}

fn assert_untouched(world: &World, about: &str) {
    let fresh = FakeServices::with_crio("fresh", &Double::new());
    for path in [KUBELET_CONFIG, CRIO_CONFIG, DROP_IN] {
        assert_eq!(world.services.host.text(path), fresh.host.text(path), "{about}: {path}");
    }
    assert_eq!(world.services.running(), BOTH_CGROUPFS, "{about}");
    world.assert_open(about);
}

fn assert_moved(world: &World, about: &str) {
    assert_eq!(world.services.running(), BOTH_SYSTEMD, "{about}");
    let text = world.text(DROP_IN);
    assert!(text.ends_with("[crio.runtime]\ncgroup_manager = \"systemd\""), "{about}: {text}");
    assert!(world.text(CRIO_CONFIG).contains("# by hand"), "{about}: nobody else's file is touched");
    world.assert_open(about);
    // What is started by hand later finds the same.
    world.services.restart();
    assert_eq!(world.services.running(), BOTH_SYSTEMD, "{about}: restarted");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_crio_is_moved_by_a_drop_in_and_nothing_else_comes_into_its_directory() {
    let world = world();
    let _scene = world.agent();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    let expected =
        ["stop kubelet.service", "end s-daemon", "stop crio.service", "start crio.service", "start kubelet.service"];
    assert_eq!(world.services.log(), expected);
    let files = world.services.host.snapshot().into_keys().map(|path| path.display().to_string());
    let below: Vec<String> = files.filter(|path| path.starts_with(CRIO_DIRECTORY)).collect();
    assert_eq!(below, [format!("{CRIO_DIRECTORY}/10-crun.conf"), DROP_IN.to_owned()]);
    assert!(world.text("/etc/crio/99-trimtab-cgroup-manager.conf.trimtab-absent").contains("did not exist"));
    assert_moved(&world, "moved");
}

#[tokio::test(start_paused = true)]
async fn with_cgroupfs_conmon_goes_into_the_pod_and_the_way_back_to_systemd_is_open() {
    let mut world = world_with_systemd();
    let scene = world.agent();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    assert_eq!(world.services.running(), BOTH_CGROUPFS);
    assert!(world.text(DROP_IN).ends_with("cgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\""));
    drop(scene);
    world.target = CgroupDriver::Systemd;
    let _scene = world.agent();
    world.until("moved again", |world| world.services.running() == BOTH_SYSTEMD && !world.is_cordoned()).await;
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    let kept = world.text("/etc/crio/99-trimtab-cgroup-manager.conf.trimtab-before");
    assert!(kept.contains("cgroupfs"), "{kept}");
    world.assert_open("moved again");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_at_any_change_is_followed_by_one_that_moves_crio() {
    after_each_death(world, FORWARD, |world, outcome, about| {
        assert_eq!(outcome, Outcome::Migrated, "{about}");
        assert_moved(world, about);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_on_the_way_back_leaves_crio_as_it_was() {
    let sick = || {
        let world = world();
        world.services.sick_with(CgroupDriver::Systemd);
        world
    };
    after_each_death(sick, FORWARD_AND_BACK, |world, outcome, about| {
        assert!(matches!(outcome, Outcome::TurnedBack { .. }), "{about}: {outcome:?}");
        assert_untouched(world, about);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_write_that_was_cut_short_left_does_not_keep_crio_from_starting() {
    for sick in [false, true] {
        let world = world();
        if sick {
            world.services.sick_with(CgroupDriver::Systemd);
        }
        // Both files are edited, CRI-O is about to be started.
        world.services.die_at(3, Death::Before);
        let scene = world.agent();
        world.until("death", |world| world.services.has_died()).await;
        drop(scene);
        world.services.live();
        let left = format!("{CRIO_DIRECTORY}/.99-trimtab-cgroup-manager.conf.trimtab-new");
        world.services.host.file(&left, "[crio.run");
        let _next = world.agent();
        let outcome = world.until_ended().await;
        assert_eq!(world.services.host.text(&left), None);
        if sick {
            assert!(matches!(outcome, Outcome::TurnedBack { .. }), "{outcome:?}");
            assert_untouched(&world, "given back");
        } else {
            assert_eq!(outcome, Outcome::Migrated);
            assert_moved(&world, "moved");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn systemd_brings_a_node_with_crio_back_wherever_the_agent_dies() {
    for number in 1..5 {
        let world = world();
        world.services.die_at(number, Death::Before);
        let scene = world.agent();
        world.until("death", |world| world.services.has_died()).await;
        drop(scene);
        assert!(world.services.timers().contains(&KUBELET.to_owned()), "{number}");
        world.services.live();
        world.services.strike_timers();
        let (kubelet, runtime) = world.services.running();
        assert!(kubelet.is_some() && kubelet == runtime, "{number}: {kubelet:?} {runtime:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crio_that_does_not_start_with_the_new_driver_is_given_back() {
    let world = world_with_systemd();
    // Another's drop-in keeps conmon where cgroupfs cannot have it, and sorts behind ours.
    world
        .services
        .host
        .file(format!("{CRIO_DIRECTORY}/99-zz.conf"), "[crio.runtime]\nconmon_cgroup = \"machine.slice\"\n");
    let _scene = world.agent();
    let outcome = world.until_ended().await;
    assert!(matches!(&outcome, Outcome::TurnedBack { reason } if reason.contains("did not start")), "{outcome:?}");
    assert_eq!(world.services.host.text(DROP_IN), None);
    assert_eq!(world.services.running(), BOTH_SYSTEMD);
    world.assert_open("given back");
}

#[tokio::test(start_paused = true)]
async fn what_would_have_no_effect_on_crio_or_harm_a_file_of_others_is_refused() {
    let cases: [(&str, &str, Change); 6] = [
        ("a file of others", "is not Trimtab's", |world| world.spec.runtime_config = Some(CRIO_CONFIG.into())),
        ("a later drop-in", "99-zz.conf, which an edit", |world| {
            let text = "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n";
            world.services.host.file(format!("{CRIO_DIRECTORY}/99-zz.conf"), text);
        }),
        ("a flag", "command line of the running CRI-O", |world| {
            let arguments = "crio\0--cgroup-manager=cgroupfs\0";
            world.services.host.file("/proc/9/comm", "crio\n").file("/proc/9/cmdline", arguments);
        }),
        ("a mount", "/etc/crio cannot be written", |world| {
            world.services.host.not_permitted("/etc/crio");
        }),
        ("no directory", "/etc/crio/other.d does not exist", |world| {
            world.spec.runtime_config = Some("/etc/crio/other.d/99-trimtab.conf".into());
        }),
        ("a containerd that something else uses", "cgroup.migration.runtimeUnit", |world| {
            world.services.host.file(RUNTIME_CONFIG, "version = 2\n");
        }),
    ];
    for (name, why, change) in cases {
        let mut world = world();
        change(&mut world);
        let _agent = refused(&world, name, why).await;
        world.assert_open(name);
    }
}

#[tokio::test(start_paused = true)]
async fn the_unit_says_which_of_two_runtimes_is_meant() {
    let mut world = world();
    world.services.host.file(RUNTIME_CONFIG, "version = 2\n");
    world.spec.runtime_unit = Some(CRIO.into());
    let _scene = world.agent();
    assert_eq!(world.until_ended().await, Outcome::Migrated);
    assert_moved(&world, "moved");
    assert_eq!(world.text(RUNTIME_CONFIG), "version = 2");
}
