//! The API server is away, busy, forgetful, or asks who is there: what is known goes on, and nobody is flooded.

use serde_json::json;

use super::*;
use crate::support::api_server::Fault;

#[tokio::test(start_paused = true)]
async fn an_outage_changes_nothing_and_what_was_missed_is_made_good() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    server.fault(Fault::down());
    server.cut_watches();
    server.forget_calls();
    server.put(&profile("web"), for_pool("web", 0, 2));
    scene.offers.mark_unchanged();
    pass(Duration::from_secs(3600)).await;
    assert!(!scene.offers.has_changed().unwrap());
    // Two followers, each at most every 30 s once the pauses have grown, a few more at the beginning.
    assert!(reads(&server) <= 2 * (3600 / 30 + 6), "{} tries in an hour", reads(&server));
    server.heal();
    scene.until_value(2).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_in_an_outage_waits_without_hurry() {
    for fault in [Fault::down(), Fault::hang(), Fault::status(503), Fault::garbage(), Fault::throttle(1)] {
        let server = Scene::server();
        server.put(&profile("web"), for_pool("web", 0, 1));
        server.fault(fault.clone());
        let mut scene = Scene::new(&server);
        pass(Duration::from_secs(3600)).await;
        assert_eq!(*scene.offers.borrow(), Offer::Unknown, "{fault:?}");
        assert!(reads(&server) <= 2 * (3600 / 30 + 8), "{fault:?}: {}", reads(&server));
        server.heal();
        scene.until_value(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_410_costs_one_list_per_pause_and_no_state() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    server.forget_calls();
    for _ in 0..3600 {
        server.compact();
        pass(Duration::from_secs(1)).await;
    }
    assert!(matches!(&*scene.offers.borrow(), Offer::Object { .. }));
    let lists = server.calls().iter().filter(|call| call.verb == "list").count();
    assert!(lists <= 2 * (3600 / 30 + 8), "{lists} lists in an hour");
    server.put(&profile("web"), for_pool("web", 0, 2));
    scene.until_value(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_throttles_is_not_asked_before_its_time() {
    let server = Scene::server();
    server.fault(Fault::throttle(120));
    let _scene = Scene::new(&server);
    pass(Duration::from_secs(3600)).await;
    let calls = server.calls();
    for kind in ["nodes", "nodeprofiles"] {
        let times: Vec<_> = calls.iter().filter(|call| call.resource == kind).map(|call| call.at).collect();
        assert!(times.len() > 5, "{kind}");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(120)), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_the_kind_is_asked_rarely_and_the_kind_is_found_when_it_comes() {
    let server = Scene::server();
    server.without_kind("trimtab.dev", "nodeprofiles");
    let mut scene = Scene::new(&server);
    pass(Duration::from_secs(3600)).await;
    assert_eq!(*scene.offers.borrow(), Offer::Unknown);
    assert!(server.count("list", "nodeprofiles") <= 62, "{}", server.count("list", "nodeprofiles"));
    server.with_kind("trimtab.dev", "v1alpha1", "nodeprofiles", "NodeProfile");
    server.put(&profile("web"), for_pool("web", 0, 1));
    scene.until_value(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_goes_away_takes_no_profile_with_it() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    scene.offers.mark_unchanged();
    server.without_kind("trimtab.dev", "nodeprofiles");
    server.compact();
    pass(Duration::from_secs(3600)).await;
    assert!(!scene.offers.has_changed().unwrap(), "a lost CRD is no order to give everything back");
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_keeps_two_watches_and_asks_for_little_else() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    pass(Duration::from_secs(60)).await;
    assert_eq!((reads(&server), server.watchers()), (4, 2));
    server.forget_calls();
    pass(Duration::from_secs(24 * 3600)).await;
    // Alone in its cluster it is also the one that counts.
    let counts = |call: &Call| call.resource == "leases" || is_of_the_one_who_counts(call);
    let own: Vec<Call> = server.calls().into_iter().filter(|call| !counts(call)).collect();
    let watches = own.iter().filter(|call| call.verb == "watch").count();
    let told = own.iter().filter(|call| call.verb == "apply").count();
    assert_eq!(watches + told, own.len(), "nothing is read but by watching");
    // A heartbeat of the conditions every 10 to 12 minutes, one of the state every 60 to 72.
    assert!((24 * 5 + 20 - 2..=24 * 6 + 24 + 2).contains(&told), "{told} heartbeats in a day");
    // Each lives 20 to 40 minutes.
    assert!((2 * 24..=2 * 24 * 3 + 2).contains(&watches), "{watches} in a day");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_given_up() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    pass(Duration::from_secs(90)).await;
    server.forget_calls();
    server.mute_watches();
    server.put(&profile("web"), for_pool("web", 0, 2));
    pass(Duration::from_secs(300)).await;
    scene.until_value(2).await;
}

#[tokio::test(start_paused = true)]
async fn names_that_mean_harm_stay_names() {
    let server = Double::new();
    let (cluster, _offers) = Cluster::new("../../n1?watch=true&x=\r\n".to_owned(), Pace::default());
    let engine = Engine::new(Arc::default());
    tokio::spawn(cluster.run(ApiServer::new(server.client()), engine.side(), CancellationToken::new()));
    pass(Duration::from_secs(60)).await;
    let asked = server.calls();
    assert!(asked.iter().all(|call| ["nodes", "nodeprofiles"].contains(&call.resource.as_str())), "{asked:?}");
    let own = asked.iter().find(|call| call.resource == "nodes").unwrap();
    assert_eq!(own.parameter("fieldSelector"), "metadata.name=../../n1?watch=true&x=\r\n");
    server.put("/apis/trimtab.dev/v1alpha1/nodeprofiles/..%2F..%2Fetc", json!({"spec": {"weight": "\u{1b}[2J"}}));
    pass(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_of_a_megabyte_arrives_whole_and_a_larger_one_is_judged_by_the_reader() {
    let server = Scene::server();
    let values = |many: usize| {
        let values: serde_json::Map<String, Value> =
            (0..many).map(|n| (format!("net.ipv4.conf.eth{n}.rp_filter"), json!("0".repeat(60)))).collect();
        json!({"spec": {"sysctls": {"values": values}}})
    };
    server.put(&profile("large"), values(10_000));
    let mut scene = Scene::new(&server);
    let Offer::Object { text, .. } = scene.until_profile("large").await else { panic!() };
    assert!(text.len() > 900_000 && text.len() < 1 << 20, "{}", text.len());
    assert!(trimtab::profile::parse("large", text.as_bytes()).is_ok());
    server.put(&profile("large"), values(12_000));
    let grown = scene.until("grown", |offer| matches!(offer, Offer::Object { text, .. } if text.len() > 1 << 20)).await;
    let Offer::Object { text, .. } = grown else { panic!() };
    let refused = trimtab::profile::parse("large", text.as_bytes()).unwrap_err();
    assert_eq!(refused.diagnostics[0].message, "too large");
}
