//! The plugin of the container runtime (NRI): registers, answers for [`Admission`], and comes back when the runtime does.
//!
//! The protocol is still `v1alpha1`; all of it is in this room. The frames are `mux`, calls in them `ttrpc`; a
//! `session` is one connection, whose requests `plugin` answers on the thread of `answers`.

mod answers;
mod caller;
mod convert;
mod handle;
pub mod mux;
mod pace;
mod plugin;
mod registration_book;
mod requests;
mod session;
mod socket_watch;
pub mod ttrpc;
mod version;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::answers::Answers;
pub use self::handle::{NriHandle, UpdateError};
use self::pace::{Pauses, Registrations, wait_for_terminations};
pub use self::registration_book::RegistrationBook;
use self::session::{SessionEnd, Shared};
use self::socket_watch::SocketWatch;
use crate::ports::admission::{Admission, Terminations};
use crate::ports::nri_stats::NriStats;

/// After this an answer that is not there is an error: the runtime would go on without one, and a container would run
/// wherever it likes.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// What the plugin answers with and asks before it registers.
#[derive(Clone)]
pub struct NriPorts {
    /// Decides.
    pub admission: Arc<dyn Admission>,
    /// Tells what a registration has to wait for.
    pub terminations: Arc<dyn Terminations>,
    /// Counts.
    pub stats: Arc<NriStats>,
}

/// The plugin; nothing is connected before [`Nri::run`].
pub struct Nri {
    socket: PathBuf,
    terminations: Arc<dyn Terminations>,
    shared: Shared,
    book: Option<RegistrationBook>,
}

impl Nri {
    /// A plugin for the runtime behind this socket. Starts the thread that answers.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn new(socket: &Path, ports: NriPorts) -> io::Result<Self> {
        let NriPorts { admission, terminations, stats } = ports;
        let answers = Answers::start(admission, Arc::clone(&stats))?;
        let shared = Shared { answers, stats, answer_limit: ANSWER_LIMIT, live: watch::Sender::new(None) };
        Ok(Self { socket: socket.to_owned(), terminations, shared, book: None })
    }

    /// Another limit than [`ANSWER_LIMIT`].
    #[must_use]
    pub fn with_answer_limit(mut self, limit: Duration) -> Self {
        self.shared.answer_limit = limit;
        self
    }

    /// Counts the registrations of the agents before this one, too.
    #[must_use]
    pub fn with_book(mut self, book: RegistrationBook) -> Self {
        self.book = Some(book);
        self
    }

    /// For changes that no request of the runtime brings.
    #[must_use]
    pub fn handle(&self) -> NriHandle {
        NriHandle::new(self.shared.live.subscribe(), Arc::clone(&self.shared.stats))
    }

    /// Registers and answers, again and again, until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut registrations = Registrations::resume(self.book.take());
        let mut pauses = Pauses::default();
        // One line for each time that the runtime is away, not one for each attempt.
        let mut told_away = false;
        while !cancel.is_cancelled() {
            let mut watch = self.socket.parent().and_then(|directory| SocketWatch::open(directory).ok());
            match self.connect(&registrations, &cancel).await {
                Ok(Some(stream)) => {
                    registrations.record(tokio::time::Instant::now());
                    told_away = false;
                    if self.session(stream, &cancel).await {
                        pauses.reset();
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.shared.stats.record_connected(false);
                    if std::mem::replace(&mut told_away, true) {
                        debug!(%error, "no NRI yet");
                    } else {
                        info!(socket = %self.socket.display(), %error, "no NRI; waiting for the container runtime");
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(pauses.next()) => {}
                () = async {
                    match &mut watch {
                        Some(watch) => watch.changed().await,
                        None => std::future::pending().await,
                    }
                } => pauses.reset(),
            }
        }
    }

    /// A connection, once a registration may be made; `None` if cancelled. The runtime counts the time from here on.
    async fn connect(
        &self,
        registrations: &Registrations,
        cancel: &CancellationToken,
    ) -> io::Result<Option<UnixStream>> {
        if !self.socket.try_exists()? {
            return Err(io::ErrorKind::NotFound.into());
        }
        registrations.wait(&self.shared.stats, cancel).await;
        wait_for_terminations(&self.terminations, &self.shared.stats, cancel).await;
        if cancel.is_cancelled() {
            return Ok(None);
        }
        UnixStream::connect(&self.socket).await.map(Some)
    }

    /// True if the runtime had taken the plugin on.
    async fn session(&self, stream: UnixStream, cancel: &CancellationToken) -> bool {
        let live = self.shared.live.subscribe();
        let end = session::run(stream, &self.shared, cancel).await;
        let used = live.has_changed().unwrap_or(false);
        match end {
            SessionEnd::Cancelled => debug!("left the container runtime"),
            end => warn!(
                error = &end as &dyn std::error::Error,
                "the NRI session has ended; containers that are created now are pinned after their start"
            ),
        }
        used
    }
}
