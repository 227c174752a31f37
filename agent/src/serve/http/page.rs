//! Serves the page: the document, its two files, the image, and the stream of changes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::Pages;
use crate::picture::{Topology, svg};
use crate::serve::page;

/// Streams of changes open at once; they take from the connections that scrapers and probes need too.
pub(super) const MAX_VIEWERS: usize = 8;

/// Shortest time between two changes that a viewer is told of.
const PACE: Duration = Duration::from_millis(500);

/// Time after which a browser asks again for a stream that has ended.
const RETRY: Duration = Duration::from_secs(2);

/// Everything that a page may do: use its own style, script, image and stream, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// An image on its own brings its style along, and nothing that acts.
const IMAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox";

pub(super) fn routes(pages: &Pages) -> Router<Pages> {
    Router::new()
        .route("/", get(document))
        .route("/page.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)))
        .route("/page.js", get(async || ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)))
        .route("/topology.svg", get(image))
        .route("/events", get(events))
        .route_layer(middleware::from_fn_with_state(pages.clone(), guard))
}

/// Adds what keeps browsers from misusing the answers; refuses names that are not this machine's.
async fn guard(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if pages.loopback && !host.is_none_or(is_local) {
        let text = "this address answers to localhost and to IP addresses only\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let rows: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in rows {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Whether a host of a request is a number or the name that every machine has for itself. A page elsewhere could point a
/// name of its own at the loopback address to read what is served there (DNS rebinding); it cannot do so with these.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

async fn document(State(pages): State<Pages>) -> Response {
    let (report, view) = (Arc::clone(&pages.report.borrow()), Arc::clone(&pages.view.borrow()));
    let text = page::document((&report, &view), &pages.history.entries(), SystemTime::now());
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

async fn image(State(pages): State<Pages>) -> Response {
    let (node, view) = (pages.report.borrow().node.clone(), Arc::clone(&pages.view.borrow()));
    let text = svg::document(&Topology::new(&node, &view));
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CONTENT_SECURITY_POLICY, IMAGE_POLICY)];
    (headers, text).into_response()
}

/// One event at once and one after each change; what changes faster than the pace is told of once.
async fn events(State(pages): State<Pages>) -> Response {
    let Ok(permit) = Arc::clone(&pages.viewers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many viewers\n").into_response();
    };
    let (told, events) = mpsc::channel(1);
    tokio::spawn(tell(pages, told, permit));
    Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::default()).into_response()
}

async fn tell(mut pages: Pages, told: mpsc::Sender<Result<Event, Infallible>>, _permit: OwnedSemaphorePermit) {
    loop {
        pages.report.mark_unchanged();
        pages.view.mark_unchanged();
        // A browser passes over events without data.
        let event = Event::default().event("change").data("now").retry(RETRY);
        if told.send(Ok(event)).await.is_err() {
            return;
        }
        tokio::select! {
            () = pages.stop.cancelled() => return,
            () = told.closed() => return,
            () = tokio::time::sleep(PACE) => {}
        }
        let changed = tokio::select! {
            () = pages.stop.cancelled() => return,
            () = told.closed() => return,
            changed = pages.report.changed() => changed,
            changed = pages.view.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_and_localhost_are_local() {
        for host in ["localhost", "LOCALHOST:9808", "127.0.0.1:9808", "[::1]:9808", "[::1]", "10.0.0.1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "evil.example:9808", "localhost.evil.example", "127.0.0.1.evil.example", "", ":80"]
        {
            assert!(!is_local(host), "{host}");
        }
    }
}
