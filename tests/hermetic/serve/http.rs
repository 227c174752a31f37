//! `/metrics`, `/healthz`, `/readyz`, over plain HTTP/1.1.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimtab::serve::ServeError;

use crate::support::server::{Setup, TestServer, metric_in, pending_report, ready_report, within};

async fn start(ready: bool) -> (TestServer, SocketAddr) {
    let mut setup = Setup::new();
    setup.config.http = Some("127.0.0.1:0".parse().unwrap());
    if !ready {
        setup.report = pending_report();
    }
    let server = setup.start().await;
    let address = server.handle.http().unwrap();
    (server, address)
}

/// Sends bytes and reads until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn ready_only_after_the_first_passes() {
    let (server, address) = start(false).await;
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()), "alive before it is ready");
    let (status, body) = get(address, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "not ready\n- no valid profile is known yet\n- subsystem sysctl has not ended a pass yet\n\
         - subsystem cgroup has not ended a pass yet\n- subsystem pinning has not ended a pass yet\n\
         - subsystem masquerade has not ended a pass yet\n"
    );

    let mut refused = pending_report();
    refused.profile.errors = vec!["profile.yaml:3:5: unknown field `sysctl`".into()];
    server.report.send_replace(Arc::new(refused));
    let (_, body) = get(address, "/readyz").await;
    assert!(body.contains("- profile.yaml:3:5: unknown field `sysctl`\n"), "{body}");

    server.report.send_replace(Arc::new(ready_report()));
    assert_eq!(get(address, "/readyz").await, (200, "ok\n".into()));
    server.shut_down().await;
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let (server, address) = start(true).await;
    let request = "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
    let answer = exchange(address, request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.to_lowercase().contains(content_type), "{head}");
    assert!(body.contains("# EOF\n"), "the format demands an end mark");
    assert!(metric_in(body, "process_resident_memory_bytes") > 1e6);
    server.shut_down().await;
}

#[tokio::test]
async fn wrong_requests_have_their_stated_answers() {
    let (server, address) = start(true).await;
    let long = "x".repeat(40_000);
    let many: String = (0..70).map(|number| format!("x-{number}: y\r\n")).collect();
    let rows = [
        ("unknown path", "GET /index HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n".to_owned(), 404),
        ("path that climbs", "GET /../etc/passwd HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n".to_owned(), 404),
        (
            "wrong method",
            "POST /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            405,
        ),
        ("not HTTP", "hello\r\n\r\n".to_owned(), 400),
        ("long header", format!("GET /healthz HTTP/1.1\r\nHost: n\r\nX: {long}\r\n\r\n"), 431),
        ("long path", format!("GET /{long} HTTP/1.1\r\nHost: n\r\n\r\n"), 431),
        ("many headers", format!("GET /healthz HTTP/1.1\r\nHost: n\r\n{many}\r\n"), 431),
    ];
    for (name, request, expected) in rows {
        let answer = exchange(address, &request).await;
        let status: u16 = answer.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        assert_eq!(status, expected, "{name}: {answer:.60}");
        assert_eq!(get(address, "/healthz").await.0, 200, "after {name}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let (server, address) = start(true).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            assert_ne!(within(stream.read_buf(&mut answer)).await.unwrap(), 0);
        }
    }
    drop(stream);
    server.shut_down().await;
}

#[tokio::test]
async fn taken_address_is_an_error_that_names_the_remedy() {
    let (server, address) = start(true).await;
    let mut second = Setup::new();
    second.config.http = Some(address);
    let socket = second.config.socket.path.clone();
    let error = second.try_start().await.err().unwrap();
    assert!(matches!(error, ServeError::Http { .. }));
    assert!(error.to_string().contains("choose another with --http, or `off`"), "{error}");
    assert!(!socket.exists(), "nothing is left behind");
    server.shut_down().await;
}
