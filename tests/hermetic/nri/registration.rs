//! How the plugin registers, and registers again.

use std::time::Duration;

use trimtab::adapters::nri::ANSWER_LIMIT;
use trimtab::ports::nri_stats::RegistrationWait;

use super::{FakeTerminations, Running, until};
use crate::support::fake_admission::{gives, moves};
use crate::support::nri_runtime::objects::{Qos, container, pod};
use crate::support::nri_runtime::{Behaviour, NriRuntime};

#[tokio::test]
async fn it_registers_last_of_all_plugins_and_asks_for_what_the_version_knows() {
    let rows = [
        (Behaviour::containerd_2_1(), 0x6CF, Some((0, 8, 0))),
        (Behaviour::containerd_2_4(), 0xECF, Some((0, 12, 2))),
        (Behaviour { version: "1.7.24~ds1", ..Behaviour::containerd_2_1() }, 0x6CF, Some((0, 6, 1))),
        (
            Behaviour { name: "cri-o", version: "1.34.1", known_events: 0x3FFF, ..Behaviour::containerd_2_1() },
            0xECF,
            Some((0, 10, 0)),
        ),
        (Behaviour { name: "another", version: "?", ..Behaviour::containerd_2_1() }, 0x6CF, None),
    ];
    for (behaviour, events, nri) in rows {
        for configure_first in [true, false] {
            let behaviour = Behaviour { configure_first, ..behaviour.clone() };
            let running = Running::start();
            let (runtime, registered) = running.runtime(behaviour.clone()).await;
            assert_eq!((registered.name.as_str(), registered.index.as_str()), ("trimtab", "99"));
            assert_eq!(registered.events, events, "{behaviour:?}");
            until("connected", || running.stats.connected()).await;
            let first = format!("connected {} {} {nri:?}", behaviour.name, behaviour.version);
            assert_eq!(running.admission.told(), [first, "synchronize 0 0".into()]);
            assert_eq!(running.handle.peer().and_then(|peer| peer.nri), nri);
            assert_eq!(runtime.violations(), [""; 0]);
        }
    }
}

#[tokio::test]
async fn chunks_of_a_synchronisation_are_answered_at_once_and_told_as_one() {
    for chunk in [1, 3, 7, usize::MAX] {
        let running = Running::start();
        let behaviour = Behaviour { chunk, ..Behaviour::containerd_2_1() };
        let runtime = NriRuntime::listen(&running.socket(), behaviour);
        runtime
            .with_table(|table| {
                for index in 0..10 {
                    let pod = pod(&format!("p{index}"), Qos::Guaranteed);
                    for name in ["a", "b"] {
                        let container = container(&pod, name, 1000);
                        table.containers.insert(container.id.clone(), container);
                    }
                    table.pods.insert(pod.id.clone(), pod);
                }
            })
            .await;
        *running.admission.updates.lock().unwrap() = vec![moves("container-p3-a", "2-3")];
        runtime.accept().await.unwrap();
        assert_eq!(running.admission.told().last().unwrap(), "synchronize 10 20", "{chunk}");
        let mut names: Vec<_> =
            running.admission.containers.lock().unwrap().iter().map(|container| container.id.0.clone()).collect();
        names.dedup();
        assert_eq!(names.len(), 20);
        assert_eq!(runtime.sets("container-p3-a").await.unwrap().cpus, "2-3");
        assert_eq!(runtime.sets("container-p3-b").await.unwrap().cpus, "");
    }
}

#[tokio::test]
async fn it_comes_back_as_soon_as_the_runtime_does() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    runtime.run_pod(&pod).await;
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    let runtime = runtime.restart().await;
    runtime.accept().await.unwrap();
    let told = running.admission.told();
    let tail: Vec<&str> = told.iter().map(String::as_str).skip_while(|line| *line != "disconnected").collect();
    assert_eq!(tail[0], "disconnected");
    assert!(tail[1].starts_with("connected containerd"), "{tail:?}");
    assert_eq!(tail[2..], ["synchronize 1 1"]);
    let again = running.admission.containers.lock().unwrap()[0].resources.clone().unwrap();
    assert_eq!((again.cpus.as_str(), again.mems.as_str()), ("1", "0"));
    assert_eq!(running.stats.registrations(), 2);
}

#[tokio::test]
async fn a_runtime_that_takes_long_to_answer_the_registration_is_waited_for() {
    let running = Running::start();
    let runtime = NriRuntime::listen(&running.socket(), Behaviour::containerd_2_1());
    // Another plugin is being synchronised: the connection sits in the backlog, longer than the runtime's own limit.
    let (_wire, mut calls) = runtime.accept_raw().await;
    assert_eq!(calls.recv().await.unwrap().method, "RegisterPlugin");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!runtime.wire().is_closed(), "it gave up after 31 s");
    tokio::time::advance(Duration::from_secs(60)).await;
    runtime.wire().closed().await;
}

#[tokio::test]
async fn a_refused_registration_is_tried_again() {
    let running = Running::start();
    let runtime = NriRuntime::listen(&running.socket(), Behaviour::containerd_2_1());
    let (wire, mut calls) = runtime.accept_raw().await;
    let call = calls.recv().await.unwrap();
    wire.answer(call.stream, Err((2, "plugin registration denied".into())));
    wire.closed().await;
    runtime.accept().await.unwrap();
    assert_eq!(running.stats.registrations(), 2);
    // The session that never was is not told of.
    assert_eq!(running.admission.told().len(), 2, "{:?}", running.admission.told());
}

/// No answer is awaited here: while time is paused, the thread that answers has none.
#[tokio::test(start_paused = true)]
async fn registering_waits_while_a_container_with_much_time_left_is_being_stopped() {
    let terminations = FakeTerminations(Some(Duration::from_secs(300)).into());
    let running = Running::start_with(terminations, ANSWER_LIMIT);
    let runtime = NriRuntime::listen(&running.socket(), Behaviour::containerd_2_1());
    let began = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.stats.registrations(), 0);
    *running.terminations.0.lock().unwrap() = None;
    let (_wire, mut calls) = runtime.accept_raw().await;
    assert_eq!(calls.recv().await.unwrap().method, "RegisterPlugin");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(running.stats.waited(RegistrationWait::Terminating) >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn registrations_are_few_whatever_the_runtime_does() {
    let running = Running::start();
    let runtime = NriRuntime::listen(&running.socket(), Behaviour::containerd_2_1());
    let began = tokio::time::Instant::now();
    for _ in 0..4 {
        let (wire, _calls) = runtime.accept_raw().await;
        wire.close();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(running.stats.registrations(), 4);
    let (_wire, mut calls) = runtime.accept_raw().await;
    assert_eq!(calls.recv().await.unwrap().method, "RegisterPlugin");
    assert!(running.stats.waited(RegistrationWait::Rate) > Duration::from_secs(580));
}

#[tokio::test]
async fn an_agent_that_ends_answers_what_was_asked_and_leaves() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    let cancel = running.cancel.clone();
    running.admission.on_create(move |_| {
        // The agent is told to end while it decides.
        cancel.cancel();
        Ok(gives("3", "0"))
    });
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    assert_eq!(runtime.sets("container-p-app").await.unwrap().cpus, "3");
    assert_eq!(runtime.fail_open(), 0);
    runtime.wire().closed().await;
    running.task.await.unwrap();
    running.admission.until_told("disconnected").await;
    assert!(!running.stats.connected() && running.handle.peer().is_none());
}
