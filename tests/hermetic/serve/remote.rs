//! gRPC over TCP: only to clients with a certificate, changes only for those that are listed, certificates renewed.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic::transport::Channel;
use trimtab::adapters::certificate_files::CertificateFiles;
use trimtab::serve::{RateLimit, ServeError, TlsConfig};
use trimtab_proto::node::v1alpha1::ResumeRequest;
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;
use trimtab_proto::podresources::v1::ListPodResourcesRequest;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

use crate::support::authority::{Authority, Pair, Remote, Says};
use crate::support::server::{Setup, TestServer, eventually, within};

/// 2100-01-01, in seconds since 1970.
const NEW_EXPIRY: f64 = 4_102_444_800.0;

/// Puts a file in place as a whole.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

struct Files(CertificateFiles);

impl Files {
    fn put(&self, server: &Pair, clients: &Authority) {
        put(&self.0.certificate, &server.certificate);
        put(&self.0.key, &server.key);
        put(&self.0.client_ca, &clients.pem());
    }
}

/// A setup that serves TCP with these certificates.
fn setup(server: &Pair, clients: &Authority) -> (Setup, Files) {
    let mut setup = Setup::new();
    let file = |name: &str| setup.dir.path().join(name);
    let files = CertificateFiles { certificate: file("tls.crt"), key: file("tls.key"), client_ca: file("ca.crt") };
    let mut config = TlsConfig::new(([127, 0, 0, 1], 0).into(), files.clone());
    config.look = Duration::from_millis(20);
    setup.config.tls = Some(config);
    let files = Files(files);
    files.put(server, clients);
    (setup, files)
}

async fn list(channel: Channel) -> Result<usize, tonic::Status> {
    let answer = within(PodResourcesListerClient::new(channel).list(ListPodResourcesRequest {})).await?;
    Ok(answer.into_inner().pod_resources.len())
}

/// With TLS 1.3 a client learns only by its first call that it was not let in.
async fn ask(client: &Remote) -> Result<usize, String> {
    let channel = within(client.channel()).await.map_err(|error| format!("{error:?}"))?;
    list(channel).await.map_err(|status| status.to_string())
}

fn remote(server: &TestServer) -> std::net::SocketAddr {
    server.handle.remote().unwrap()
}

#[tokio::test]
async fn client_with_a_certificate_is_served_and_nobody_else() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (setup, _files) = setup(&ours.server(), &ours);
    let server = setup.start().await;
    let good = ours.client(&Says::CommonName("monitoring"));
    assert_eq!(ask(&Remote::new(remote(&server), &ours, Some(&good))).await, Ok(2));
    assert_eq!(server.metric("trimtab_tls_handshakes_total{result=\"done\"}"), 1.0);

    let rows = [
        ("no certificate", None),
        ("of another authority", Some(theirs.client(&Says::CommonName("monitoring")))),
        ("expired", Some(ours.client(&Says::Expired))),
        ("for servers only", Some(ours.server())),
    ];
    for (number, (name, shows)) in rows.iter().enumerate() {
        let refused = ask(&Remote::new(remote(&server), &ours, shows.as_ref())).await;
        assert!(refused.is_err(), "{name}");
        let counted = (number + 1) as f64;
        eventually(name, || server.metric("trimtab_tls_handshakes_total{result=\"failed\"}") == counted).await;
    }
    assert_eq!(server.metric("trimtab_tls_handshakes_total{result=\"done\"}"), 1.0);
    server.shut_down().await;
}

