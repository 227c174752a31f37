//! How fast the query service answers over a real unix socket, what a call costs the server, and whether it grows; and
//! what a scrape costs.
//!
//! `cargo bench --bench api` measures; `cargo bench --bench api -- long` makes a million calls and watches memory. The
//! server has a process of its own, so that its CPU time and memory are its own too. Pods have the shape that the kubelet's
//! server was measured with: two containers each, four exclusive CPUs and one block of memory per container.
//!
//! Clients take the answers as they arrive, because decoding one costs a client several times what it costs the server;
//! `api/list-N` decodes them too, as the clients of the kubelet's server did.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench stops at the first surprise and prints what it measured"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use criterion::Criterion;
use prost::bytes::Buf;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use trimtab::metrics::{Metrics, MetricsOptions};
use trimtab::ports::admission_stats::AdmissionStats;
use trimtab::reconcile::history::History;
use trimtab::reconcile::node_view::{
    ContainerView, CpuView, MachineView, MemoryBlock, MemoryBook, MemoryUse, NodeView, NumaNodeView, PodView,
};
use trimtab::reconcile::orders::Switchboard;
use trimtab::reconcile::report::{NodeReport, ProfileReport, SubsystemReport};
use trimtab::serve::{self, ServeConfig, ServeState};
use trimtab_domain::workload::{ContainerId, PodUid, QosClass};
use trimtab_proto::node::v1alpha1::WatchRequest;
use trimtab_proto::node::v1alpha1::node_state_client::NodeStateClient;
use trimtab_proto::podresources::v1::ListPodResourcesRequest;
use trimtab_proto::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;

/// Pods of the nodes that are measured.
const NODES: [usize; 3] = [110, 250, 1000];
/// Clients that ask at once.
const CLIENTS: usize = 8;
/// Time for each figure of the load.
const LOAD: Duration = Duration::from_secs(4);
/// Pause between two calls of a client that keeps to the rate which the socket allows each by default.
const PACE: Duration = Duration::from_millis(10);
/// Calls of the long mode.
const LONG_CALLS: u64 = 1_000_000;
const WATCHERS: usize = 1000;
/// As in the daemon: what the metrics have series of.
const SUBSYSTEMS: [&str; 6] = ["sysctl", "kernel", "cgroup", "pinning", "allocatable", "masquerade"];
/// CPUs of the machine; the pods own some of them.
const CPUS: u32 = 8192;
/// Watchers on one connection: a connection carries 64 calls, and the socket takes 256 connections.
const WATCHERS_PER_CONNECTION: usize = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", pods, socket] => serve_until_told(pods.parse().unwrap(), Path::new(socket)),
        [.., "long"] | ["long", ..] => long(),
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            for pods in NODES {
                one_client(&mut criterion, pods);
            }
            scrape(&mut criterion, 250);
            criterion.final_summary();
            // Only when everything is measured: with a filter, or as a test, criterion's figures are what is wanted.
            if arguments.iter().all(|argument| argument == "--bench") {
                for pods in NODES {
                    load(pods, "as fast as they can", Duration::ZERO);
                    load(pods, "at 100 calls a second each", PACE);
                }
                idle_watchers();
            }
        }
    }
}

/// A client that asks again as soon as it has decoded the answer.
fn one_client(criterion: &mut Criterion, pods: usize) {
    let server = Server::start(pods);
    let runtime = runtime();
    let mut client = runtime.block_on(server.lister());
    criterion.bench_function(&format!("api/list-{pods}"), |bench| {
        bench.iter(|| runtime.block_on(list(&mut client)));
    });
}

/// A Prometheus on the same machine: the whole text over a connection that stays open.
fn scrape(criterion: &mut Criterion, pods: usize) {
    let server = Server::start(pods);
    let mut connection = BufReader::new(TcpStream::connect(server.http).unwrap());
    let size = get_metrics(&mut connection);
    println!("api/scrape-{pods}: {:.1} KiB", size as f64 / 1024.0);
    criterion.bench_function(&format!("api/scrape-{pods}"), |bench| {
        bench.iter(|| assert!(get_metrics(&mut connection) > 0));
    });
}

