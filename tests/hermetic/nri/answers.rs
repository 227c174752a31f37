//! What requests become, and that every one is answered.

use std::time::Duration;

use prost::Message;
use trimtab::adapters::nri::ANSWER_LIMIT;
use trimtab::ports::admission::{Created, Refused};
use trimtab::ports::nri_stats::{NriMethod, NriResult};
use trimtab_domain::cpuset::CpuSet;
use trimtab_proto::nri::v1alpha1 as nri;
use trimtab_proto::ttrpc::Request;

use super::{FakeTerminations, Running};
use crate::support::fake_admission::{gives, moves};
use crate::support::nri_runtime::objects::{Qos, container, pod, resources};
use crate::support::nri_runtime::wire::{CallFailure, Split};
use crate::support::nri_runtime::{Behaviour, DEADLINE, NriRuntime};

/// A runtime that has taken the plugin on. On a busy machine even the first exchange may take longer than the real limits.
async fn taken_on(running: &Running, behaviour: Behaviour) -> NriRuntime {
    let runtime = NriRuntime::listen(&running.socket(), behaviour);
    while runtime.accept().await.is_err() {}
    runtime
}

/// Every form in which a runtime may speak.
fn forms() -> Vec<Behaviour> {
    let mut forms = Vec::new();
    for base in [Behaviour::containerd_2_1(), Behaviour::containerd_2_4()] {
        for split in
            [Split::Go, Split::Pieces(1), Split::Pieces(7), Split::Pieces(8), Split::Random(1), Split::Random(2)]
        {
            for noisy in [false, true] {
                forms.push(Behaviour { split, noisy, ..base.clone() });
            }
        }
    }
    forms
}

#[tokio::test]
async fn the_life_of_a_pod_is_told_in_order_in_every_form_that_a_runtime_may_speak() {
    for behaviour in forms() {
        let running = Running::start();
        let (runtime, _) = running.runtime(behaviour.clone()).await;
        let pod = pod("p", Qos::Guaranteed);
        let app = container(&pod, "app", 2000);
        runtime.run_pod(&pod).await;
        runtime.create(&pod, &app).await.unwrap();
        runtime.start(&pod, &app.id).await;
        runtime.update(&pod, &app.id, resources(3000, true)).await.unwrap();
        runtime.stop(&pod, &app.id).await;
        runtime.stop_pod(&pod).await;
        runtime.remove(&pod, &app.id).await;
        runtime.remove_pod(&pod).await;
        let expected = [
            "synchronize 0 0",
            "SandboxStarted p",
            "create p/app",
            "ContainerStarted p/app",
            "update p/app",
            "stop p/app",
            "SandboxStopped p",
            "ContainerRemoved p/app",
            "SandboxRemoved p",
        ];
        assert_eq!(running.admission.told()[1..], expected, "{behaviour:?}");
        assert_eq!((runtime.fail_open(), runtime.violations()), (0, vec![]), "{behaviour:?}");
        let asked = running.admission.asked.lock().unwrap()[0].clone();
        assert_eq!((asked.cpu_shares, asked.cpu_quota_us), (Some(3072), Some(300_000)));
        let stopped: Vec<bool> =
            running.admission.sandboxes.lock().unwrap().iter().map(|sandbox| sandbox.ready).collect();
        assert_eq!(stopped, [true, true, false, true, false]);
    }
}

#[tokio::test]
async fn a_resized_pod_is_told_with_what_it_is_about_to_have() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    runtime.update_pod(&pod("p", Qos::Guaranteed), resources(5000, true)).await;
    assert_eq!(running.admission.told().last().unwrap(), "SandboxUpdated p");
    let sandbox = running.admission.sandboxes.lock().unwrap().pop().unwrap();
    assert_eq!(sandbox.pod_resources.unwrap().cpu_quota_us, Some(500_000));
}

