//! Which profile a node gets, and when.

use serde_json::json;
use trimtab_domain::cluster::selection::Outcome;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_gets_the_heaviest_profile_that_selects_it_and_follows_every_change() {
    let server = Scene::server();
    server.put(&profile("all"), json!({"spec": {}}));
    let mut scene = Scene::new(&server);
    scene.until_profile("all").await;
    server.put(&profile("web"), for_pool("web", 10, 1000));
    scene.until_profile("web").await;
    server.put(&profile("web"), for_pool("web", 10, 2000));
    scene.until_value(2000).await;
    server.put(&profile("db"), for_pool("db", 90, 3000));
    server.edit(NODE, |node| node["metadata"]["labels"]["pool"] = "db".into());
    scene.until_profile("db").await;
    server.remove(&profile("db"));
    scene.until_profile("all").await;
    server.remove(&profile("all"));
    let nothing = scene.until_nothing().await;
    assert_eq!(nothing, Offer::Nothing { why: "none of 1 profiles selects this node".into() });
}

#[tokio::test(start_paused = true)]
async fn of_two_profiles_of_equal_weight_the_first_by_name_wins_and_both_say_so() {
    let server = Scene::server();
    server.put(&profile("web-b"), for_pool("web", 10, 1));
    server.put(&profile("web-a"), for_pool("web", 10, 2));
    let mut scene = Scene::new(&server);
    scene.until_profile("web-a").await;
    let choice = scene.views.choice.borrow().clone();
    let verdicts: Vec<(&str, Outcome)> = choice.verdicts.iter().map(|v| (v.profile.as_str(), v.outcome)).collect();
    assert_eq!(verdicts, [("web-a", Outcome::Won), ("web-b", Outcome::Outweighed)]);
    assert_eq!(choice.why, "web-a goes before web-b (weight 10 as web-a, which comes first by name)");
}

#[tokio::test(start_paused = true)]
async fn a_profile_whose_selector_cannot_be_read_is_for_nobody_and_harms_nobody() {
    let server = Scene::server();
    server.put(&profile("broken"), json!({"spec": {"weight": 1000, "nodeSelector": {"matchLabels": ["pool"]}}}));
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_profile("web").await;
    let choice = scene.views.choice.borrow().clone();
    let broken = choice.verdicts.iter().find(|verdict| verdict.profile == "broken").unwrap();
    assert_eq!(broken.outcome, Outcome::Unreadable);
    assert!(
        broken.why.contains("nodeprofiles/broken") && broken.why.contains("spec.nodeSelector.matchLabels"),
        "{broken:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_text_offered_changes_with_the_specification_alone() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    let first = scene.until_profile("web").await;
    scene.offers.mark_unchanged();
    server.edit(&profile("web"), |object| {
        object["status"] = json!({"nodes": 5});
        object["metadata"]["annotations"] = json!({"note": "x"});
    });
    server.edit(NODE, |node| node["status"] = json!({"images": []}));
    pass(Duration::from_secs(300)).await;
    assert!(!scene.offers.has_changed().unwrap());
    match first {
        Offer::Object { text, .. } => {
            let read = trimtab::profile::parse("p", text.as_bytes()).unwrap();
            assert_eq!((read.spec.name.as_str(), read.reach.weight), ("web", 0));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_before_both_the_node_and_the_profiles_are_known() {
    let server = Double::new();
    server.put(&profile("all"), json!({"spec": {}}));
    let mut scene = Scene::new(&server);
    pass(Duration::from_secs(600)).await;
    assert_eq!(*scene.offers.borrow(), Offer::Unknown, "the kubelet has not made the Node yet");
    server.put(NODE, json!({}));
    scene.until_profile("all").await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_node_keeps_its_profile_and_a_new_one_of_its_name_is_judged_anew() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_profile("web").await;
    scene.offers.mark_unchanged();
    server.remove(NODE);
    pass(Duration::from_secs(600)).await;
    assert!(!scene.offers.has_changed().unwrap(), "a node that is being removed is held to its end");
    server.put(NODE, json!({"metadata": {"labels": {"pool": "db"}}}));
    scene.until_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_whose_selector_is_spoilt_later_stays_its_nodes() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 5, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    server.put(&profile("web"), json!({"spec": {"nodeSelector": 7, "sysctls": {"values": {"net.core.somaxconn": 2}}}}));
    scene.until_value(2).await;
    assert_eq!(scene.views.choice.borrow().winner.as_deref(), Some("web"));
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_could_ever_read_gives_nothing_back() {
    let server = Scene::server();
    server.put(&profile("broken"), json!({"spec": {"nodeSelector": 7}}));
    let scene = Scene::new(&server);
    pass(Duration::from_secs(60)).await;
    assert_eq!(*scene.offers.borrow(), Offer::Unknown, "it may be this node's");
    assert_eq!(scene.views.choice.borrow().verdicts[0].outcome, Outcome::Unreadable);
}
