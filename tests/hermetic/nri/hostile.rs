//! Garbage, floods and lies: the session ends or goes on, as said here, and the plugin is there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use trimtab_proto::nri::v1alpha1 as nri;
use trimtab_proto::ttrpc::Request;

use super::{Running, until};
use crate::support::nri_runtime::objects::{Qos, pod};
use crate::support::nri_runtime::wire::{PLUGIN, RUNTIME, Split, frame, ttrpc};
use crate::support::nri_runtime::{Behaviour, NriRuntime};

/// Lengths that no frame and no message has.
#[tokio::test]
async fn an_impossible_length_ends_the_session_and_not_the_plugin() {
    let too_long = |connection: u32, length: u32| [connection.to_be_bytes(), length.to_be_bytes()].concat();
    let message = |length: u32| {
        let mut message = ttrpc(1, 1, b"");
        message.splice(..4, length.to_be_bytes());
        message
    };
    let rows = [
        ("frame of 4 GiB", too_long(PLUGIN, u32::MAX)),
        ("frame a byte too long", too_long(PLUGIN, 10 + (4 << 20) + 1)),
        ("frame too long for nobody", too_long(77, u32::MAX)),
        ("message of 4 GiB", frame(PLUGIN, &message(u32::MAX))),
        ("answer a byte too long", frame(RUNTIME, &message((4 << 20) + 1))),
    ];
    for (name, bytes) in rows {
        let running = Running::start();
        let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
        let wire = runtime.wire();
        wire.send_raw(&bytes);
        tokio::time::timeout(Duration::from_secs(10), wire.closed()).await.expect(name);
        runtime.accept().await.expect(name);
        until(name, || running.stats.connected()).await;
    }
}

#[tokio::test]
async fn what_belongs_to_nobody_is_skipped() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    let wire = runtime.wire();
    let request = Request { service: "s".into(), method: "m".into(), ..Request::default() }.encode_to_vec();
    let nobodys = [
        ("reserved connection", frame(0, b"\xff\xff\xff\xff")),
        ("unknown connection", frame(3, &ttrpc(1, 1, &request))),
        ("empty frame", frame(PLUGIN, b"")),
        ("data of a stream", frame(PLUGIN, &ttrpc(5, 3, b"data"))),
        ("type of tomorrow", frame(PLUGIN, &ttrpc(7, 200, b"?"))),
        ("answer on the wrong connection", frame(PLUGIN, &ttrpc(1, 2, b""))),
        ("request on the wrong connection", frame(RUNTIME, &ttrpc(1, 1, &request))),
        ("answer to no question", frame(RUNTIME, &ttrpc(4711, 2, b""))),
        ("answer to no question that cannot be read", frame(RUNTIME, &ttrpc(4713, 2, b"\xff"))),
    ];
    for (name, bytes) in nobodys {
        wire.send_raw(&bytes);
        let answer = wire.call("StartContainer", Vec::new(), Duration::from_secs(5)).await;
        assert_eq!(answer, Ok(Vec::new()), "{name}");
    }
    assert_eq!(runtime.violations(), [""; 0]);
}

