//! The page over plain HTTP: what it says, what it lets through, how it tells of changes.

mod browser;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimtab::reconcile::history::{Change, ChangeKind};
use trimtab::reconcile::node_view::NodeView;
use trimtab::reconcile::report::{Fight, NodeReport, ObjectReport, State, StepReport, SubsystemReport};
use trimtab_domain::plan::{Cause, Finding, Refusal, Severity};

use crate::support::machines::{HOSTILE, SMALL, busy};
use crate::support::server::{Setup, TestServer, pending_report, ready_report, within};

/// A report in which there is something of everything, named by `name`.
fn eventful(name: &str) -> NodeReport {
    let mut report = ready_report();
    let subsystem = |report: &mut NodeReport, at: usize, change: &dyn Fn(&mut SubsystemReport)| {
        let mut changed = SubsystemReport::clone(&report.subsystems[at]);
        change(&mut changed);
        report.subsystems[at] = Arc::new(changed);
    };
    let object = |desired: &str, observed: Option<&str>| ObjectReport {
        object: name.into(),
        desired: Some(desired.into()),
        observed: observed.map(str::to_owned),
        attributes: vec![],
    };
    subsystem(&mut report, 0, &|it| {
        it.state = State::Fighting;
        it.objects = vec![object("1024", Some("128")), object("1", Some("1")), object("2", None)].into();
        it.steps = vec![
            StepReport { step: format!("{name}: 128 -> 1024"), error: None },
            StepReport { step: name.into(), error: Some(format!("cannot write {name}")) },
        ];
        it.last_change = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        it.fights = vec![Fight {
            object: name.into(),
            rewrites: 6,
            likely_writer: Some(name.into()),
            held_until: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_030),
        }];
    });
    subsystem(&mut report, 2, &|it| {
        it.state = State::Failing;
        it.last_error = Some(format!("cannot read {name}"));
        it.refusals = vec![Refusal {
            object: name.into(),
            wish: name.into(),
            cause: Cause::Insufficient,
            detail: format!("{name} asks for too much"),
        }];
        it.findings = vec![Finding {
            severity: Severity::Warning,
            code: "mispinned",
            object: name.into(),
            message: format!("{name} runs elsewhere"),
            remedy: format!("restart {name}"),
        }];
    });
    report.profile.name = name.into();
    report.profile.valid = false;
    report.profile.errors = vec![format!("{name}: unknown field")];
    report.node = name.into();
    report
}

async fn start(report: NodeReport, view: NodeView) -> (TestServer, SocketAddr) {
    let mut setup = Setup::new();
    setup.config.http = Some("127.0.0.1:0".parse().unwrap());
    (setup.report, setup.view) = (report, view);
    let server = setup.start().await;
    let address = server.handle.http().unwrap();
    (server, address)
}