#[tokio::test]
async fn plain_text_is_not_spoken_over_tcp() {
    let ours = Authority::new("ours");
    let (setup, _files) = setup(&ours.server(), &ours);
    let server = setup.start().await;
    let mut stream = tokio::net::TcpStream::connect(remote(&server)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert, or nothing at all, but no frame of HTTP/2; the connection may be reset as well.
    let _reset = within(stream.read_to_end(&mut answer)).await;
    assert!(answer.len() <= 7, "{answer:x?}");
    eventually("counting", || server.metric("trimtab_tls_handshakes_total{result=\"failed\"}") == 1.0).await;
    server.shut_down().await;
}

#[tokio::test]
async fn only_listed_names_may_change_anything() {
    let ours = Authority::new("ours");
    let (mut setup, _files) = setup(&ours.server(), &ours);
    setup.config.peers.admins.names =
        ["spiffe://cluster/ns/ops/sa/admin", "admin.ops.example", "ops admin"].map(str::to_owned).into();
    let server = setup.start().await;
    let rows = [
        (Says::Uri("spiffe://cluster/ns/ops/sa/admin"), true),
        (Says::Dns("admin.ops.example"), true),
        (Says::CommonName("ops admin"), true),
        (Says::Uri("spiffe://cluster/ns/ops/sa/admin2"), false),
        (Says::Dns("ops.example"), false),
        (Says::CommonName("OPS ADMIN"), false),
    ];
    for (says, may) in &rows {
        let client = Remote::new(remote(&server), &ours, Some(&ours.client(says)));
        let channel = within(client.channel()).await.unwrap();
        assert_eq!(list(channel.clone()).await.unwrap(), 2, "everybody with a certificate may ask");
        let nothing = ResumeRequest { subsystem: "no-such".into() };
        let status = within(NodeStateClient::new(channel).resume(nothing)).await.unwrap_err();
        let expected = if *may { Code::InvalidArgument } else { Code::PermissionDenied };
        assert_eq!(status.code(), expected, "who may change something is told what is wrong with it");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn renewed_certificates_are_taken_and_open_connections_go_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (setup, files) = setup(&old.server(), &old);
    let server = setup.start().await;
    let old_client = Remote::new(remote(&server), &old, Some(&old.client(&Says::CommonName("c"))));
    let open = within(old_client.channel()).await.unwrap();
    assert_eq!(list(open.clone()).await.unwrap(), 2);

    files.put(&new.server_until(2100), &new);
    let in_force = "trimtab_tls_renewals_total{result=\"in-force\"}";
    let new_client = Remote::new(remote(&server), &new, Some(&new.client(&Says::CommonName("c"))));
    // The three files are not replaced at one moment, so that one look may see a part of them.
    let served = async {
        while ask(&new_client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(served).await;
    assert!(server.metric(in_force) >= 1.0);
    let expiry = "trimtab_tls_certificate_expiry_timestamp_seconds";
    eventually("told when the new one expires", || server.metric(expiry) == NEW_EXPIRY).await;
    assert!(ask(&old_client).await.is_err(), "the old authority lets nobody in any more");
    assert_eq!(list(open).await.unwrap(), 2, "who is in stays in");
    server.shut_down().await;
}

#[tokio::test]
async fn bad_renewal_keeps_the_last_good_certificates_and_is_a_finding() {
    let ours = Authority::new("ours");
    let (setup, files) = setup(&ours.server(), &ours);
    let server = setup.start().await;
    let client = Remote::new(remote(&server), &ours, Some(&ours.client(&Says::CommonName("c"))));
    let findings = server.handle.findings();
    type Spoil = fn(&CertificateFiles);
    let rows: [(&str, Spoil, &str); 5] = [
        ("no certificate", |files| put(&files.certificate, "soon"), "holds no certificate in PEM form"),
        ("no key", |files| put(&files.key, ""), "holds no private key in PEM form"),
        ("no authority", |files| put(&files.client_ca, "-----BEGIN"), "ca.crt"),
        ("gone", |files| std::fs::remove_file(&files.key).unwrap(), "cannot read"),
        (
            "key of another certificate",
            |files| put(&files.key, &Authority::new("other").server().key),
            "cannot be served with the key",
        ),
    ];
    for (number, (name, spoil, text)) in rows.into_iter().enumerate() {
        spoil(&files.0);
        eventually(name, || findings.borrow().first().is_some_and(|finding| finding.message.contains(text))).await;
        assert_eq!(findings.borrow()[0].code, "tls-certificates");
        assert_eq!(server.metric("trimtab_tls_renewals_total{result=\"refused\"}"), (number + 1) as f64, "{name}");
        assert_eq!(ask(&client).await, Ok(2), "{name}");
        files.put(&ours.server(), &ours);
        eventually("healing", || findings.borrow().is_empty()).await;
        assert_eq!(ask(&client).await, Ok(2), "{name}");
    }
    server.shut_down().await;
}

#[tokio::test]
async fn bad_certificates_at_the_start_are_refused() {
    let ours = Authority::new("ours");
    let (setup, files) = setup(&ours.server(), &ours);
    put(&files.0.key, &Authority::new("other").server().key);
    let socket = setup.config.socket.path.clone();
    let error = setup.try_start().await.err().unwrap();
    assert!(matches!(error, ServeError::Tls(_)), "{error:?}");
    assert!(!socket.exists(), "nothing is served then");
}

#[tokio::test]
async fn one_certificate_has_one_bucket_on_all_its_connections() {
    let ours = Authority::new("ours");
    let (mut setup, _files) = setup(&ours.server(), &ours);
    setup.config.rate_limit = Some(RateLimit { per_second: 1, burst: 1 });
    let server = setup.start().await;
    let client = |name| Remote::new(remote(&server), &ours, Some(&ours.client(&Says::CommonName(name))));
    let (one, other) = (client("one"), client("other"));
    assert_eq!(ask(&one).await, Ok(2));
    // A second or more may pass meanwhile, but not ten.
    let mut refused = 0;
    for _ in 0..10 {
        refused += usize::from(ask(&one).await.is_err_and(|error| error.contains("rejected by rate limit")));
    }
    assert!(refused > 0, "each call came over a connection of its own");
    assert_eq!(ask(&other).await, Ok(2));
    server.shut_down().await;
}

#[tokio::test]
async fn remote_connections_end_with_the_agent() {
    let ours = Authority::new("ours");
    let (setup, _files) = setup(&ours.server(), &ours);
    let server = setup.start().await;
    let address = remote(&server);
    let client = Remote::new(address, &ours, Some(&ours.client(&Says::CommonName("c"))));
    let open = within(client.channel()).await.unwrap();
    list(open.clone()).await.unwrap();
    server.shut_down().await;
    assert!(list(open).await.is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
