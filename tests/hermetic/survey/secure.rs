//! The same over TLS: authorities, client certificates and log-in programs, as kubeconfigs of real clusters have them.

use k8s_openapi::ByteString;

use super::*;
use crate::support::api_server::Identity;
use crate::support::authority::{Authority, Pair, Says, acceptor};

/// A program that says who calls; it is a script for `sh`, so that nothing new is executed.
const LOG_IN: &str = "printf '%s' \"$KUBERNETES_EXEC_INFO\" > \"$1/asked\"\nwhile read -r line; do printf '%s\\n' \"$line\"; done < \"$1/credential\"\n";

/// As the fields `…-data` of a kubeconfig have it.
fn data(pem: &str) -> Value {
    serde_json::to_value(ByteString(pem.as_bytes().to_vec())).unwrap()
}

/// A cluster behind TLS.
struct Guarded {
    desk: Desk,
    authority: Authority,
    clients: Authority,
}

impl Guarded {
    /// With `certificates` only those are let in who show one.
    async fn new(certificates: bool) -> Self {
        let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
        let mut desk = Desk::new().await;
        let identity = Identity::new(acceptor(&authority.server(), certificates.then_some(&clients)));
        desk.listening = desk.server.listen_with_tls(&identity).await;
        desk.add_node("n1", "web", "InSync");
        Self { desk, authority, clients }
    }

    fn client(&self) -> Pair {
        self.clients.client(&Says::CommonName("me"))
    }

    fn configure(&self, authority: &Authority, user: &Value) {
        let server = format!("https://{}", self.desk.listening.address);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [
                {"name": "c", "cluster": {"server": server, "certificate-authority-data": data(&authority.pem())}},
            ],
            "users": [{"name": "me", "user": user}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "me"}}],
        });
        std::fs::write(self.desk.kubeconfig(), config.to_string()).unwrap();
    }

    /// A user who has to ask a program, which answers with this.
    fn logging_in(&self, status: &Value) -> Value {
        let place = self.desk.place.path();
        let credential =
            json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status});
        std::fs::write(place.join("credential"), format!("{credential}\n")).unwrap();
        std::fs::write(place.join("log-in"), LOG_IN).unwrap();
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
            "args": [place.join("log-in"), place],
        }})
    }

    async fn assert_shown(&self) {
        let shown = self.desk.shown(&["status"]).await;
        assert!(shown.ends_with("1 node: 1 InSync\n") || shown.ends_with("1 nodes: 1 InSync\n"), "{shown}");
    }
}

#[tokio::test]
async fn a_client_certificate_of_the_kubeconfig_is_shown_to_a_server_that_its_authority_vouches_for() {
    let guarded = Guarded::new(true).await;
    let client = guarded.client();
    let user = json!({"client-certificate-data": data(&client.certificate), "client-key-data": data(&client.key)});
    guarded.configure(&guarded.authority, &user);
    guarded.assert_shown().await;
    assert!(guarded.desk.server.calls().iter().all(|call| call.token.is_empty()));

    guarded.desk.server.forget_calls();
    guarded.configure(&guarded.clients, &user);
    let (code, error) = guarded.desk.refused(&["status"]).await;
    assert!(code == Some(4) && error.contains("UnknownIssuer"), "{code:?} {error}");
    guarded.configure(&guarded.authority, &json!({"token": "secret"}));
    let (code, error) = guarded.desk.refused(&["status"]).await;
    assert!(code == Some(4) && error.contains("does not answer"), "{code:?} {error}");
    let stranger = Authority::new("another").client(&Says::CommonName("me"));
    guarded.configure(
        &guarded.authority,
        &json!({"client-certificate-data": data(&stranger.certificate), "client-key-data": data(&stranger.key)}),
    );
    let (code, error) = guarded.desk.refused(&["status"]).await;
    assert!(code == Some(4) && error.contains("does not answer"), "{code:?} {error}");
    assert!(guarded.desk.server.calls().is_empty(), "nobody else was let in");
}

#[tokio::test]
async fn a_log_in_program_gives_a_token() {
    let guarded = Guarded::new(false).await;
    guarded.desk.server.accept_tokens(&["from the program"]);
    let user = guarded.logging_in(&json!({"token": "from the program"}));
    guarded.configure(&guarded.authority, &user);
    guarded.assert_shown().await;
    let asked = std::fs::read_to_string(guarded.desk.place.path().join("asked")).unwrap();
    let asked: Value = serde_json::from_str(&asked).unwrap();
    assert_eq!((&asked["kind"], &asked["spec"]["interactive"]), (&json!("ExecCredential"), &json!(false)));
    guarded.desk.server.accept_tokens(&["another"]);
    let (code, error) = guarded.desk.refused(&["status"]).await;
    assert!(code == Some(6) && error.contains("does not know you"), "{code:?} {error}");
}

#[tokio::test]
async fn a_log_in_program_gives_a_certificate() {
    let guarded = Guarded::new(true).await;
    let client = guarded.client();
    let status = json!({"clientCertificateData": client.certificate, "clientKeyData": client.key});
    guarded.configure(&guarded.authority, &guarded.logging_in(&status));
    guarded.assert_shown().await;
}

#[tokio::test]
async fn a_log_in_program_that_fails_is_said() {
    let guarded = Guarded::new(false).await;
    let fails = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
        "args": ["-c", "echo not logged in >&2; exit 3"],
    }});
    guarded.configure(&guarded.authority, &fails);
    let (code, error) = guarded.desk.refused(&["status"]).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("not logged in"), "{error}");
    let absent = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/program", "interactiveMode": "Never",
    }});
    guarded.configure(&guarded.authority, &absent);
    let (code, error) = guarded.desk.refused(&["status"]).await;
    assert!(code == Some(1) && error.contains("/no/such/program"), "{code:?} {error}");
    assert!(guarded.desk.server.calls().is_empty());
}
