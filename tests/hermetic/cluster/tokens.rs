//! The token of the service account expires and is exchanged under the agent's feet.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use trimtab::adapters::api_server::{Access, ApiError, Form, connect};

use super::*;
use crate::support::api_server::{Fault, Listening};

/// As the kubelet mounts it, at a double that listens.
async fn account(server: &Double, directory: &Path) -> (ApiServer, Listening) {
    let listening = server.listen().await;
    let access =
        Access::ServiceAccount { server: format!("http://{}", listening.address), directory: directory.to_owned() };
    (connect(&access).await.unwrap(), listening)
}

#[tokio::test]
async fn each_request_bears_the_token_that_is_in_the_file_now() {
    let (server, directory) = (Scene::server(), tempfile::tempdir().unwrap());
    let file = directory.path().join("token");
    let (api, _listening) = account(&server, directory.path()).await;
    for token in ["first", "second\n"] {
        fs::write(&file, token).unwrap();
        server.accept_tokens(&[token.trim()]);
        assert!(api.read(NODE, Form::Metadata).await.unwrap().is_some(), "{token:?}");
    }
    let sent: Vec<String> = server.calls().into_iter().map(|call| call.token).collect();
    assert_eq!(sent, ["first", "second"]);
}

#[tokio::test]
async fn a_token_that_is_exchanged_while_it_is_judged_is_read_again_at_once() {
    let (server, directory) = (Scene::server(), tempfile::tempdir().unwrap());
    let file = directory.path().join("token");
    fs::write(&file, "old").unwrap();
    let (api, _listening) = account(&server, directory.path()).await;
    server.judge_tokens(move |token| {
        fs::write(&file, "new").unwrap();
        token == "new"
    });
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}});
    api.create("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.unwrap();
    let sent: Vec<(String, usize)> = server.calls().into_iter().map(|call| (call.token, call.bytes)).collect();
    let length = event.to_string().len();
    assert_eq!(sent, [("old".to_owned(), length), ("new".to_owned(), length)], "with the whole body again");
}

#[tokio::test]
async fn an_expired_token_is_not_sent_twice_and_a_rotation_never_goes_on_for_ever() {
    let (server, directory) = (Scene::server(), tempfile::tempdir().unwrap());
    let file = directory.path().join("token");
    fs::write(&file, "expired").unwrap();
    let (api, _listening) = account(&server, directory.path()).await;
    server.accept_tokens(&[]);
    let refused = api.read(NODE, Form::Metadata).await.unwrap_err();
    assert!(matches!(refused, ApiError::Unauthorized { .. }), "{refused}");
    assert_eq!(server.calls().len(), 1);
    // Somebody writes another bad one each time.
    let writes = AtomicUsize::new(0);
    server.judge_tokens(move |_| {
        fs::write(&file, format!("bad-{}", writes.fetch_add(1, Ordering::Relaxed))).unwrap();
        false
    });
    server.forget_calls();
    api.read(NODE, Form::Metadata).await.unwrap_err();
    assert_eq!(server.calls().len(), 2);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_message_names_the_file() {
    let (server, directory) = (Scene::server(), tempfile::tempdir().unwrap());
    let (api, _listening) = account(&server, directory.path()).await;
    for (token, word) in [(None, "cannot read the token"), (Some("a\u{1}b"), "odd characters")] {
        if let Some(token) = token {
            fs::write(directory.path().join("token"), token).unwrap();
        }
        let refused = api.read(NODE, Form::Metadata).await.unwrap_err();
        assert!(refused.to_string().contains(word), "{refused}");
    }
    assert!(server.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_known_is_an_outage() {
    let server = Scene::server();
    server.put(&profile("web"), for_pool("web", 0, 1));
    let mut scene = Scene::new(&server);
    scene.until_value(1).await;
    server.fault(Fault::status(401));
    server.cut_watches();
    server.forget_calls();
    server.put(&profile("web"), for_pool("web", 0, 2));
    scene.offers.mark_unchanged();
    pass(Duration::from_secs(3600)).await;
    assert!(!scene.offers.has_changed().unwrap(), "the node is held as before");
    assert!(reads(&server) <= 2 * (3600 / 30 + 6), "{} tries in an hour", reads(&server));
    server.heal();
    scene.until_value(2).await;
}