/// Bytes of the text.
fn get_metrics(connection: &mut BufReader<TcpStream>) -> usize {
    connection.get_mut().write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut length, mut line) = (0, String::new());
    while connection.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    connection.read_exact(&mut vec![0; length]).unwrap();
    length
}

/// Eight clients at once.
fn load(pods: usize, how: &str, pace: Duration) {
    let server = Server::start(pods);
    server.load(LOAD / 8, Duration::ZERO);
    let (mut times, elapsed, cpu) = server.load(LOAD, pace);
    times.sort_unstable();
    let at = |thousandth: usize| times[(times.len() - 1) * thousandth / 1000];
    println!(
        "api/list-{pods} with {CLIENTS} clients {how}: {:.0} calls/s, p50 {:?}, p99 {:?}, server CPU {:?} per call, \
         {:.1} MiB resident",
        times.len() as f64 / elapsed.as_secs_f64(),
        at(500),
        at(990),
        cpu / u32::try_from(times.len()).unwrap(),
        server.resident_mib(),
    );
}

/// A million calls: resident memory after each tenth.
fn long() {
    let server = Server::start(250);
    let (mut calls, mut resident) = (0, Vec::new());
    while calls < LONG_CALLS {
        let before = calls;
        while calls - before < LONG_CALLS / 10 {
            calls += server.load(Duration::from_secs(2), Duration::ZERO).0.len() as u64;
        }
        resident.push(server.resident_mib());
        println!("{calls} calls: {:.1} MiB resident", server.resident_mib());
    }
    let growth = resident.last().unwrap() - resident[0];
    println!("growth from a tenth of the calls to all of them: {growth:.1} MiB");
}

/// Watchers to whom nothing is told.
fn idle_watchers() {
    let server = Server::start(250);
    let runtime = runtime();
    server.load(Duration::from_secs(1), Duration::ZERO);
    let before = server.resident_mib();
    let watching = runtime.block_on(async {
        let mut watching = Vec::new();
        for _ in 0..WATCHERS / WATCHERS_PER_CONNECTION {
            let mut client = NodeStateClient::new(server.channel().await);
            for _ in 0..WATCHERS_PER_CONNECTION {
                let mut stream = client.watch(WatchRequest::default()).await.unwrap().into_inner();
                stream.message().await.unwrap().expect("the first message");
                watching.push(stream);
            }
        }
        watching
    });
    let after = server.resident_mib();
    println!("{WATCHERS} idle watchers, {WATCHERS_PER_CONNECTION} on a connection: {:.1} MiB more", after - before);
    drop(watching);
}

async fn list(client: &mut PodResourcesListerClient<Channel>) -> usize {
    client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources.len()
}

/// Bytes of the answer.
async fn list_as_it_arrives(client: &mut Grpc<Channel>) -> usize {
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/v1.PodResourcesLister/List");
    client.unary(Request::new(()), path, AsItArrives).await.unwrap().into_inner()
}

/// An empty request, and the size of the answer.
struct AsItArrives;

impl Codec for AsItArrives {
    type Encode = ();
    type Decode = usize;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItArrives {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for AsItArrives {
    type Item = usize;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<usize>, Status> {
        let length = from.remaining();
        from.advance(length);
        Ok(Some(length))
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The server's process.
struct Server {
    process: Child,
    socket: PathBuf,
    http: SocketAddr,
    _directory: TempDir,
}

impl Server {
    fn start(pods: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("trimtab.sock");
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &pods.to_string()])
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let http = line.trim().strip_prefix("serving ").unwrap().parse().unwrap();
        Self { process, socket, http, _directory: directory }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("unix:{}", self.socket.display())).unwrap().connect().await.unwrap()
    }

    async fn lister(&self) -> PodResourcesListerClient<Channel> {
        PodResourcesListerClient::new(self.channel().await)
    }

    /// Asks with eight clients for so long, each pausing between calls. Time of each call, time of all, CPU time of the
    /// server.
    fn load(&self, time: Duration, pace: Duration) -> (Vec<Duration>, Duration, Duration) {
        let (over, cpu, begun) = (AtomicBool::new(false), self.cpu(), Instant::now());
        let asking = || {
            runtime().block_on(async {
                let mut client = Grpc::new(self.channel().await);
                let expected = list_as_it_arrives(&mut client).await;
                let mut times = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let from = Instant::now();
                    assert_eq!(list_as_it_arrives(&mut client).await, expected);
                    times.push(from.elapsed());
                    if !pace.is_zero() {
                        tokio::time::sleep(pace.saturating_sub(from.elapsed())).await;
                    }
                }
                times
            })
        };
        let times = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(asking)).collect();
            thread::sleep(time);
            over.store(true, Ordering::Relaxed);
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        (times, begun.elapsed(), self.cpu() - cpu)
    }

    /// CPU time of all threads (`/proc/PID/task/TID/schedstat`, first field, in nanoseconds).
    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server ends with its standard input.
        drop(self.process.stdin.take());
        let _ended = self.process.wait();
    }
}

