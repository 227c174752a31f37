//! Three hosts on one kernel, each a network namespace: a pod, its node, and the world outside. Each answers on UDP and
//! TCP with the address that it saw, so that it can be told what became of a source address.
//!
//! The addresses are those of the recorded packets (tests/vectors, `ipmasq-packets`).
#![allow(dead_code, reason = "shared by two test binaries, each of which uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::Instant;

/// Where every host answers.
pub(crate) const PORT: u16 = 7777;
/// Longest wait for an answer, and how often a datagram is sent anew.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;
/// Longest wait for addresses and links to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own.
pub(crate) struct Host {
    jobs: Option<Sender<Job>>,
    thread_id: i32,
    worker: Option<thread::JoinHandle<()>>,
    /// Ends the servers.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: Option<thread::JoinHandle<()>>,
}

impl Host {
    pub(crate) fn new() -> Result<Self, Errno> {
        let (jobs, waiting) = channel::<Job>();
        let (started, start) = channel();
        let worker = thread::spawn(move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET);
            started.send(entered.map(|()| nix::unistd::gettid().as_raw())).unwrap();
            waiting.iter().for_each(|job| job());
        });
        let thread_id = start.recv().unwrap()?;
        Ok(Self { jobs: Some(jobs), thread_id, worker: Some(worker), stop: None, server: None })
    }

    /// The thread whose network namespace it is.
    pub(crate) fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Runs this on the host and waits for what it gives.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job: Job = Box::new(move || drop(done.send(job())));
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the job panicked")
    }

    /// Runs a program on the host; it must succeed.
    pub(crate) fn shell(&self, command: &str) -> String {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }

    fn sysctl(&self, key: &'static str, value: &'static str) {
        self.run(move || fs::write(format!("/proc/sys/net/{key}"), value))
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Addresses of the host that are ready, link-local ones with the number of their link.
    fn addresses(&self) -> Vec<SocketAddr> {
        let listed = self.shell("ip -o addr show");
        let lines = listed.lines().filter(|line| !line.contains("tentative"));
        let read = |line: &str| {
            let mut words = line.split_whitespace();
            let index: u32 = words.next()?.trim_end_matches(':').parse().ok()?;
            let address: IpAddr = words.nth(2)?.split('/').next()?.parse().ok()?;
            Some(at(address, PORT, index))
        };
        lines.filter_map(read).collect()
    }

    /// Answers on all its addresses from now on.
    pub(crate) fn serve(&mut self) {
        let addresses = self.addresses();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = channel();
        let server = self.run(move || {
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for address in addresses {
                        let udp = tokio::net::UdpSocket::bind(address).await.unwrap();
                        let tcp = tokio::net::TcpListener::bind(address).await.unwrap();
                        tokio::spawn(answer_datagrams(udp));
                        tokio::spawn(answer_connections(tcp));
                    }
                    ready.send(()).unwrap();
                    // The sender goes with the host, which ends it as well.
                    let _gone = stopped.await;
                });
            })
        });
        is_ready.recv().unwrap();
        (self.stop, self.server) = (Some(stop), Some(server));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.jobs.take());
        for thread in [self.server.take(), self.worker.take()].into_iter().flatten() {
            // A job that panicked has been reported where it was asked for.
            let _ended = thread.join();
        }
    }
}

async fn answer_datagrams(socket: tokio::net::UdpSocket) {
    let mut buffer = [0; 64];
    while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
        // Who asked may be gone; then nobody waits for the answer.
        let _lost = socket.send_to(peer.to_string().as_bytes(), peer).await;
    }
}

async fn answer_connections(listener: tokio::net::TcpListener) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        let _lost = stream.write_all(peer.to_string().as_bytes()).await;
    }
}

/// A socket address; the number of the link matters for link-local addresses only.
fn at(address: IpAddr, port: u16, link: u32) -> SocketAddr {
    match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => SocketAddrV6::new(address, port, 0, link).into(),
        address => SocketAddr::new(address, port),
    }
}

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

/// The three hosts.
pub(crate) struct World {
    pub(crate) pod: Host,
    pub(crate) node: Host,
    pub(crate) ext: Host,
    /// Link-local addresses of the node and of the outside on their common link.
    pub(crate) node_link_local: Ipv6Addr,
    pub(crate) ext_link_local: Ipv6Addr,
}

