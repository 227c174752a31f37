//! The runtime's side of NRI, on a real socket: as containerd behaves, and badly where a test asks for it.
//!
//! What it models, each because a plugin must live with it: one lock of the node around every request; a plugin that is
//! too slow or breaks is dropped and the container is created as if there were none (`fail_open` counts these); an error
//! fails the creation; frames above 4096 bytes and event bits that it does not know end the connection; empty sets mean
//! "as it is".
#![allow(dead_code, reason = "each test uses the part of the double that it needs")]

#[path = "nri_runtime/behaviour.rs"]
mod behaviour;
#[path = "nri_runtime/objects.rs"]
pub(crate) mod objects;
#[path = "nri_runtime/table.rs"]
pub(crate) mod table;
#[path = "nri_runtime/wire.rs"]
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use trimtab_proto::nri::v1alpha1 as nri;
use trimtab_proto::nri::v1alpha1::Event;

pub(crate) use self::behaviour::{Behaviour, DEADLINE};
use self::table::{Sets, Table, merge};
use self::wire::{CallFailure, PluginCall, Wire};

const UNIMPLEMENTED: i32 = 12;

/// What happened that should not have.
#[derive(Debug, Default)]
struct Marks {
    /// Protocol broken by the plugin.
    violations: Arc<Mutex<Vec<String>>>,
    /// Requests that went on without the plugin.
    fail_open: AtomicUsize,
    /// Calls of the plugin while a request to it was not answered.
    called_back: AtomicUsize,
    /// How long each creation waited for the plugin.
    create_waits: Mutex<Vec<Duration>>,
}

/// A plugin that has registered.
#[derive(Clone)]
struct Plugin {
    wire: Arc<Wire>,
    events: i32,
}

/// What a plugin said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) name: String,
    pub(crate) index: String,
    pub(crate) events: i32,
}

/// The runtime.
pub(crate) struct NriRuntime {
    socket: PathBuf,
    listener: UnixListener,
    pub(crate) behaviour: Behaviour,
    marks: Arc<Marks>,
    /// Held for the whole of every request, and while a registration is under way.
    node: Arc<tokio::sync::Mutex<Node>>,
    wire: watch::Sender<Option<Arc<Wire>>>,
}

#[derive(Default)]
struct Node {
    table: Table,
    plugin: Option<Plugin>,
}

impl NriRuntime {
    /// Listens; a socket that is there is replaced, as a runtime does.
    pub(crate) fn listen(socket: &Path, behaviour: Behaviour) -> Self {
        drop(std::fs::remove_file(socket));
        Self {
            socket: socket.to_owned(),
            listener: UnixListener::bind(socket).unwrap(),
            behaviour,
            marks: Arc::default(),
            node: Arc::default(),
            wire: watch::Sender::new(None),
        }
    }

    /// The runtime ends and a new one takes over its containers.
    pub(crate) async fn restart(self) -> Self {
        let Self { socket, listener, behaviour, node, .. } = self;
        if let Some(plugin) = node.lock().await.plugin.take() {
            plugin.wire.close();
        }
        drop(listener);
        drop(std::fs::remove_file(&socket));
        let next = Self::listen(&socket, behaviour);
        let table = std::mem::take(&mut node.lock().await.table);
        next.node.lock().await.table = table;
        next
    }

    /// Takes the next connection as it is.
    pub(crate) async fn accept_raw(&self) -> (Arc<Wire>, mpsc::UnboundedReceiver<PluginCall>) {
        let accepted = tokio::time::timeout(DEADLINE, self.listener.accept());
        let (stream, _) = accepted.await.expect("a plugin connects").unwrap();
        let (wire, calls) =
            Wire::start(stream, self.behaviour.split, self.behaviour.noisy, Arc::clone(&self.marks.violations));
        self.wire.send_replace(Some(Arc::clone(&wire)));
        (wire, calls)
    }

    /// Waits for a plugin and takes it on.
    pub(crate) async fn accept(&self) -> Result<Registered, String> {
        let (wire, calls) = self.accept_raw().await;
        let registered = self.register(&wire, calls).await;
        if registered.is_err() {
            wire.close();
        }
        registered
    }

