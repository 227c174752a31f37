//! A kubelet's PodResources API behind a real unix socket, as well or badly behaved as a test wants.
//!
//! Why not simpler: the adapter is about sockets, deadlines and messages, so it is tested through them. Like the kubelet
//! it answers in another order each time.

use std::io::Write;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use trimtab::ports::kubelet_answers::KubeletAnswers;
use trimtab_proto::podresources::v1::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use trimtab_proto::podresources::v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, GetPodResourcesRequest, GetPodResourcesResponse,
    ListPodResourcesRequest, ListPodResourcesResponse, PodResources,
};

/// How List is answered.
#[derive(Debug, Clone, Default)]
pub(crate) enum Mood {
    /// With what the table holds.
    #[default]
    Good,
    /// Never.
    Hangs,
    /// With an error.
    Refuses(Status),
    /// With more than any client takes.
    Endless,
    /// GetAllocatableResources is not known, as before 1.21.
    Old,
}

/// What the kubelet knows, and how it behaves.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) answers: KubeletAnswers,
    pub(crate) mood: Mood,
    /// Calls of List so far.
    pub(crate) asked: usize,
}

/// The kubelet. It has a thread of its own, so that all of its connections break when it goes away.
pub(crate) struct FakeKubelet {
    socket: PathBuf,
    table: Arc<Mutex<Table>>,
    server: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

impl FakeKubelet {
    /// Serves below this root directory.
    pub(crate) fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root.join("pod-resources")).unwrap();
        let socket = root.join("pod-resources/kubelet.sock");
        let mut kubelet = Self { socket, table: Arc::default(), server: None };
        kubelet.serve();
        kubelet
    }

    /// What it knows; not to be held over an await.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// Goes away: all connections break, the socket is removed.
    pub(crate) fn stop(&mut self) {
        let Some((server, end)) = self.server.take() else { return };
        drop(end);
        server.join().unwrap();
        // The directory may have gone before the double does.
        let _gone = std::fs::remove_file(&self.socket);
    }

    /// Comes back at the same path.
    pub(crate) fn serve(&mut self) {
        let listener = StdListener::bind(&self.socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let service = PodResourcesListerServer::new(Service(Arc::clone(&self.table)));
        let server = thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
                tokio::select! {
                    served = Server::builder().add_service(service).serve_with_incoming(incoming) => served.unwrap(),
                    _ = ended => {}
                }
            });
        });
        self.server = Some((server, end));
    }

    /// From now on something serves the path that does not speak HTTP/2.
    pub(crate) fn become_something_else(&mut self) {
        self.stop();
        let listener = StdListener::bind(&self.socket).unwrap();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that has gone already is none.
                let _ = stream.and_then(|mut stream| stream.write_all(&[0xff; 4096]));
            }
        });
    }
}

impl Drop for FakeKubelet {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Service(Arc<Mutex<Table>>);

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(&self, _: Request<ListPodResourcesRequest>) -> Result<Response<ListPodResourcesResponse>, Status> {
        let (mut list, mood, asked) = {
            let mut table = self.0.lock().unwrap();
            table.asked += 1;
            (table.answers.list.clone(), table.mood.clone(), table.asked)
        };
        match mood {
            Mood::Good | Mood::Old => {
                let pods = &mut list.pod_resources;
                let by = asked % pods.len().max(1);
                pods.rotate_left(by);
                Ok(Response::new(list))
            }
            Mood::Hangs => std::future::pending().await,
            Mood::Refuses(status) => Err(status),
            Mood::Endless => {
                let name = "x".repeat(1 << 20);
                let pod = PodResources { name, ..Default::default() };
                Ok(Response::new(ListPodResourcesResponse { pod_resources: vec![pod; 17] }))
            }
        }
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let table = self.0.lock().unwrap();
        match table.mood {
            Mood::Old => Err(Status::unimplemented("unknown method GetAllocatableResources")),
            _ => Ok(Response::new(table.answers.allocatable.clone())),
        }
    }

    async fn get(&self, _: Request<GetPodResourcesRequest>) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unknown("PodResources API Get method disabled"))
    }
}