#[tokio::test]
async fn several_messages_in_one_frame_and_one_message_over_many_connections_of_frames_are_read() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    let wire = runtime.wire();
    let request = |method: &str| {
        Request { service: "nri.pkg.api.v1alpha1.Plugin".into(), method: method.into(), ..Request::default() }
            .encode_to_vec()
    };
    let pod = nri::PodRequest { pod: Some(pod("p", Qos::Guaranteed)) }.encode_to_vec();
    let told =
        Request { payload: pod, ..Request::decode(request("RunPodSandbox").as_slice()).unwrap() }.encode_to_vec();
    let both = [ttrpc(901, 1, &request("StartContainer")), ttrpc(903, 1, &told)].concat();
    wire.send_raw(&frame(PLUGIN, &both));
    running.admission.until_told("SandboxStarted p").await;
    // Frames of the two connections take turns in the middle of a message.
    let (head, tail) = both.split_at(15);
    let answer = ttrpc(4711, 2, b"");
    let (first, second) = answer.split_at(4);
    wire.send_raw(&[frame(PLUGIN, head), frame(RUNTIME, first), frame(PLUGIN, tail), frame(RUNTIME, second)].concat());
    until("told twice", || running.admission.told().iter().filter(|line| *line == "SandboxStarted p").count() == 2)
        .await;
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_anything_is_made_again() {
    let request = Request {
        service: "nri.pkg.api.v1alpha1.Plugin".into(),
        method: "StartContainer".into(),
        ..Request::default()
    };
    let whole = frame(PLUGIN, &ttrpc(1, 1, &request.encode_to_vec()));
    for cut in [1, 7, 8, 9, 17, 18, whole.len() - 1] {
        let running = Running::start();
        let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
        let wire = runtime.wire();
        wire.send_raw(&whole[..cut]);
        tokio::task::yield_now().await;
        wire.close();
        runtime.accept().await.unwrap();
        running.admission.until_told("disconnected").await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_registration_is_answered_is_made_again() {
    let running = Running::start();
    let runtime = NriRuntime::listen(&running.socket(), Behaviour::containerd_2_1());
    let (wire, mut calls) = runtime.accept_raw().await;
    calls.recv().await.unwrap();
    wire.close();
    let (wire, _calls) = runtime.accept_raw().await;
    wire.close();
    runtime.accept().await.unwrap();
    assert_eq!(running.admission.told().len(), 2, "{:?}", running.admission.told());
}

#[tokio::test]
async fn a_flood_is_answered_in_order_and_nothing_of_it_is_lost() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour { split: Split::Pieces(1000), ..Behaviour::containerd_2_4() }).await;
    let wire = runtime.wire();
    let mut waiting = tokio::task::JoinSet::new();
    // All are sent before any is awaited.
    for index in 0..2000 {
        let told = nri::PodRequest { pod: Some(pod(&index.to_string(), Qos::Burstable)) }.encode_to_vec();
        let wire = Arc::clone(&wire);
        waiting.spawn(async move { wire.call("RunPodSandbox", told, Duration::from_secs(20)).await });
    }
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Vec::new()));
    }
    let told: Vec<String> =
        running.admission.told().into_iter().filter(|line| line.starts_with("SandboxStarted")).collect();
    let expected: Vec<String> = (0..2000).map(|index| format!("SandboxStarted {index}")).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_runtime_that_does_not_read_is_read_no_further_and_answered_once_it_does() {
    const REQUESTS: u32 = 50_000;
    let running = Running::start();
    let listener = UnixListener::bind(running.socket()).unwrap();
    let (mut from, mut to) = listener.accept().await.unwrap().0.into_split();
    let written = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&written);
    let request = Request {
        service: "nri.pkg.api.v1alpha1.Plugin".into(),
        method: "StartContainer".into(),
        ..Request::default()
    };
    let body = request.encode_to_vec();
    let writer = tokio::spawn(async move {
        for index in 0..REQUESTS {
            to.write_all(&frame(PLUGIN, &ttrpc(2 * index + 1, 1, &body))).await.unwrap();
            counted.store(index + 1, Ordering::SeqCst);
        }
        to
    });
    // Plugin, writer and this test take turns on one thread, and what is between them is memory of the kernel: once all have
    // had many turns and none could do anything, none ever can.
    let (mut seen, mut turns) = (0, 0);
    while turns < 10_000 {
        tokio::task::yield_now().await;
        let now = written.load(Ordering::SeqCst);
        turns = if now == seen && now > 0 { turns + 1 } else { 0 };
        seen = now;
    }
    assert!(seen < REQUESTS && !writer.is_finished(), "{seen} requests were taken though no answer was read");
    // Header of the frame, of the message, and an empty response; the registration was longer.
    let mut registration = vec![0; 8];
    from.read_exact(&mut registration).await.unwrap();
    let length = u32::from_be_bytes(registration[4..].try_into().unwrap()) as usize;
    from.read_exact(&mut vec![0; length]).await.unwrap();
    for index in 0..REQUESTS {
        let mut answer = [0; 18];
        from.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *frame(PLUGIN, &ttrpc(2 * index + 1, 2, b"")));
    }
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn a_synchronisation_without_an_end_is_refused_and_ends_the_session() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_1()).await;
    let wire = runtime.wire();
    let huge = nri::Container { name: "x".repeat(3 << 20), ..nri::Container::default() };
    let chunk = nri::SynchronizeRequest { pods: vec![], containers: vec![huge], more: true }.encode_to_vec();
    let mut taken = 0;
    while wire.call("Synchronize", chunk.clone(), Duration::from_secs(10)).await.is_ok() {
        taken += 1;
        assert!(taken < 23);
    }
    // A runtime whose synchronisation failed would keep the connection and ask nothing any more.
    wire.closed().await;
}
