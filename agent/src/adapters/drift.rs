//! The kernel's announcements of change: inotify for files and directories, netlink for the rest.
//!
//! One inotify instance serves every subsystem. A file below `/proc/sys` announces writes made through the same mount
//! of procfs; writes through another mount (a container's own `/proc`) are found by the resync.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::adapters::profile_file::watcher::Watcher;
use crate::ports::{DriftEvents, Watch};

/// Bytes for events read at once; 64 events with short names.
const EVENT_BUFFER: usize = 4096;

/// Watches for all subsystems.
pub struct KernelEvents {
    host_root: PathBuf,
    inotify: Option<Watches>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    wakers: BTreeMap<&'static str, Arc<Notify>>,
    wanted: BTreeMap<&'static str, BTreeSet<Watch>>,
    active: BTreeMap<Watch, WatchDescriptor>,
    failed: BTreeSet<Watch>,
    /// Paths of our own that are followed, each by a task.
    followed: BTreeMap<PathBuf, AbortHandle>,
}

impl KernelEvents {
    /// Opens inotify and follows it until cancelled. Without inotify (the system's limit of instances is reached) the
    /// agent works by resync alone, and says so once. Needs a tokio runtime.
    #[must_use]
    pub fn start(host_root: &Path, cancel: CancellationToken) -> Arc<Self> {
        let opened = Inotify::init();
        let watches = opened.as_ref().ok().map(Inotify::watches);
        let events = Arc::new(Self { host_root: host_root.to_owned(), inotify: watches, state: Arc::default() });
        match opened {
            Ok(inotify) => {
                tokio::spawn(follow(Arc::clone(&events), inotify, cancel));
            }
            Err(error) => {
                warn!(%error, "inotify is not available (raise fs.inotify.max_user_instances); drift is found by the resync only");
            }
        }
        events
    }

    /// Wakes every subsystem that asked for netfilter events.
    pub fn netfilter_changed(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wake(|watch| *watch == Watch::Netfilter);
    }

    /// Wakes every subsystem that asked for events about interfaces.
    pub fn interfaces_changed(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wake(|watch| *watch == Watch::Interfaces);
    }

    /// Wakes every subsystem that asked for events about CPUs and memory.
    pub fn hardware_changed(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wake(|watch| *watch == Watch::Hardware);
    }

    fn on_host(&self, path: &Path) -> PathBuf {
        self.host_root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn event(&self, descriptor: &WatchDescriptor, mask: EventMask) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if mask.contains(EventMask::Q_OVERFLOW) {
            state.wake(|_| true);
            return;
        }
        let places: Vec<Watch> =
            state.active.iter().filter(|(_, active)| *active == descriptor).map(|(watch, _)| watch.clone()).collect();
        if mask.contains(EventMask::IGNORED) {
            // The file is gone and the kernel dropped the watch; the next pass asks for it again if it still matters.
            for place in &places {
                state.active.remove(place);
            }
        }
        state.wake(|watch| places.contains(watch));
    }
}

impl State {
    fn wake(&self, concerns: impl Fn(&Watch) -> bool) {
        for (subsystem, watches) in &self.wanted {
            if watches.iter().any(&concerns)
                && let Some(waker) = self.wakers.get(subsystem)
            {
                waker.notify_one();
            }
        }
    }
}

impl DriftEvents for KernelEvents {
    fn subscribe(&self, subsystem: &'static str) -> Arc<Notify> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(state.wakers.entry(subsystem).or_default())
    }

