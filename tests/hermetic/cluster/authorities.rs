//! The authority of the cluster is exchanged under the agent's feet.

use std::fs;
use std::path::Path;
use std::process::Command;

use trimtab::adapters::api_server::{Access, ApiError, Form, WatchEvent, connect};

use super::*;
use crate::support::api_server::{Identity, Listening};
use crate::support::authority::{Authority, acceptor};

/// Long for a test, and shorter than the minute after which the library would look at a file of its own accord.
const SOON: Duration = Duration::from_secs(40);

/// An API server with TLS and a service account for it, mounted as the kubelet does.
struct Account {
    server: Double,
    identity: Identity,
    listening: Listening,
    directory: tempfile::TempDir,
}

impl Account {
    async fn of(authority: &Authority) -> Self {
        let (server, directory) = (Scene::server(), tempfile::tempdir().unwrap());
        let identity = Identity::new(acceptor(&authority.server(), None));
        let listening = server.listen_with_tls(&identity).await;
        let account = Self { server, identity, listening, directory };
        fs::write(account.path().join("token"), "secret").unwrap();
        account.mount(&authority.pem());
        account
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Exchanges the authorities whole.
    fn mount(&self, pem: &str) {
        fs::write(self.path().join("new"), pem).unwrap();
        fs::rename(self.path().join("new"), self.path().join("ca.crt")).unwrap();
    }

    fn access(&self) -> Access {
        let server = format!("https://{}", self.listening.address);
        Access::ServiceAccount { server, directory: self.path().to_owned() }
    }

    /// The server starts again with another certificate.
    fn restart_as(&self, authority: &Authority) {
        self.identity.change(acceptor(&authority.server(), None));
        self.server.cut_connections();
    }
}

/// Asks until the answer fits: a request may have gone out on a connection that is being cut.
async fn until(api: &ApiServer, what: &str, fits: impl Fn(&Result<(), String>) -> bool) {
    let asking = async {
        loop {
            let answer = match api.read(NODE, Form::Metadata).await {
                Ok(node) => node.map(drop).ok_or_else(|| "no such node".to_owned()),
                Err(ApiError::Away { detail }) => Err(detail),
                Err(other) => panic!("{what}: {other}"),
            };
            if fits(&answer) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn until_answered(api: &ApiServer, what: &str) {
    until(api, what, Result::is_ok).await;
}

async fn until_distrusted(api: &ApiServer, what: &str) {
    until(api, what, |answer| answer.as_ref().is_err_and(|error| error.contains("UnknownIssuer"))).await;
}

#[tokio::test]
async fn an_authority_that_is_exchanged_is_trusted_without_a_restart() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let account = Account::of(&old).await;
    let api = connect(&account.access()).await.unwrap();
    until_answered(&api, "at first").await;
    // A server that is faster than the kubelet: an outage, until the file is there.
    account.restart_as(&new);
    until_distrusted(&api, "the server was faster").await;
    account.mount(&new.pem());
    until_answered(&api, "the file has come").await;
    // A kubelet that is faster than the server: both, as long as it takes.
    account.mount(&format!("{}{}", new.pem(), old.pem()));
    until_answered(&api, "both").await;
    account.restart_as(&old);
    until_answered(&api, "the other of both").await;
    account.mount(&new.pem());
    until_distrusted(&api, "whom the file names no more").await;
}

#[tokio::test]
async fn a_file_that_is_spoilt_or_gone_changes_nothing() {
    let authority = Authority::new("authority");
    let account = Account::of(&authority).await;
    let api = connect(&account.access()).await.unwrap();
    let cut = &authority.pem()[..200];
    for spoilt in ["", "no certificate", cut, &"x".repeat(2 << 20)] {
        account.mount(spoilt);
        account.server.cut_connections();
        until_answered(&api, &format!("{} bytes", spoilt.len())).await;
    }
    fs::remove_file(account.path().join("ca.crt")).unwrap();
    account.server.cut_connections();
    until_answered(&api, "gone").await;
    let other = Authority::new("other");
    account.mount(&other.pem());
    account.restart_as(&other);
    until_answered(&api, "another").await;
}

#[tokio::test]
async fn an_open_watch_goes_on_while_the_authority_is_exchanged() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let account = Account::of(&old).await;
    let api = connect(&account.access()).await.unwrap();
    let mut watch = api.watch("/api/v1/nodes?watch=true&resourceVersion=0", Form::Whole).await.unwrap();
    account.mount(&format!("{}{}", old.pem(), new.pem()));
    until_answered(&api, "both").await;
    account.server.edit(NODE, |node| node["metadata"]["labels"]["pool"] = "seen".into());
    loop {
        let event = tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
        if matches!(&event, WatchEvent::Is(node) if node["metadata"]["labels"]["pool"] == "seen") {
            return;
        }
    }
}

#[tokio::test]
async fn a_mount_without_a_certificate_is_said_with_its_path() {
    let account = Account::of(&Authority::new("authority")).await;
    for spoilt in ["", "no certificate"] {
        account.mount(spoilt);
        let Err(error) = connect(&account.access()).await else { panic!("{spoilt:?} is taken") };
        let file = account.path().join("ca.crt");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_are_not_needed() {
    let account = Account::of(&Authority::new("authority")).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    // As in a small image.
    command.env_clear().env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", account.path().join("none"));
    command.args(["rollback", "--dry-run", "--node-name", "n1", "-o", "json"]);
    command.arg("--host-root").arg(account.path()).arg("--state-dir").arg(account.path().join("state"));
    command.arg("--service-account").arg(account.path());
    command.arg("--api-server").arg(format!("https://{}", account.listening.address));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (shown, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(account.server.count("get", "nodes") > 0, "{shown}\n{errors}");
}