    async fn register(
        &self,
        wire: &Arc<Wire>,
        mut calls: mpsc::UnboundedReceiver<PluginCall>,
    ) -> Result<Registered, String> {
        let call = tokio::time::timeout(self.behaviour.registration_timeout, calls.recv()).await;
        let call = call.map_err(|_| "no registration in time")?.ok_or("closed before the registration")?;
        assert_eq!(call.method, "RegisterPlugin");
        let request = nri::RegisterPluginRequest::decode(call.payload.as_slice()).unwrap();
        let index = request.plugin_idx.clone();
        if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
            wire.answer(call.stream, Err((2, format!("invalid plugin index {index:?}"))));
            return Err("invalid index".into());
        }
        if !self.behaviour.configure_first {
            wire.answer(call.stream, Ok(Vec::new()));
        }
        let events = self.configure(wire).await?;
        if self.behaviour.configure_first {
            wire.answer(call.stream, Ok(Vec::new()));
        }
        // Whoever starts or stops a container now waits, and this waits for them (containerd issue 14083).
        let mut node = self.node.lock().await;
        let updates = self.synchronize(wire, &node.table).await?;
        node.table.apply(updates);
        node.plugin = Some(Plugin { wire: Arc::clone(wire), events });
        drop(node);
        tokio::spawn(serve(Arc::clone(wire), calls, Arc::clone(&self.node), Arc::clone(&self.marks)));
        Ok(Registered { name: request.plugin_name, index, events })
    }

    async fn configure(&self, wire: &Wire) -> Result<i32, String> {
        let Behaviour { name, version, nri, registration_timeout, request_timeout, known_events, .. } = self.behaviour;
        let request = nri::ConfigureRequest {
            config: String::new(),
            runtime_name: name.into(),
            runtime_version: version.into(),
            registration_timeout: i64::try_from(registration_timeout.as_millis()).unwrap(),
            request_timeout: i64::try_from(request_timeout.as_millis()).unwrap(),
            nri_version: nri.into(),
        };
        let answer = wire.call("Configure", request.encode_to_vec(), request_timeout).await;
        let answer = answer.map_err(|failure| format!("Configure: {failure:?}"))?;
        let events = nri::ConfigureResponse::decode(answer.as_slice()).unwrap().events;
        if events & !known_events != 0 {
            return Err(format!("invalid plugin events: {events:#x}"));
        }
        Ok(if events == 0 { known_events } else { events })
    }

    /// All chunks share one patience.
    async fn synchronize(&self, wire: &Wire, table: &Table) -> Result<Vec<nri::ContainerUpdate>, String> {
        let began = tokio::time::Instant::now();
        let mut pods = table.pods.values().cloned();
        let mut containers = table.containers.values().cloned();
        loop {
            let chunk = self.behaviour.chunk;
            let mut request = nri::SynchronizeRequest {
                pods: pods.by_ref().take(chunk).collect(),
                containers: containers.by_ref().take(chunk).collect(),
                more: false,
            };
            request.more = pods.len() + containers.len() > 0;
            let left = self.behaviour.request_timeout.saturating_sub(began.elapsed());
            let answer = wire.call("Synchronize", request.encode_to_vec(), left).await;
            let answer = answer.map_err(|failure| format!("Synchronize: {failure:?}"))?;
            let answer = nri::SynchronizeResponse::decode(answer.as_slice()).unwrap();
            if !request.more {
                return Ok(answer.update);
            }
            if !answer.update.is_empty() || !answer.more {
                return Err("plugin does not handle split sync requests".into());
            }
        }
    }

    /// A sandbox runs.
    pub(crate) async fn run_pod(&self, pod: &nri::PodSandbox) {
        let mut node = self.node.lock().await;
        node.table.pods.insert(pod.id.clone(), pod.clone());
        self.tell(&mut node, Event::RunPodSandbox, pod, None).await;
    }

    /// A sandbox is stopped.
    pub(crate) async fn stop_pod(&self, pod: &nri::PodSandbox) {
        let mut node = self.node.lock().await;
        self.tell(&mut node, Event::StopPodSandbox, pod, None).await;
    }

    /// A sandbox is gone.
    pub(crate) async fn remove_pod(&self, pod: &nri::PodSandbox) {
        let mut node = self.node.lock().await;
        node.table.pods.remove(&pod.id);
        self.tell(&mut node, Event::RemovePodSandbox, pod, None).await;
    }

    /// Creates a container.
    pub(crate) async fn create(&self, pod: &nri::PodSandbox, container: &nri::Container) -> Result<(), String> {
        let mut node = self.node.lock().await;
        let request = nri::ContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let answer = self.ask(&mut node, Event::CreateContainer, "CreateContainer", request.encode_to_vec()).await;
        let answer = answer.map_err(|(_, text)| format!("failed to get NRI adjustment for container: {text}"))?;
        let answer = nri::CreateContainerResponse::decode(answer.unwrap_or_default().as_slice()).unwrap();
        if answer.update.iter().any(|update| update.container_id == container.id) {
            return Err(format!("plugin asked update of {} during its creation", container.id));
        }
        let mut created = container.clone();
        if let Some(own) = answer.adjust.and_then(|adjust| adjust.linux).and_then(|linux| linux.resources) {
            merge(&mut created, own);
        }
        created.set_state(nri::ContainerState::Created);
        // Others are narrowed before the new one is there.
        node.table.apply(answer.update);
        node.table.containers.insert(created.id.clone(), created);
        Ok(())
    }

    /// A creation fails in the runtime after the plugin has granted it.
    pub(crate) async fn create_and_fail(&self, pod: &nri::PodSandbox, container: &nri::Container) {
        self.create(pod, container).await.unwrap();
        self.stop(pod, &container.id).await;
        self.remove(pod, &container.id).await;
    }

    /// A container runs.
    pub(crate) async fn start(&self, pod: &nri::PodSandbox, id: &str) {
        let mut node = self.node.lock().await;
        let container = node.table.containers.get_mut(id).unwrap();
        container.set_state(nri::ContainerState::Running);
        container.pid = 1000;
        let container = container.clone();
        self.tell(&mut node, Event::PostStartContainer, pod, Some(&container)).await;
    }

    /// A container is stopped.
    pub(crate) async fn stop(&self, pod: &nri::PodSandbox, id: &str) {
        let mut node = self.node.lock().await;
        let container = node.table.containers.get_mut(id).unwrap();
        container.set_state(nri::ContainerState::Stopped);
        let request = nri::ContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let answer = self.ask(&mut node, Event::StopContainer, "StopContainer", request.encode_to_vec()).await;
        // An error here is only logged.
        if let Ok(Some(answer)) = answer {
            node.table.apply(nri::UpdateResponse::decode(answer.as_slice()).unwrap().update);
        }
    }

    /// A container is gone.
    pub(crate) async fn remove(&self, pod: &nri::PodSandbox, id: &str) {
        let mut node = self.node.lock().await;
        if let Some(container) = node.table.containers.remove(id) {
            self.tell(&mut node, Event::RemoveContainer, pod, Some(&container)).await;
        }
    }

    /// Somebody changes resources of a container through CRI.
    pub(crate) async fn update(
        &self,
        pod: &nri::PodSandbox,
        id: &str,
        mut asked: nri::LinuxResources,
    ) -> Result<(), String> {
        let mut node = self.node.lock().await;
        let container = node.table.containers.get(id).cloned();
        let request =
            nri::UpdateContainerRequest { pod: Some(pod.clone()), container, linux_resources: Some(asked.clone()) };
        let answer = self.ask(&mut node, Event::UpdateContainer, "UpdateContainer", request.encode_to_vec()).await;
        let answer = answer.map_err(|(_, text)| text)?;
        let answer = nri::UpdateResponse::decode(answer.unwrap_or_default().as_slice()).unwrap();
        let (own, others): (Vec<_>, Vec<_>) = answer.update.into_iter().partition(|update| update.container_id == id);
        // What the plugin says of the container takes the place of what was asked, field by field.
        let mut scratch = nri::Container::default();
        merge(&mut scratch, std::mem::take(&mut asked));
        for resources in own.into_iter().filter_map(|update| update.linux?.resources) {
            merge(&mut scratch, resources);
        }
        node.table.apply(others);
        let change = scratch.linux.and_then(|linux| linux.resources).unwrap_or_default();
        if let Some(container) = node.table.containers.get_mut(id) {
            merge(container, change);
        }
        Ok(())
    }

    /// Resources of a pod are about to change (since 0.10).
    pub(crate) async fn update_pod(&self, pod: &nri::PodSandbox, resources: nri::LinuxResources) {
        let mut node = self.node.lock().await;
        let request = nri::UpdatePodSandboxRequest {
            pod: Some(pod.clone()),
            overhead_linux_resources: None,
            linux_resources: Some(resources),
        };
        let _ = self.ask(&mut node, Event::UpdatePodSandbox, "UpdatePodSandbox", request.encode_to_vec()).await;
    }

    /// `None`: there is no plugin that wants it, or it was dropped; an error is the plugin's.
    async fn ask(
        &self,
        node: &mut Node,
        event: Event,
        method: &str,
        request: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, (i32, String)> {
        let Some(plugin) = node.plugin.clone() else {
            if event == Event::CreateContainer {
                self.marks.fail_open.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(None);
        };
        if plugin.events & 1 << (event as i32 - 1) == 0 {
            return Ok(None);
        }
        let asked = tokio::time::Instant::now();
        let answer = plugin.wire.call(method, request, self.behaviour.request_timeout).await;
        if event == Event::CreateContainer {
            self.marks.create_waits.lock().unwrap().push(asked.elapsed());
        }
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(CallFailure::Status(code, text)) => Err((code, text)),
            Err(CallFailure::Timeout | CallFailure::Closed) => {
                plugin.wire.close();
                node.plugin = None;
                self.marks.fail_open.fetch_add(1, Ordering::SeqCst);
                Ok(None)
            }
        }
    }

    /// In the form of this version; errors of an event are ignored here.
    async fn tell(&self, node: &mut Node, event: Event, pod: &nri::PodSandbox, container: Option<&nri::Container>) {
        let (pod, container) = (Some(pod.clone()), container.cloned());
        if self.behaviour.dedicated_events {
            let request = nri::ContainerRequest { pod: pod.clone(), container: container.clone() }.encode_to_vec();
            match self.ask(node, event, method_of(event), request).await {
                // One that does not know the method yet is told in the old form.
                Err((UNIMPLEMENTED, _)) => {}
                _ => return,
            }
        }
        let told = nri::StateChangeEvent { event: event.into(), pod, container };
        let _ = self.ask(node, event, "StateChange", told.encode_to_vec()).await;
    }

    /// Sets that a container runs with.
    pub(crate) async fn sets(&self, id: &str) -> Option<Sets> {
        self.node.lock().await.table.sets(id)
    }

    /// Looks at everything that there is.
    pub(crate) async fn with_table<T>(&self, look: impl FnOnce(&mut Table) -> T) -> T {
        look(&mut self.node.lock().await.table)
    }

    /// The connection that came last.
    pub(crate) fn wire(&self) -> Arc<Wire> {
        self.wire.borrow().clone().expect("a plugin has connected")
    }

    /// Holds the lock of the node, as a container does that takes long to stop.
    pub(crate) async fn hold_node(&self) -> impl Drop + use<> {
        Arc::clone(&self.node).lock_owned().await
    }

    /// How long each creation since the last look waited for the plugin.
    pub(crate) fn take_create_waits(&self) -> Vec<Duration> {
        std::mem::take(&mut self.marks.create_waits.lock().unwrap())
    }

    /// Requests that went on without the plugin.
    pub(crate) fn fail_open(&self) -> usize {
        self.marks.fail_open.load(Ordering::SeqCst)
    }

    /// Calls of the plugin from within an answer.
    pub(crate) fn called_back(&self) -> usize {
        self.marks.called_back.load(Ordering::SeqCst)
    }

    /// What the plugin did against the protocol.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.marks.violations.lock().unwrap().clone()
    }
}

