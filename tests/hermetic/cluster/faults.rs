//! Faults of the agent itself: what it may ask is bounded whatever goes wrong, and no task stays dead.

use trimtab::adapters::api_server::Form;
use trimtab::adapters::api_server::budget::{APART, BURST};
use trimtab::ports::api_stats::ApiVerb;

use super::*;
use crate::support::api_server::Fault;

const CONDITIONS: &str = "nodes/status";

#[tokio::test(start_paused = true)]
async fn a_task_that_dies_is_begun_again_and_nothing_that_was_known_is_lost() {
    for (verb, resource) in [("apply", CONDITIONS), ("apply", "nodestates"), ("create", "events"), ("list", "nodes")] {
        let server = Scene::server();
        server.put(&profile("web"), for_pool("web", 0, 1));
        server.fault(Fault::panic().on(verb).of_resource(resource).times(1));
        let api = ApiServer::new(server.client());
        let mut scene = Scene::over(api.clone(), "n1", Engine::new(Arc::default()));
        scene.until_value(1).await;
        scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
        scene.engine.converge();
        pass(Duration::from_secs(120)).await;
        assert_eq!(api.stats().restarts(), 1, "{verb} {resource}");
        let told = server.object(NODE).unwrap()["status"]["conditions"].as_array().map_or(0, Vec::len);
        assert_eq!(told, 5, "{verb} {resource}: conditions");
        assert!(server.object("/apis/trimtab.dev/v1alpha1/nodestates/n1").is_some(), "{verb} {resource}");
        assert_eq!(server.watchers(), 2, "{verb} {resource}: the old watches are closed");
        server.put(&profile("web"), for_pool("web", 0, 2));
        scene.until_value(2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_comes_back_every_time_is_no_load_and_the_profile_stays() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    server.fault(Fault::panic().on("apply"));
    scene.engine.converge();
    scene.offers.mark_unchanged();
    server.forget_calls();
    pass(Duration::from_secs(4 * 3600)).await;
    assert!(!scene.offers.has_changed().unwrap());
    // Rests of 300 to 600 s once they have grown, ten requests each.
    let most = 10 * (4 * 3600 / 300 + 8);
    assert!(server.calls().len() <= most, "{} calls in four hours", server.calls().len());
    server.heal();
    server.put(&profile("web"), for_pool("web", 0, 2));
    scene.until_value(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_whose_node_has_nothing_more_to_tell_ends_in_peace() {
    let server = Scene::server();
    let api = ApiServer::new(server.client());
    let engine = Engine::new(Arc::default());
    let (cluster, _offers) = Cluster::new("n1".to_owned(), Pace::default());
    let run = tokio::spawn(cluster.run(api.clone(), engine.side(), CancellationToken::new()));
    pass(Duration::from_secs(60)).await;
    drop(engine);
    tokio::time::timeout(LIMIT, run).await.unwrap().unwrap();
    assert_eq!(api.stats().restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_requests_is_one_for_all_who_ask() {
    let server = Scene::server();
    let api = ApiServer::new(server.client());
    let begun = tokio::time::Instant::now();
    let asking = |api: ApiServer| async move {
        for _ in 0..50 {
            api.read(NODE, Form::Metadata).await.unwrap();
        }
    };
    tokio::join!(asking(api.clone()), asking(api.clone()), asking(api.clone()));
    assert_eq!(begun.elapsed().as_secs(), (APART * (150 - BURST)).as_secs());
    let calls = server.calls();
    for (index, call) in calls.iter().enumerate() {
        let within = calls[index..].iter().filter(|later| later.at - call.at < Duration::from_secs(10)).count();
        assert!(within <= BURST as usize + 50, "{within} requests in ten seconds");
    }
    assert!(api.stats().waited() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn when_everything_changes_all_the_time_an_agent_asks_for_little() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let scene = Scene::new(&server);
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    pass(Duration::from_secs(60)).await;
    server.forget_calls();
    for second in 1..=3600 {
        super::telling::drift(&scene.engine, second, &format!("net.ipv4.conf.eth{second}.rp_filter"));
        scene.engine.publish("kernel", |report| {
            report.state = if second % 2 == 0 { State::Failing } else { State::Converged };
        });
        server.put(&profile("web"), for_pool("web", 0, u32::try_from(second).unwrap()));
        server.edit(NODE, |node| node["metadata"]["labels"]["n"] = second.to_string().into());
        server.compact();
        pass(Duration::from_secs(1)).await;
    }
    let calls = server.calls().len();
    assert!(calls <= 800, "{calls} calls in an hour");
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_is_counted_as_the_server_saw_it() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    server.fault(Fault::status(503).on("apply").of_resource(CONDITIONS).times(2));
    server.fault(Fault::hang().on("apply").of_resource("nodestates").times(1));
    let api = ApiServer::new(server.client());
    let scene = Scene::over(api.clone(), "n1", Engine::new(Arc::default()));
    scene.engine.hold(1, NodeSpec { name: "web".into(), ..NodeSpec::default() });
    scene.engine.converge();
    pass(Duration::from_secs(120)).await;
    for verb in ApiVerb::ALL {
        let counted: u64 = api.stats().requests().iter().filter(|((of, ..), _)| *of == verb).map(|(_, n)| n).sum();
        let seen = server.calls().iter().filter(|call| call.verb == verb.as_str()).count();
        assert_eq!(counted, seen as u64, "{verb:?}");
    }
    let count = |request| api.stats().requests().iter().find(|(known, _)| *known == request).map_or(0, |(_, n)| *n);
    assert_eq!(count((ApiVerb::Apply, CONDITIONS, Some(503))), 2);
    assert_eq!(count((ApiVerb::Apply, "nodestates", None)), 1);
    assert!(count((ApiVerb::Apply, "nodestates", Some(200))) + count((ApiVerb::Apply, "nodestates", Some(201))) >= 1);
    assert_eq!(count((ApiVerb::Watch, "nodeprofiles", Some(200))), 1);
    assert!(api.stats().last_success().is_some());
}
