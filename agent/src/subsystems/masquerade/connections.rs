//! Looks at the kernel's table of connections, with each pass and not in between.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use trimtab_domain::masquerade::{Conntrack, Window};

use crate::ports::HostFiles;

/// Of the network namespace of the thread that reads it.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Absent in a kernel without `CONFIG_NF_CONNTRACK_PROCFS`.
const STAT: &str = "/proc/thread-self/net/stat/nf_conntrack";

pub(super) struct Connections {
    files: Arc<dyn HostFiles>,
    begun: Instant,
    window: Mutex<Window>,
}

impl Connections {
    pub(super) fn new(files: Arc<dyn HostFiles>) -> Self {
        Self { files, begun: Instant::now(), window: Mutex::default() }
    }

    /// `None` where connections are not tracked, or it cannot be told: what only warns fails no pass.
    pub(super) fn look(&self) -> Option<Conntrack> {
        let read = |path| self.files.read(Path::new(path)).ok().flatten();
        let conntrack = Conntrack::parse(&read(COUNT)?, &read(MAX)?, read(STAT).as_deref())?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let insert_failed_lately = window.look(self.begun.elapsed(), conntrack.insert_failed);
        Some(Conntrack { insert_failed_lately, ..conntrack })
    }
}