#[tokio::test]
async fn a_container_gets_its_sets_and_the_others_are_narrowed_in_the_same_answer() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let (shared, exclusive) = (pod("shared", Qos::Burstable), pod("exclusive", Qos::Guaranteed));
    running.admission.on_create(|container| {
        Ok(match container.name.as_str() {
            "exclusive" => {
                Created { updates: vec![moves("container-shared-web", "0-1")], lift_quota: true, ..gives("2-3", "1") }
            }
            _ => gives("0-3", "0-1"),
        })
    });
    runtime.create(&shared, &container(&shared, "web", 100)).await.unwrap();
    runtime.create(&exclusive, &container(&exclusive, "exclusive", 2000)).await.unwrap();
    let sets = |id: &'static str| {
        let runtime = &runtime;
        async move { runtime.sets(id).await.map(|sets| (sets.cpus, sets.mems)).unwrap() }
    };
    assert_eq!(sets("container-exclusive-exclusive").await, ("2-3".into(), "1".into()));
    assert_eq!(sets("container-shared-web").await, ("0-1".into(), "0-1".into()));
    assert_eq!(runtime.with_table(|table| table.quota("container-exclusive-exclusive")).await, Some(-1));
    *running.admission.updates.lock().unwrap() = vec![moves("container-shared-web", "0-3")];
    runtime.stop(&exclusive, "container-exclusive-exclusive").await;
    assert_eq!(sets("container-shared-web").await.0, "0-3");
}

#[tokio::test]
async fn what_the_plugin_says_of_an_updated_container_takes_the_place_of_what_was_asked() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    *running.admission.updates.lock().unwrap() = vec![moves("container-p-app", "6-7")];
    let mut stale = resources(2000, true);
    stale.cpu.as_mut().unwrap().cpus = "0-3".into();
    runtime.update(&pod, "container-p-app", stale).await.unwrap();
    assert_eq!(runtime.sets("container-p-app").await.unwrap().cpus, "6-7");
    assert_eq!(running.admission.asked.lock().unwrap()[0].cpus, "0-3");
}

#[tokio::test]
async fn a_refusal_fails_the_creation_with_the_kubelets_reason_and_words() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    running.admission.on_create(|_| {
        Err(Refused { reason: "TopologyAffinityError".into(), message: "Resources cannot be allocated".into() })
    });
    let refused = runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap_err();
    let expected = "failed to get NRI adjustment for container: TopologyAffinityError: Resources cannot be allocated";
    assert_eq!(refused, expected);
    assert_eq!(running.stats.answered(NriMethod::CreateContainer, NriResult::Refused), 1);
    // A refusal has changed nothing, so nothing is taken back.
    assert_eq!((running.admission.told().last().unwrap().as_str(), running.stats.undone()), ("create p/app", 0));
}

#[tokio::test]
async fn an_answer_that_is_late_is_an_error_and_taken_back() {
    // By its own limit, and by three quarters of what the runtime has patience for.
    for (limit, patience_seconds, at_least) in [(ANSWER_LIMIT, 20, 500), (DEADLINE, 4, 3000)] {
        let request_timeout = Duration::from_secs(patience_seconds);
        let running = Running::start_with(FakeTerminations::default(), limit);
        let behaviour = Behaviour { request_timeout, ..Behaviour::containerd_2_1() };
        let runtime = taken_on(&running, behaviour).await;
        let pod = pod("p", Qos::Guaranteed);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        running.admission.on_create(move |_| {
            let _released = held.lock().unwrap().recv();
            Ok(gives("1", "0"))
        });
        let began = tokio::time::Instant::now();
        let failed = runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap_err();
        assert!(failed.contains("no answer in time"), "{failed}");
        assert!(began.elapsed() >= Duration::from_millis(at_least), "{:?}", began.elapsed());
        assert_eq!(running.stats.answered(NriMethod::CreateContainer, NriResult::Timeout), 1);
        // What is asked meanwhile is answered too, and not begun when nobody waits for it any more.
        let second = runtime.create(&pod, &container(&pod, "second", 1000)).await.unwrap_err();
        assert!(second.contains("no answer in time"), "{second}");
        drop(release);
        running.admission.until_told("ContainerRemoved p/app").await;
        let told = running.admission.told();
        let created = told.iter().position(|line| line == "create p/app").unwrap();
        assert_eq!(told[created..], ["create p/app", "stop p/app", "ContainerRemoved p/app"]);
        runtime.create(&pod, &container(&pod, "third", 1000)).await.unwrap();
        assert_eq!((runtime.fail_open(), running.stats.undone()), (0, 1));
        assert!(!runtime.wire().is_closed());
    }
}

