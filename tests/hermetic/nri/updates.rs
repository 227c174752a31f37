//! Changes that no request of the runtime brings.

use std::time::Duration;

use trimtab::adapters::nri::UpdateError;
use trimtab_domain::workload::ContainerId;

use super::{Running, until};
use crate::support::fake_admission::moves;
use crate::support::nri_runtime::Behaviour;
use crate::support::nri_runtime::objects::{Qos, container, pod};

#[tokio::test]
async fn containers_are_changed_where_the_runtime_survives_it() {
    let running = Running::start();
    assert_eq!(running.handle.update(vec![moves("x", "1")]).await, Err(UpdateError::NotConnected));
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    until("connected", || running.stats.connected()).await;
    let pod = pod("p", Qos::Guaranteed);
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    for cpus in ["2", "3-4"] {
        let failed = running.handle.update(vec![moves("container-p-app", cpus), moves("unknown", "1")]).await;
        assert_eq!(failed, Ok(Vec::<ContainerId>::new()));
        assert_eq!(runtime.sets("container-p-app").await.unwrap().cpus, cpus);
    }
    assert!(matches!(running.handle.update(vec![moves("a", "")]).await, Err(UpdateError::Unsayable(_))));
    assert_eq!(running.handle.update(Vec::new()).await, Ok(Vec::new()));
    assert_eq!((running.stats.updates(), runtime.violations()), ((4, 0), vec![]));
}

#[tokio::test]
async fn a_runtime_that_might_lock_up_is_left_alone() {
    let nearly = Behaviour { nri: "v0.12.0", version: "v2.3.0", ..Behaviour::containerd_2_4() };
    for behaviour in [Behaviour::containerd_2_1(), nearly] {
        let running = Running::start();
        let (runtime, _) = running.runtime(behaviour).await;
        until("connected", || running.stats.connected()).await;
        let refused = running.handle.update(vec![moves("x", "1")]).await;
        assert!(matches!(refused, Err(UpdateError::Unsafe { .. })), "{refused:?}");
        assert_eq!(runtime.called_back(), 0);
    }
}

#[tokio::test]
async fn a_change_waits_for_the_lock_of_the_node_while_requests_are_answered() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    until("connected", || running.stats.connected()).await;
    let pod = pod("p", Qos::Guaranteed);
    runtime.create(&pod, &container(&pod, "app", 1000)).await.unwrap();
    let held = runtime.hold_node().await;
    let handle = running.handle.clone();
    let changing = tokio::spawn(async move { handle.update(vec![moves("container-p-app", "5")]).await });
    // The call is on its way or waits; a request of the runtime is answered all the same.
    let wire = runtime.wire();
    let answer = wire.call("StartContainer", Vec::new(), Duration::from_secs(2)).await;
    assert_eq!(answer, Ok(Vec::new()));
    assert!(!changing.is_finished());
    drop(held);
    assert_eq!(changing.await.unwrap(), Ok(Vec::new()));
    assert_eq!(runtime.sets("container-p-app").await.unwrap().cpus, "5");
}

#[tokio::test]
async fn a_change_in_flight_ends_with_the_session() {
    let running = Running::start();
    let (runtime, _) = running.runtime(Behaviour::containerd_2_4()).await;
    until("connected", || running.stats.connected()).await;
    let _held = runtime.hold_node().await;
    let handle = running.handle.clone();
    let changing = tokio::spawn(async move { handle.update(vec![moves("x", "5")]).await });
    tokio::task::yield_now().await;
    runtime.wire().close();
    assert!(matches!(changing.await.unwrap(), Err(UpdateError::Call(_) | UpdateError::NotConnected)));
    until("not connected", || !running.stats.connected()).await;
    assert_eq!(running.handle.update(vec![moves("x", "5")]).await, Err(UpdateError::NotConnected));
}
