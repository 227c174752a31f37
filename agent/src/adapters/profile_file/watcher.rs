//! Follows one path by inotify: tells when its content may be another, wherever on the way the change was made. The
//! content of a directory is its entries and what they hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::points::{self, Point};

/// Bytes for events read at once; 64 events with short names.
const EVENT_BUFFER: usize = 4096;
/// How long a file that is being written may stay open before it is looked at all the same.
const WRITE_LIMIT: Duration = Duration::from_millis(250);
/// Rounds of arming before a path that changes all the time is taken as it is.
const ARMING_ROUNDS: usize = 8;

/// The watches on the way to one file.
pub(in crate::adapters) struct Watcher {
    path: PathBuf,
    watches: Watches,
    events: EventStream<Vec<u8>>,
    active: HashMap<WatchDescriptor, Concern>,
    armed: BTreeMap<PathBuf, Point>,
    /// While a writer is at work: when the file is looked at all the same.
    written_until: Option<Instant>,
}

/// Which names matter in a watched directory.
#[derive(Default)]
struct Concern {
    names: BTreeSet<OsString>,
    all: bool,
}

/// What an event means for the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    /// Nothing.
    None,
    /// A writer is at work; its closing of the file tells when it is done.
    BeingWritten,
    /// Look now.
    Changed,
}

impl Watcher {
    /// Opens inotify and arms the watches.
    ///
    /// # Errors
    /// What the kernel said, usually that its limit of instances or watches is reached.
    pub(in crate::adapters) fn open(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream(vec![0; EVENT_BUFFER])?;
        let path = std::path::absolute(path)?;
        let mut watcher =
            Self { path, watches, events, active: HashMap::new(), armed: BTreeMap::new(), written_until: None };
        watcher.arm()?;
        Ok(watcher)
    }

    /// Waits until the content may have changed, with the watches armed anew for what the path means now; false if
    /// nothing more can be followed. May be dropped while it waits, and called again.
    pub(in crate::adapters) async fn changed(&mut self) -> bool {
        loop {
            let next = match self.written_until {
                Some(deadline) => match tokio::time::timeout_at(deadline, self.events.next()).await {
                    Ok(next) => next,
                    Err(_) => return self.look_again(),
                },
                None => self.events.next().await,
            };
            let meaning = match next {
                Some(Ok(event)) => self.meaning(&event),
                // An event was lost; looking once too often is harmless.
                Some(Err(_)) => Meaning::Changed,
                None => return false,
            };
            match meaning {
                Meaning::None => {}
                Meaning::BeingWritten => {
                    self.written_until.get_or_insert_with(|| Instant::now() + WRITE_LIMIT);
                }
                Meaning::Changed => return self.look_again(),
            }
        }
    }

    fn look_again(&mut self) -> bool {
        self.written_until = None;
        self.arm().is_ok()
    }

    fn meaning(&mut self, event: &Event<OsString>) -> Meaning {
        let mask = event.mask;
        if mask.contains(EventMask::Q_OVERFLOW) {
            return Meaning::Changed;
        }
        if mask.contains(EventMask::IGNORED) {
            self.active.remove(&event.wd);
            return Meaning::None;
        }
        let Some(concern) = self.active.get(&event.wd) else { return Meaning::None };
        if event.name.as_ref().is_some_and(|name| !concern.all && !concern.names.contains(name)) {
            return Meaning::None;
        }
        if mask.contains(EventMask::MODIFY) {
            return Meaning::BeingWritten;
        }
        if mask.contains(EventMask::CREATE) {
            return self.meaning_of_new(event);
        }
        Meaning::Changed
    }

    /// A new link or directory is complete; a new file still has to be written.
    fn meaning_of_new(&self, event: &Event<OsString>) -> Meaning {
        let concerns = |point: &Point, name| point.entries || point.names.contains(name);
        let directory =
            self.armed.iter().find(|(_, point)| event.name.as_ref().is_some_and(|name| concerns(point, name)));
        let made = directory.zip(event.name.as_ref()).map(|((path, _), name)| path.join(name));
        let is_file = made.and_then(|path| path.symlink_metadata().ok()).is_some_and(|metadata| metadata.is_file());
        if is_file { Meaning::BeingWritten } else { Meaning::Changed }
    }

    /// Watches what the path goes through now. A change between looking and watching is found by looking again.
    fn arm(&mut self) -> io::Result<()> {
        for _ in 0..ARMING_ROUNDS {
            let wanted = points::points(&self.path);
            self.watch(&wanted)?;
            self.armed = wanted;
            if points::points(&self.path) == self.armed {
                break;
            }
        }
        Ok(())
    }

    fn watch(&mut self, wanted: &BTreeMap<PathBuf, Point>) -> io::Result<()> {
        let mut active: HashMap<WatchDescriptor, Concern> = HashMap::new();
        for (path, point) in wanted {
            // Two paths may lead to one place: what was asked for one stays asked for both.
            match self.watches.add(path, mask(point) | WatchMask::MASK_ADD) {
                Ok(descriptor) => {
                    let concern = active.entry(descriptor).or_default();
                    concern.names.extend(point.names.iter().cloned());
                    concern.all |= point.entries;
                }
                // Gone again, or not ours to read: what leads to it is watched.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                Err(error) => return Err(error),
            }
        }
        for stale in self.active.keys().filter(|descriptor| !active.contains_key(descriptor)) {
            // Fails if the kernel dropped it already.
            let _ = self.watches.remove(stale.clone());
        }
        self.active = active;
        Ok(())
    }
}

fn mask(point: &Point) -> WatchMask {
    let own_end = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
    if point.is_file {
        // Also seen when the directory is another one here, as with a file that is bind-mounted alone.
        return own_end | WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::ATTRIB;
    }
    if point.names.is_empty() && !point.entries {
        return own_end;
    }
    own_end
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::ATTRIB
}