#[tokio::test]
async fn a_runtime_with_little_patience_does_not_lose_the_plugin() {
    let running = Running::start();
    let behaviour = Behaviour { request_timeout: Duration::from_millis(200), ..Behaviour::containerd_2_1() };
    let runtime = taken_on(&running, behaviour).await;
    let pod = pod("p", Qos::Guaranteed);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    running.admission.on_create(move |_| {
        let _released = held.lock().unwrap().recv();
        Ok(gives("1", "0"))
    });
    match runtime.create(&pod, &container(&pod, "app", 1000)).await {
        Err(failed) => assert!(failed.contains("no answer in time"), "{failed}"),
        Ok(()) => assert_eq!(runtime.fail_open(), 1),
    }
    drop(release);
    // Taken back, because nobody waits for it any more.
    running.admission.until_told("ContainerRemoved p/app").await;
    if runtime.wire().is_closed() {
        while runtime.accept().await.is_err() {}
    }
    assert!(running.stats.connected());
}

#[tokio::test]
async fn an_event_is_told_however_late() {
    let running = Running::start_with(FakeTerminations::default(), ANSWER_LIMIT);
    let runtime = taken_on(&running, Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    running.admission.on_create(move |_| {
        let _released = held.lock().unwrap().recv();
        Ok(gives("1", "0"))
    });
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap_err();
    runtime.stop_pod(&pod).await;
    assert_eq!(running.stats.answered(NriMethod::Event, NriResult::Timeout), 1);
    drop(release);
    running.admission.until_told("SandboxStopped p").await;
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_next_request_is_answered() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    running.admission.on_create(|container| match container.name.as_str() {
        "bad" => std::panic::resume_unwind(Box::new("a defect")),
        _ => Ok(gives("1", "0")),
    });
    let failed = runtime.create(&pod, &container(&pod, "bad", 1000)).await.unwrap_err();
    assert!(failed.contains("trimtab failed to decide"), "{failed}");
    running.admission.until_told("ContainerRemoved p/bad").await;
    assert_eq!(running.stats.answered(NriMethod::CreateContainer, NriResult::Failed), 1);
    assert_eq!(runtime.fail_open(), 0);
}

#[tokio::test]
async fn an_empty_set_is_never_sent() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    let rows = [
        ("own", Created { cpus: Some(CpuSet::default()), ..Created::default() }),
        ("other", Created { updates: vec![moves("x", "")], ..gives("1", "0") }),
        ("itself", Created { updates: vec![moves("container-p-itself", "1")], ..gives("1", "0") }),
    ];
    for (name, answer) in rows {
        running.admission.on_create(move |_| Ok(answer.clone()));
        let failed = runtime.create(&pod, &container(&pod, name, 1000)).await.unwrap_err();
        assert!(failed.contains("container"), "{failed}");
        running.admission.until_told(&format!("ContainerRemoved p/{name}")).await;
        assert_eq!(runtime.sets(&format!("container-p-{name}")).await, None);
    }
}

#[tokio::test]
async fn a_creation_that_fails_in_the_runtime_is_taken_back_by_it() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    runtime.create_and_fail(&pod, &container(&pod, "app", 1000)).await;
    assert_eq!(running.admission.told()[2..], ["create p/app", "stop p/app", "ContainerRemoved p/app"]);
}

#[tokio::test]
async fn a_large_answer_leaves_in_frames_that_the_runtime_can_read() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    // Every second CPU of 4096, for 100 containers: about a megabyte.
    let list: Vec<String> = (0..2048).map(|cpu| (2 * cpu).to_string()).collect();
    let list = list.join(",");
    runtime
        .with_table(|table| {
            for index in 0..100 {
                let container = container(&pod, &format!("c{index}"), 100);
                table.containers.insert(container.id.clone(), container);
            }
        })
        .await;
    let updates: Vec<_> = (0..100).map(|index| moves(&format!("container-p-c{index}"), &list)).collect();
    running.admission.on_create(move |_| Ok(Created { updates: updates.clone(), ..gives("1", "0") }));
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    assert_eq!((runtime.fail_open(), runtime.violations()), (0, vec![]));
    for index in [0, 50, 99] {
        assert_eq!(runtime.sets(&format!("container-p-c{index}")).await.unwrap().cpus, list);
    }
    let longest = runtime.wire().longest_frame.load(std::sync::atomic::Ordering::SeqCst);
    assert!((4000..=4096).contains(&longest), "{longest}");
}

