//! Notices that a runtime has made its socket anew.

use std::io;
use std::path::Path;

use inotify::{EventStream, Inotify, WatchMask};
use tokio_stream::StreamExt;

/// Bytes for events read at once.
const EVENT_BUFFER: usize = 4096;

/// Follows the entries of one directory.
pub(super) struct SocketWatch {
    events: EventStream<Vec<u8>>,
}

impl SocketWatch {
    /// # Errors
    /// The directory is not there, or the limit of watches is reached; connecting is then tried from time to time.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        // The socket may be given its rights after it was made.
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ATTRIB | WatchMask::ONLYDIR;
        inotify.watches().add(directory, mask)?;
        Ok(Self { events: inotify.into_event_stream(vec![0; EVENT_BUFFER])? })
    }

    /// Waits until something in the directory has changed; never ends if nothing more is told.
    pub(super) async fn changed(&mut self) {
        if self.events.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