/// The server's process: one thread answers, as in the daemon.
fn serve_until_told(pods: usize, socket: &Path) {
    let mut config = ServeConfig::new(socket);
    config.rate_limit = None;
    config.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    runtime().block_on(async {
        let stop = CancellationToken::new();
        let (_report, report) = watch::channel(Arc::new(report()));
        let (_view, view) = watch::channel(Arc::new(view(pods)));
        let options = MetricsOptions { kubelet: Some(Arc::<AdmissionStats>::default()), exemplars: false };
        let metrics = Arc::new(Metrics::with("bench", &SUBSYSTEMS, options));
        let history = Arc::<History>::default();
        let switchboard = Arc::new(Switchboard::new(&[]));
        let state = ServeState { report, view, kubelet: None, metrics, history, switchboard };
        let serving = serve::run(config, state, stop.clone()).await.unwrap();
        println!("serving {}", serving.http().unwrap());
        let told = stop.clone();
        thread::spawn(move || {
            let _end = std::io::stdin().read(&mut [0]);
            told.cancel();
        });
        stop.cancelled().await;
        serving.stopped().await;
    });
}

fn report() -> NodeReport {
    NodeReport {
        node: "bench".into(),
        version: "bench",
        started: std::time::SystemTime::UNIX_EPOCH,
        profile: ProfileReport::default(),
        subsystems: SUBSYSTEMS.iter().map(|name| Arc::new(SubsystemReport::pending(name))).collect(),
        findings: Vec::new(),
        ready: true,
    }
}

fn view(pods: usize) -> NodeView {
    let block = |node| MemoryBlock { memory_type: "memory".into(), size_bytes: 4 << 30, numa_nodes: vec![node] };
    let container = |pod: usize, name: &str, number: usize| {
        let first = u32::try_from(pod * 8 + number * 4).unwrap();
        ContainerView {
            name: name.into(),
            id: ContainerId(format!("{pod:060x}{number:04x}")),
            exclusive_cpus: (first..first + 4).collect(),
            memory: vec![block(first % 2)],
            effective_cpus: format!("{first}-{}", first + 3),
            effective_mems: (first % 2).to_string(),
            mispinned: None,
            waiting: false,
        }
    };
    let pod = |number: usize| PodView {
        uid: PodUid(format!("{number:08x}-aaaa-bbbb-cccc-000000000000")),
        name: format!("workload-{number:04}"),
        namespace: format!("namespace-{}", number % 10),
        qos: QosClass::Guaranteed,
        containers: vec![container(number, "container-a", 0), container(number, "container-b", 1)],
    };
    NodeView {
        machine: machine(),
        pods: (0..pods).map(pod).collect(),
        allocatable_cpus: (0..CPUS).collect(),
        ..NodeView::default()
    }
}

fn machine() -> MachineView {
    let cpu = |cpu: u32| CpuView { cpu, core: cpu / 2, socket: 0, numa_node: cpu % 2, uncore_cache: None };
    let book = MemoryBook { reserved_bytes: 1 << 30, allocatable_bytes: 1 << 40, held_bytes: 1 << 39 };
    let memory = |kind: &str| MemoryUse { memory_type: kind.into(), total_bytes: 1 << 41, book: Some(book) };
    let node =
        |id| NumaNodeView { id, memory: vec![memory("memory"), memory("hugepages-2Mi"), memory("hugepages-1Gi")] };
    MachineView { cpus: (0..CPUS).map(cpu).collect(), numa_nodes: vec![node(0), node(1)], ..MachineView::default() }
}
