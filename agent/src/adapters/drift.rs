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
    /// As they were told. Paths of cgroups are long and many, so each is kept once.
    wanted: BTreeMap<&'static str, Vec<Arc<Watch>>>,
    active: BTreeMap<Arc<Watch>, WatchDescriptor>,
    failed: BTreeSet<Arc<Watch>>,
    /// True once the kernel has dropped a watch that may still be wanted.
    dropped: bool,
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
        let places: Vec<Arc<Watch>> = state
            .active
            .iter()
            .filter(|(_, active)| *active == descriptor)
            .map(|(watch, _)| Arc::clone(watch))
            .collect();
        if mask.contains(EventMask::IGNORED) {
            // The file is gone and the kernel dropped the watch; the next pass asks for it again if it still matters.
            for place in &places {
                state.active.remove(place);
            }
            state.dropped = true;
        }
        state.wake(|watch| places.iter().any(|place| **place == *watch));
    }
}

impl State {
    fn wake(&self, concerns: impl Fn(&Watch) -> bool) {
        for (subsystem, watches) in &self.wanted {
            if watches.iter().any(|watch| concerns(watch))
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
        let known = state.wanted.get(subsystem).map(Vec::as_slice).unwrap_or_default();
        let is_known = |watch: &Watch| known.iter().any(|known| **known == *watch);
        let same = known.iter().map(Arc::as_ref).eq(watches) && state.wanted.contains_key(subsystem);
        // What the kernel announced of these between the look at the node and now woke nobody, as nobody had asked yet.
        let announced = |watch: &&Watch| matches!(watch, Watch::Netfilter | Watch::Interfaces | Watch::Hardware);
        let missed = watches.iter().filter(announced).any(|watch| !is_known(watch));
        if !same {
            let kept = watches.iter().map(|watch| state.kept(watch)).collect();
            state.wanted.insert(subsystem, kept);
        }
        if missed && let Some(waker) = state.wakers.get(subsystem) {
            waker.notify_one();
        }
        let Some(inotify) = &self.inotify else { return };
        // The rule: a pass wants what the one before wanted, a thousand files on a full node, and all are watched.
        let missing: BTreeSet<Arc<Watch>> = if same && state.is_whole() {
            state.failed.clone()
        } else {
            let all: BTreeSet<Arc<Watch>> = state.wanted.values().flatten().cloned().collect();
            state.end_others(inotify, &all);
            follow_mounted(&self.state, &mut state, &all);
            all.into_iter().filter(|watch| !state.active.contains_key(watch)).collect()
        };
        let mut begun = false;
        for watch in missing {
            begun |= self.begin(&mut state, inotify, subsystem, watch);
        }
        // What changed between the look at the node and now was announced to nobody.
        if begun && let Some(waker) = state.wakers.get(subsystem) {
            waker.notify_one();
        }
    }
}

impl KernelEvents {
    /// Begins to watch a file or directory; false if it cannot be watched, or is no such thing.
    fn begin(&self, state: &mut State, inotify: &Watches, subsystem: &'static str, watch: Arc<Watch>) -> bool {
        let (path, mask) = match &*watch {
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
            Watch::Netfilter | Watch::Interfaces | Watch::Hardware | Watch::Mounted(_) => return false,
        };
        match inotify.clone().add(self.on_host(path), mask | WatchMask::MASK_ADD) {
            Ok(descriptor) => {
                state.failed.remove(&watch);
                state.active.insert(watch, descriptor);
                true
            }
            Err(error) => {
                if state.failed.insert(Arc::clone(&watch)) {
                    debug!(subsystem, path = %path.display(), %error, "cannot watch; left to the resync");
                }
                false
            }
        }
    }
}

impl State {
    /// The one copy of it.
    fn kept(&self, watch: &Watch) -> Arc<Watch> {
        self.active.get_key_value(watch).map_or_else(|| Arc::new(watch.clone()), |(kept, _)| Arc::clone(kept))
    }

    /// True if everything that is wanted is watched or has failed to be, and can be tried again by itself.
    fn is_whole(&self) -> bool {
        let followed = self.followed.values().all(|task| !task.is_finished());
        followed && !self.dropped && !self.failed.iter().any(|watch| matches!(**watch, Watch::Mounted(_)))
    }

    /// Ends the watches that nobody wants any more.
    fn end_others(&mut self, inotify: &Watches, wanted: &BTreeSet<Arc<Watch>>) {
        let stale: Vec<Arc<Watch>> = self.active.keys().filter(|watch| !wanted.contains(*watch)).cloned().collect();
        for watch in stale {
            if let Some(descriptor) = self.active.remove(&watch)
                && !self.active.values().any(|other| *other == descriptor)
            {
                let _ = inotify.clone().remove(descriptor);
            }
        }
        self.failed.retain(|watch| wanted.contains(watch));
        self.dropped = false;
    }
}

/// Starts and ends the tasks that follow paths of our own.
fn follow_mounted(shared: &Arc<Mutex<State>>, state: &mut State, wanted: &BTreeSet<Arc<Watch>>) {
    state.followed.retain(|path, task| {
        let keep = wanted.contains(&Watch::Mounted(path.clone())) && !task.is_finished();
        if !keep {
            task.abort();
        }
        keep
    });
    let paths = wanted.iter().filter_map(|watch| if let Watch::Mounted(path) = &**watch { Some(path) } else { None });
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
            Err(error) if state.failed.insert(Arc::new(Watch::Mounted(path.clone()))) => {
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

    #[tokio::test(start_paused = true)]
    async fn who_begins_to_want_announcements_looks_once_more_and_then_waits_for_them() {
        let root = tempfile::tempdir().unwrap();
        let events = KernelEvents::start(root.path(), CancellationToken::new());
        let wake = events.subscribe("one");
        // Announced while the subsystem looks at the node for the first time: nobody is known to want it.
        events.netfilter_changed();
        events.watch("one", &[Watch::Netfilter]);
        tokio::time::timeout(LIMIT, wake.notified()).await.unwrap();
        events.watch("one", &[Watch::Netfilter]);
        assert!(tokio::time::timeout(LIMIT, wake.notified()).await.is_err(), "a pass must not wake the next");
        events.netfilter_changed();
        tokio::time::timeout(LIMIT, wake.notified()).await.unwrap();
        events.watch("one", &[Watch::Netfilter, Watch::Interfaces]);
        tokio::time::timeout(LIMIT, wake.notified()).await.unwrap();
    }
}
