//! Tries connections from the node's own network, each with a short deadline.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use trimtab_domain::spec::confirm::Target;

use super::api_server::{Access, address};
use crate::ports::reach::{Answers, Reach};

/// Longest time of a try: two lost SYNs (RFC 6298 sends again after one second) and the answer.
const PATIENCE: Duration = Duration::from_millis(3500);
/// The first line of an answer is not longer.
const STATUS_LINE: usize = 64;

/// The node's network, as the agent uses it itself.
#[derive(Debug, Clone)]
pub struct Prober {
    access: Option<Access>,
    own: Option<SocketAddr>,
}

impl Prober {
    /// `access`: how the API server is reached, if there is one; `own`: where the agent answers over HTTP.
    #[must_use]
    pub fn new(access: Option<Access>, own: Option<SocketAddr>) -> Self {
        Self { access, own: own.map(reachable) }
    }
}

/// Who listens everywhere is reached at home.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

impl Reach for Prober {
    fn always(&self) -> Vec<Target> {
        let api = self.access.as_ref().and_then(address).map(Target::Tcp);
        let own = self.own.map(|own| Target::Http(format!("http://{own}/healthz")));
        api.into_iter().chain(own).collect()
    }

    fn try_all<'a>(&'a self, targets: &'a [Target]) -> Answers<'a> {
        let targets: Arc<[Target]> = targets.into();
        Box::pin(async move {
            let mut tries = JoinSet::new();
            for (place, target) in targets.iter().cloned().enumerate() {
                tries.spawn(async move {
                    (place, tokio::time::timeout(PATIENCE, is_reached(&target)).await.unwrap_or(false))
                });
            }
            let mut answers = vec![false; targets.len()];
            for (place, reached) in tries.join_all().await {
                if let Some(answer) = answers.get_mut(place) {
                    *answer = reached;
                }
            }
            answers
        })
    }
}

async fn is_reached(target: &Target) -> bool {
    match target {
        Target::Tcp(address) => TcpStream::connect(address).await.is_ok(),
        Target::Http(url) => answers_well(url).await.unwrap_or(false),
    }
}

/// Asks as the kubelet's probes do: 200 to 399 is an answer.
async fn answers_well(url: &str) -> std::io::Result<bool> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let has_port = has_port && !authority.ends_with(']');
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(address).await?;
    let path = if path.is_empty() { "/" } else { path };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: trimtab/{}\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    while line.len() < STATUS_LINE && !line.contains(&b'\n') && stream.read_buf(&mut line).await? > 0 {}
    let line = String::from_utf8_lossy(&line);
    let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    Ok(line.starts_with("HTTP/1.") && status.is_some_and(|status| (200..400).contains(&status)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every connection with this text.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _asked = stream.read(&mut [0; 1024]).await;
                let _answered = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn what_answers_is_reached_and_what_does_not_is_not() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let rows = [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.0 302 Found\r\n\r\n", true),
            ("HTTP/1.1 503 Busy\r\n\r\n", false),
            ("HTTP/1.1 404 No\r\n\r\n", false),
            ("SSH-2.0 200 OK\r\n", false),
            ("", false),
        ];
        let mut targets = vec![Target::Tcp(closed.to_string()), Target::Http(format!("http://{closed}/"))];
        for (answer, _) in rows {
            let address = server(answer).await;
            targets.extend([Target::Tcp(address.to_string()), Target::Http(format!("http://{address}/x?y"))]);
        }
        let answers = Prober::new(None, None).try_all(&targets).await;
        assert_eq!(answers[..2], [false, false], "nobody listens");
        for (row, answers) in rows.iter().zip(answers[2..].chunks(2)) {
            assert_eq!(answers, [true, row.1], "{row:?}");
        }
    }

    #[test]
    fn the_api_server_and_the_own_port_are_always_tried() {
        let access = |server: &str| Access::ServiceAccount { server: server.into(), directory: "/nowhere".into() };
        let rows = [
            (None, None, vec![]),
            (Some(access("https://10.0.0.1:443")), None, vec!["tcp 10.0.0.1:443"]),
            (Some(access("https://[fd00::1]")), None, vec!["tcp [fd00::1]:443"]),
            (
                Some(Access::Kubeconfig("/nowhere/kubeconfig".into())),
                Some("0.0.0.0:9"),
                vec!["http://127.0.0.1:9/healthz"],
            ),
            (None, Some("[::]:9"), vec!["http://[::1]:9/healthz"]),
            (None, Some("10.1.2.3:9"), vec!["http://10.1.2.3:9/healthz"]),
        ];
        for (access, own, expected) in rows {
            let prober = Prober::new(access, own.map(|own| own.parse().unwrap()));
            let targets: Vec<String> = prober.always().iter().map(ToString::to_string).collect();
            assert_eq!(targets, expected);
        }
    }
}