/// Serves what the plugin calls; the lock of the node is that of the requests.
async fn serve(
    wire: Arc<Wire>,
    mut calls: mpsc::UnboundedReceiver<PluginCall>,
    node: Arc<tokio::sync::Mutex<Node>>,
    marks: Arc<Marks>,
) {
    while let Some(call) = calls.recv().await {
        if call.during_a_request {
            marks.called_back.fetch_add(1, Ordering::SeqCst);
        }
        if call.method != "UpdateContainers" {
            wire.answer(call.stream, Err((UNIMPLEMENTED, format!("no method {}", call.method))));
            continue;
        }
        let mut node = node.lock().await;
        let update = nri::UpdateContainersRequest::decode(call.payload.as_slice()).unwrap().update;
        node.table.apply(update);
        drop(node);
        wire.answer(call.stream, Ok(nri::UpdateContainersResponse::default().encode_to_vec()));
    }
}

fn method_of(event: Event) -> &'static str {
    match event {
        Event::RunPodSandbox => "RunPodSandbox",
        Event::StopPodSandbox => "StopPodSandbox",
        Event::RemovePodSandbox => "RemovePodSandbox",
        Event::PostCreateContainer => "PostCreateContainer",
        Event::StartContainer => "StartContainer",
        Event::PostStartContainer => "PostStartContainer",
        Event::PostUpdateContainer => "PostUpdateContainer",
        Event::RemoveContainer => "RemoveContainer",
        Event::PostUpdatePodSandbox => "PostUpdatePodSandbox",
        other => panic!("{other:?} is not told"),
    }
}