impl World {
    /// Builds it; `Err` where this machine has no fresh network namespaces for us.
    pub(crate) fn new() -> Result<Self, Errno> {
        let (pod, node, ext) = (Host::new()?, Host::new()?, Host::new()?);
        for host in [&pod, &node, &ext] {
            // Addresses are used at once, without asking whether somebody else has them.
            for key in ["ipv6/conf/default/accept_dad", "ipv6/conf/all/accept_dad", "ipv6/conf/default/dad_transmits"] {
                host.sysctl(key, "0");
            }
            for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
                host.sysctl(key, "0");
            }
            host.shell("ip link set lo up");
        }
        let (pod_id, ext_id) = (pod.thread_id, ext.thread_id);
        node.shell(&format!("ip link add to-pod type veth peer name eth0 netns {pod_id}"));
        node.shell(&format!("ip link add to-ext type veth peer name eth0 netns {ext_id}"));
        let mut commands = vec![
            (&node, "addr add 10.244.1.1/24 dev to-pod"),
            (&node, "-6 addr add fd00:10::1/64 dev to-pod nodad"),
            (&node, "addr add 198.51.100.1/24 dev to-ext"),
            (&node, "-6 addr add 2001:db8:ff::1/64 dev to-ext nodad"),
            (&pod, "addr add 10.244.1.2/24 dev eth0"),
            (&pod, "-6 addr add fd00:10::2/64 dev eth0 nodad"),
            (&ext, "addr add 198.51.100.2/24 dev eth0"),
            (&ext, "-6 addr add 2001:db8:ff::2/64 dev eth0 nodad"),
            (&node, "link set to-pod up"),
            (&node, "link set to-ext up"),
            (&pod, "link set eth0 up"),
            (&ext, "link set eth0 up"),
            (&pod, "route add default via 10.244.1.1"),
            (&pod, "-6 route add default via fd00:10::1"),
            (&node, "route add default via 198.51.100.2"),
            (&node, "-6 route add default via 2001:db8:ff::2"),
            (&node, "route add 169.254.169.254/32 via 198.51.100.2"),
            (&ext, "route add 10.244.0.0/16 via 198.51.100.1"),
            (&ext, "-6 route add fd00:10::/32 via 2001:db8:ff::1"),
        ];
        let outside = "8.8.8.8 10.50.0.1 172.16.5.5 192.168.77.7 169.254.169.254 100.64.0.1 203.0.113.9 9.9.9.9";
        let outside: Vec<String> = outside.split(' ').map(|address| format!("addr add {address}/32 dev lo")).collect();
        commands.extend(outside.iter().map(|command| (&ext, command.as_str())));
        for command in ["2001:4860:4860::8888", "fd00:77::1", "fd99::1"] {
            ext.shell(&format!("ip -6 addr add {command}/128 dev lo nodad"));
        }
        for (host, command) in commands {
            host.shell(&format!("ip {command}"));
        }
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            node.sysctl(key, "1");
        }
        let (node_link_local, ext_link_local) = (link_local(&node, "to-ext"), link_local(&ext, "eth0"));
        for host in [&pod, &node, &ext] {
            until(|| !host.shell("ip -o addr show").contains("tentative"));
        }
        let mut world = Self { pod, node, ext, node_link_local, ext_link_local };
        for host in [&mut world.pod, &mut world.node, &mut world.ext] {
            host.serve();
        }
        Ok(world)
    }

    /// Number of the node's link to the outside.
    fn link_number(&self) -> u32 {
        let shown = self.node.shell("ip -o link show dev to-ext");
        shown.split(':').next().unwrap().trim().parse().unwrap()
    }

    /// What the server at `to` says whom it saw; `local` is the port, and perhaps the address, to ask from.
    pub(crate) fn ask(
        &self,
        host: &Host,
        protocol: Protocol,
        to: IpAddr,
        local: (Option<IpAddr>, u16),
    ) -> Result<SocketAddr, String> {
        let link = if matches!(to, IpAddr::V6(to) if to.is_unicast_link_local()) { self.link_number() } else { 0 };
        host.run(move || ask(protocol, at(to, PORT, link), local).map_err(|error| error.to_string()))
    }
}

fn ask(protocol: Protocol, to: SocketAddr, (address, port): (Option<IpAddr>, u16)) -> io::Result<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let local = SocketAddr::new(address.unwrap_or(any), port);
    let text = match protocol {
        Protocol::Udp => ask_by_datagram(local, to)?,
        Protocol::Tcp => ask_by_connection(local, to)?,
    };
    // The address that a server shows may bear the number of its own link.
    let plain = text.split_once('%').map_or(text.clone(), |(head, tail)| {
        format!("{head}{}", tail.trim_start_matches(|digit: char| digit.is_ascii_digit()))
    });
    plain.parse().map_err(io::Error::other)
}

fn ask_by_datagram(local: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = std::net::UdpSocket::bind(local)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN / 2))?;
    let mut buffer = [0; 128];
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ATTEMPTS {
        match socket.send(b"?").and_then(|_| socket.recv(&mut buffer)) {
            Ok(length) => return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The standard library cannot choose a port to connect from.
fn ask_by_connection(local: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(local)?;
        let asking = async {
            let mut text = String::new();
            socket.connect(to).await?.read_to_string(&mut text).await?;
            Ok(text)
        };
        tokio::time::timeout(ANSWER_WITHIN, asking).await?
    })
}

fn link_local(host: &Host, link: &str) -> Ipv6Addr {
    let mut found = None;
    until(|| {
        let shown = host.shell(&format!("ip -6 -o addr show dev {link} scope link"));
        let address = shown.split_whitespace().nth(3).and_then(|address| address.split('/').next()?.parse().ok());
        found = address.filter(|_| !shown.contains("tentative"));
        found.is_some()
    });
    found.unwrap()
}

/// Awaits a condition, with a deadline.
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + READY_WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "the links did not get ready");
        thread::yield_now();
    }
}