#[tokio::test]
async fn an_answer_that_no_runtime_takes_is_an_error() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    let list: Vec<String> = (0..2048).map(|cpu| (2 * cpu).to_string()).collect();
    let list = list.join(",");
    let updates: Vec<_> = (0..400).map(|index| moves(&format!("container-p-c{index}"), &list)).collect();
    running.admission.on_create(move |_| Ok(Created { updates: updates.clone(), ..gives("1", "0") }));
    let failed = runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap_err();
    assert!(failed.contains("more than the runtime takes"), "{failed}");
}

#[tokio::test]
async fn what_cannot_be_served_is_answered_with_its_code() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    let wire = runtime.wire();
    let patience = Duration::from_secs(2);
    let none = nri::ContainerRequest::default().encode_to_vec();
    let rows: [(&str, &[u8], i32); 6] = [
        ("ValidateContainerAdjustment", b"", 12),
        ("SomethingOfTomorrow", b"\x0a\x00", 12),
        ("CreateContainer", b"\xff\xff\xff", 3),
        ("CreateContainer", &none, 3),
        ("StopContainer", b"", 3),
        ("RunPodSandbox", b"\x0a\x7f", 3),
    ];
    for (method, payload, expected) in rows {
        match wire.call(method, payload.to_vec(), patience).await {
            Err(CallFailure::Status(code, _)) => assert_eq!(code, expected, "{method}"),
            other => panic!("{method}: {other:?}"),
        }
    }
    let foreign = Request {
        service: "nri.pkg.api.v1beta1.Plugin".into(),
        method: "CreateContainer".into(),
        ..Request::default()
    };
    let answers = [
        (1001, foreign.encode_to_vec(), 12),
        (1003, b"\xff\xff".to_vec(), 3),
        // Ids of a client's streams are odd.
        (1004, foreign.encode_to_vec(), 3),
    ];
    for (stream, body, expected) in answers {
        match wire.call_raw(stream, &body, patience).await {
            Err(CallFailure::Status(code, _)) => assert_eq!(code, expected, "{stream}"),
            other => panic!("{stream}: {other:?}"),
        }
    }
    // Events that do not matter here, and the end, are acknowledged.
    for method in ["PostCreateContainer", "StartContainer", "PostUpdateContainer", "Shutdown"] {
        assert_eq!(wire.call(method, Vec::new(), patience).await, Ok(Vec::new()), "{method}");
    }
    assert_eq!(running.admission.told().len(), 2, "{:?}", running.admission.told());
    assert!(!wire.is_closed());
}

#[tokio::test]
async fn a_plugin_that_is_dropped_and_not_told_of_a_container_is_told_when_it_is_back() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let pod = pod("p", Qos::Guaranteed);
    runtime.run_pod(&pod).await;
    let wire = runtime.wire();
    running.admission.on_create(move |_| {
        // The connection breaks while the answer is made.
        wire.close();
        Ok(gives("1", "0"))
    });
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    assert_eq!((runtime.fail_open(), runtime.sets("container-p-app").await.unwrap().cpus.as_str()), (1, ""));
    runtime.accept().await.unwrap();
    let told = running.admission.told();
    assert_eq!(told.last().unwrap(), "synchronize 1 1");
    assert!(told.iter().filter(|line| *line == "disconnected").count() == 1, "{told:?}");
    let seen = running.admission.containers.lock().unwrap()[0].resources.clone().unwrap();
    assert_eq!(seen.cpus, "", "what runs, not what was granted");
}

#[tokio::test]
async fn two_hundred_containers_get_one_answer_each() {
    let running = Running::start();
    let (runtime, _) =
        running.runtime(Behaviour { noisy: true, split: Split::Random(3), ..Behaviour::containerd_2_4() }).await;
    let runtime: &NriRuntime = &runtime;
    let pod = pod("p", Qos::Guaranteed);
    running.admission.on_create(|container| {
        let number: u32 = container.name.trim_start_matches('c').parse().unwrap();
        Ok(gives(&number.to_string(), "0"))
    });
    for index in 0..200 {
        runtime.create(&pod, &container(&pod, &format!("c{index}"), 1000)).await.unwrap();
    }
    for index in 0..200 {
        assert_eq!(runtime.sets(&format!("container-p-c{index}")).await.unwrap().cpus, index.to_string());
    }
    assert_eq!((runtime.fail_open(), runtime.called_back()), (0, 0));
    assert_eq!(running.stats.answer_times(NriMethod::CreateContainer).buckets.iter().sum::<u64>(), 200);
}