/// Head and body of an answer.
async fn get(address: SocketAddr, path: &str, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_page_is_whole_without_scripts() {
    let (server, address) = start(eventful("net.core.somaxconn"), busy(SMALL, &[("db", 1), ("web", 2)])).await;
    let (head, body) = get(address, "/", "localhost").await;
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    for expected in [
        "<h1>Node <bdi>net.core.somaxconn</bdi> <span class=\"chip good\">ready</span></h1>",
        "1 socket, 1 NUMA node, 4 cores, 8 CPUs: 6 exclusive to 2 containers, 2 reserved; 7 GiB of 14 GiB memory held",
        "<title>CPU 5: held by data/db/main (core 1, L3 0, NUMA node 0, socket 0)</title>",
        "<td>data</bdi></td>",
        "<td class=\"cpus\">1,5</td><td>0</td>",
        "cannot write net.core.somaxconn",
        "net.core.somaxconn: unknown field",
        "net.core.somaxconn asks for too much",
        "restart net.core.somaxconn",
        "back 6 times; left alone until <time datetime=\"2023-11-14T22:13:50Z\">2023-11-14 22:13:50 UTC</time>",
        "<td><bdi>1024</bdi></td><td><bdi>128</bdi></td>",
        "<td><bdi>2</bdi></td><td><bdi>absent</bdi></td>",
        "<td class=\"number\">7 GiB</td><td class=\"number\">7 GiB</td><td class=\"number\">1 GiB</td><td class=\"number\">16 GiB</td>",
        "Containers in the shared pool: 1.",
    ] {
        let expected = expected.replace("<td>data</bdi>", "<td><bdi>data</bdi>");
        assert!(body.contains(&expected), "no {expected} in\n{body}");
    }
    assert_eq!(body.matches("<td><bdi>1</bdi></td>").count(), 0, "what is as asked for is no drift");
    server.shut_down().await;
}

/// A change with something in every field.
fn change(name: &str) -> Change {
    let mut change = Change::new("sysctl", ChangeKind::Healed, name);
    (change.old, change.new) = (Some("128".into()), Some(name.into()));
    (change.actor, change.reason) = (name.into(), "drift".into());
    change
}

#[tokio::test]
async fn the_page_tells_what_changed_newest_first_and_who_does_not_run_as_ordered() {
    let mut view = busy(SMALL, &[("db", 1)]);
    view.pods[0].containers[0].mispinned = Some("it may run on 0".into());
    view.pods[1].containers[0].mispinned = Some("it may run on 0-7".into());
    let (server, address) = start(ready_report(), view).await;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for number in 0..60 {
        server.history.note_at(change(&format!("net.{number}")), time);
    }
    let (_, body) = get(address, "/", "localhost").await;
    for expected in [
        "<time datetime=\"2023-11-14T22:13:20Z\">2023-11-14 22:13:20 UTC</time></td>\
         <td><span class=\"chip doubt\">healed</span></td><td class=\"word\">sysctl</td>\
         <th scope=\"row\"><bdi class=\"name\">net.59</bdi></th><td><bdi>128</bdi> → <bdi>net.59</bdi></td>\
         <td>by <bdi>net.59</bdi>: <bdi>drift</bdi></td>",
        "and 10 earlier ones",
        "<span class=\"chip bad\">mispinned</span> <bdi>it may run on 0-7</bdi></td>",
        "<bdi class=\"name\">kube-system/dns/dns</bdi>: <span class=\"chip bad\">mispinned</span> <bdi>it may run on 0</bdi>",
        "<g class=\"cpu exclusive k0 mispinned\"",
        "2 containers mispinned",
        "does not run as ordered</li>",
    ] {
        assert!(body.contains(expected), "no {expected} in\n{body}");
    }
    let at = |text: &str| body.find(text).unwrap();
    assert!(at(">net.59<") < at(">net.58<"), "newest first");
    assert!(!body.contains(">net.9<"), "only the newest are shown");
    server.shut_down().await;
}

#[tokio::test]
async fn an_agent_that_has_just_started_has_a_page_too() {
    let (server, address) = start(pending_report(), NodeView::default()).await;
    let (_, body) = get(address, "/", "127.0.0.1").await;
    for expected in ["not ready", "No profile in force", "It has not been read yet", "None since the agent started"] {
        assert!(body.contains(expected), "no {expected} in\n{body}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn hostile_names_stay_text_wherever_they_appear() {
    for name in HOSTILE {
        let stray = |name: &str| {
            let mut view = busy(SMALL, &[(name, 1)]);
            view.pods.iter_mut().for_each(|pod| pod.containers[0].mispinned = Some(name.into()));
            view
        };
        let (server, address) = start(eventful(name), stray(name)).await;
        server.history.note(change(name));
        let harmless = get(address, "/", "localhost").await.1;
        let (plain, plain_address) = start(eventful("x"), stray("x")).await;
        plain.history.note(change("x"));
        let expected = get(plain_address, "/", "localhost").await.1;
        let tags = |text: &str| {
            text.split('<').skip(1).map(|part| part.split(['>', ' ']).next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(tags(&harmless), tags(&expected), "{name:?} changes the elements of the page");
        let quotes = |text: &str| text.matches('"').count();
        assert_eq!(quotes(&harmless), quotes(&expected), "{name:?} ends an attribute");
        assert!(!harmless.contains(['\u{202e}', '\u{1b}', '\0', '\u{ffff}']), "{name:?}");
        plain.shut_down().await;
        server.shut_down().await;
    }
}

#[tokio::test]
async fn answers_forbid_what_they_do_not_need() {
    let (server, address) = start(ready_report(), busy(SMALL, &[])).await;
    let rows = [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/topology.svg", "image/svg+xml"),
    ];
    for (path, kind) in rows {
        let (head, body) = get(address, path, "127.0.0.1:9808").await;
        assert!(head.contains(&format!("content-type: {kind}\r\n")), "{path}: {head}");
        assert!(head.contains("content-security-policy: default-src 'none'; "), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
        assert!(!body.replace("http://www.w3.org/2000/svg", "").contains("://"), "{path} names another place");
        assert!(!body.contains(" style=\"") && !body.contains(" onclick"), "{path} breaks its own policy");
    }
    let (head, _) = get(address, "/", "localhost").await;
    assert!(!head.contains("unsafe"), "{head}");
    server.shut_down().await;
}

#[tokio::test]
async fn a_name_that_points_to_loopback_is_refused() {
    let (server, address) = start(ready_report(), busy(SMALL, &[])).await;
    for path in ["/", "/topology.svg", "/events"] {
        let (head, body) = get(address, path, "evil.example").await;
        assert!(head.starts_with("http/1.1 421"), "{path}: {head}");
        assert!(!body.contains("node-1"), "{body}");
    }
    assert!(get(address, "/healthz", "node").await.0.starts_with("http/1.1 200"), "probes may call it as they like");
    server.shut_down().await;
}

/// A stream of changes that is being read.
struct Events(TcpStream);

impl Events {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        Self(stream)
    }

    /// Reads until a text has come; what came.
    async fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let all = async {
            while !String::from_utf8_lossy(&seen).contains(text) {
                let read = self.0.read_buf(&mut seen).await.unwrap();
                assert_ne!(read, 0, "the stream ended after {:?}", String::from_utf8_lossy(&seen));
            }
        };
        within(all).await;
        String::from_utf8(seen).unwrap()
    }
}

#[tokio::test]
async fn viewers_are_told_at_once_and_after_each_change() {
    let (server, address) = start(ready_report(), busy(SMALL, &[])).await;
    let mut events = Events::open(address).await;
    let first = events.until("event: change\ndata: now\n").await.to_lowercase();
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    events.until("\n\n").await;
    server.view.send_replace(Arc::new(busy(SMALL, &[("db", 1)])));
    events.until("event: change").await;
    server.report.send_replace(Arc::new(pending_report()));
    events.until("event: change").await;
    server.shut_down().await;
}

#[tokio::test]
async fn viewers_do_not_keep_scrapers_out() {
    let (server, address) = start(ready_report(), busy(SMALL, &[])).await;
    let mut viewers = Vec::new();
    for _ in 0..8 {
        let mut viewer = Events::open(address).await;
        viewer.until("event: change").await;
        viewers.push(viewer);
    }
    assert!(get(address, "/events", "localhost").await.0.starts_with("http/1.1 503"));
    assert!(get(address, "/healthz", "localhost").await.0.starts_with("http/1.1 200"));
    viewers.pop();
    let mut tries = 0;
    let freed = async {
        loop {
            let mut next = Events::open(address).await;
            let mut answer = [0; 12];
            next.0.read_exact(&mut answer).await.unwrap();
            if answer.ends_with(b"200") {
                return;
            }
            tries += 1;
            tokio::task::yield_now().await;
        }
    };
    within(freed).await;
    server.shut_down().await;
}

#[tokio::test]
async fn names_of_pods_are_not_told_to_other_machines_unasked() {
    use trimtab::config::Page;
    let rows = [
        ("127.0.0.1:0", Page::Auto, 200),
        ("0.0.0.0:0", Page::Auto, 404),
        ("0.0.0.0:0", Page::Always, 200),
        ("127.0.0.1:0", Page::Never, 404),
    ];
    for (bound, page, expected) in rows {
        let mut setup = Setup::new();
        (setup.config.http, setup.config.page) = (Some(bound.parse().unwrap()), page);
        let server = setup.start().await;
        let address = SocketAddr::from(([127, 0, 0, 1], server.handle.http().unwrap().port()));
        for path in ["/", "/topology.svg", "/page.js"] {
            let (head, _) = get(address, path, "127.0.0.1").await;
            assert!(head.starts_with(&format!("http/1.1 {expected}")), "{bound} {page:?} {path}: {head}");
        }
        assert!(get(address, "/metrics", "node").await.0.starts_with("http/1.1 200"), "{bound} {page:?}");
        server.shut_down().await;
    }
}