    fn watch(&self, subsystem: &'static str, watches: &[Watch]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wanted.insert(subsystem, watches.iter().cloned().collect());
        let Some(inotify) = &self.inotify else { return };
        let all: BTreeSet<Watch> = state.wanted.values().flatten().cloned().collect();
        let stale: Vec<Watch> = state.active.keys().filter(|watch| !all.contains(watch)).cloned().collect();
        for watch in stale {
            if let Some(descriptor) = state.active.remove(&watch)
                && !state.active.values().any(|other| *other == descriptor)
            {
                let _ = inotify.clone().remove(descriptor);
            }
        }
        state.failed.retain(|watch| all.contains(watch));
        follow_mounted(&self.state, &mut state, &all);
        let mut begun = false;
        for watch in all {
            let (path, mask) = match &watch {
                Watch::File(path) => (path, WatchMask::MODIFY | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF),
                Watch::Directory(path) => (
                    path,
                    WatchMask::CREATE
                        | WatchMask::DELETE
                        | WatchMask::MOVED_FROM
                        | WatchMask::MOVED_TO
                        | WatchMask::DELETE_SELF
                        | WatchMask::ONLYDIR,
                ),
                Watch::Netfilter | Watch::Interfaces | Watch::Hardware | Watch::Mounted(_) => continue,
            };
            if state.active.contains_key(&watch) {
                continue;
            }
            match inotify.clone().add(self.on_host(path), mask | WatchMask::MASK_ADD) {
                Ok(descriptor) => {
                    state.failed.remove(&watch);
                    state.active.insert(watch, descriptor);
                    begun = true;
                }
                Err(error) if state.failed.insert(watch.clone()) => {
                    debug!(subsystem, path = %path.display(), %error, "cannot watch; left to the resync");
                }
                Err(_) => {}
            }
        }
        // What changed between the look at the node and now was announced to nobody.
        if begun && let Some(waker) = state.wakers.get(subsystem) {
            waker.notify_one();
        }
    }
}

/// Starts and ends the tasks that follow paths of our own.
fn follow_mounted(shared: &Arc<Mutex<State>>, state: &mut State, wanted: &BTreeSet<Watch>) {
    state.followed.retain(|path, task| {
        let keep = wanted.contains(&Watch::Mounted(path.clone())) && !task.is_finished();
        if !keep {
            task.abort();
        }
        keep
    });
    let paths = wanted.iter().filter_map(|watch| if let Watch::Mounted(path) = watch { Some(path) } else { None });
    for path in paths {
        if state.followed.contains_key(path) {
            continue;
        }
        match Watcher::open(path) {
            Ok(mut watcher) => {
                let (shared, place) = (Arc::clone(shared), Watch::Mounted(path.clone()));
                let task = tokio::spawn(async move {
                    while watcher.changed().await {
                        shared.lock().unwrap_or_else(PoisonError::into_inner).wake(|watch| *watch == place);
                    }
                });
                state.followed.insert(path.clone(), task.abort_handle());
                // Between the look that asked for this and the first watch, anything may have changed.
                state.wake(|watch| *watch == Watch::Mounted(path.clone()));
            }
            Err(error) if state.failed.insert(Watch::Mounted(path.clone())) => {
                warn!(path = %path.display(), %error, "changes are found by the resync only");
            }
            Err(_) => {}
        }
    }
}

async fn follow(events: Arc<KernelEvents>, inotify: Inotify, cancel: CancellationToken) {
    let mut stream = match inotify.into_event_stream(vec![0; EVENT_BUFFER]) {
        Ok(stream) => stream,
        Err(error) => {
            warn!(%error, "cannot read inotify events; drift is found by the resync only");
            return;
        }
    };
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            Some(Ok(event)) => events.event(&event.wd, event.mask),
            Some(Err(error)) => warn!(%error, "an inotify event was lost"),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![allow(clippy::disallowed_methods, reason = "the tests play the part of the other program")]

    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_write_by_another_wakes_the_subsystem_and_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("sys")).unwrap();
        std::fs::write(root.path().join("sys/key"), "1").unwrap();
        let cancel = CancellationToken::new();
        let events = KernelEvents::start(root.path(), cancel.clone());
        let (one, two) = (events.subscribe("one"), events.subscribe("two"));
        events.watch("one", &[Watch::File("/sys/key".into())]);
        events.watch("two", &[Watch::Directory("/sys".into()), Watch::File("/sys/absent".into())]);
        std::fs::write(root.path().join("sys/key"), "2").unwrap();
        tokio::time::timeout(LIMIT, one.notified()).await.unwrap();
        std::fs::write(root.path().join("sys/new"), "2").unwrap();
        tokio::time::timeout(LIMIT, two.notified()).await.unwrap();
        std::fs::remove_file(root.path().join("sys/key")).unwrap();
        tokio::time::timeout(LIMIT, one.notified()).await.unwrap();
        std::fs::write(root.path().join("sys/key"), "3").unwrap();
        events.watch("one", &[Watch::File("/sys/key".into())]);
        std::fs::write(root.path().join("sys/key"), "4").unwrap();
        tokio::time::timeout(LIMIT, one.notified()).await.unwrap();
        cancel.cancel();
    }
}
