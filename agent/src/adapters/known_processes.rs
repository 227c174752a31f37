//! What is known of the host's processes, so that not every look reads a file of each of them.
//!
//! A node with 250 pods has a thousand processes and more, and what they are hardly ever changes. A look lists `/proc` and
//! reads what is new. A young process is read again and again, because it may become another program (execve(2)) or be
//! moved to another cgroup by whoever started it. An old one may, too, and nothing cheap tells: so all are read again by
//! each resync (some 10 ms per thousand), and only the looks in between, several a second while pods come, do without.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::HostFiles;

/// How long a process counts as young.
const YOUNG: Duration = Duration::from_secs(60);
/// How long what was read of an old one is believed: a little less than the time between two resyncs.
const BELIEVED: Duration = Duration::from_secs(50);

/// One fact of each process, by ascending process id.
pub(super) struct KnownProcesses<T>(Vec<Known<T>>);

struct Known<T> {
    pid: u32,
    fact: T,
    first_seen: Instant,
    read: Instant,
}

impl<T> Default for KnownProcesses<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> KnownProcesses<T> {
    /// Forgets who is gone and reads who is new, young, or was not read for long; who cannot be read is left out.
    pub(super) fn refresh(&mut self, pids: impl IntoIterator<Item = u32>, read: impl Fn(u32) -> Option<T>) {
        let now = Instant::now();
        let mut pids: Vec<u32> = pids.into_iter().collect();
        pids.sort_unstable();
        let mut before = std::mem::take(&mut self.0).into_iter().peekable();
        self.0.reserve_exact(pids.len());
        for pid in pids {
            while before.next_if(|known| known.pid < pid).is_some() {}
            let known = match before.next_if(|known| known.pid == pid) {
                Some(known) if known.is_settled(now) => known,
                known => {
                    let Some(fact) = read(pid) else { continue };
                    Known { pid, fact, first_seen: known.map_or(now, |known| known.first_seen), read: now }
                }
            };
            self.0.push(known);
        }
    }

    /// All of them, by ascending process id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|known| (known.pid, &known.fact))
    }
}

impl<T> Known<T> {
    fn is_settled(&self, now: Instant) -> bool {
        self.read - self.first_seen >= YOUNG && now - self.read < BELIEVED
    }
}

/// The processes of the host; none where they cannot be seen.
pub(super) fn process_ids(files: &dyn HostFiles) -> impl Iterator<Item = u32> {
    let entries = files.list(Path::new("/proc")).ok().flatten().unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.name.parse().ok())
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Looks at process 7, which is such a thing now; tells what is believed of it.
    fn look(known: &mut KnownProcesses<&'static str>, now: &'static str) -> Option<&'static str> {
        known.refresh([7], |_| Some(now));
        known.iter().find(|(pid, _)| *pid == 7).map(|(_, fact)| *fact)
    }

    #[tokio::test(start_paused = true)]
    async fn a_young_process_that_becomes_another_is_noticed() {
        let mut known = KnownProcesses::default();
        assert_eq!(look(&mut known, "sh"), Some("sh"));
        advance(YOUNG / 2).await;
        assert_eq!(look(&mut known, "kubelet"), Some("kubelet"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_of_an_old_process_is_believed_for_a_while() {
        let mut known = KnownProcesses::default();
        look(&mut known, "sh");
        advance(YOUNG).await;
        assert_eq!(look(&mut known, "bash"), Some("bash"), "it was not read since it was young");
        assert_eq!(look(&mut known, "kubelet"), Some("bash"));
        advance(BELIEVED).await;
        assert_eq!(look(&mut known, "kubelet"), Some("kubelet"));
    }

    #[tokio::test(start_paused = true)]
    async fn processes_are_told_by_their_numbers_in_whatever_order_they_are_listed() {
        let mut known = KnownProcesses::default();
        for pids in [vec![9, 10, 2], vec![30, 10, 2, 1], vec![2, 11, 10]] {
            known.refresh(pids.clone(), Some);
            let mut expected: Vec<(u32, u32)> = pids.into_iter().map(|pid| (pid, pid)).collect();
            expected.sort_unstable();
            assert_eq!(known.iter().map(|(pid, fact)| (pid, *fact)).collect::<Vec<_>>(), expected);
            advance(YOUNG).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_is_forgotten_and_comes_back_young() {
        let mut known = KnownProcesses::default();
        look(&mut known, "sh");
        advance(YOUNG).await;
        look(&mut known, "sh");
        known.refresh([], |_| Some("nobody"));
        assert_eq!(known.iter().count(), 0);
        assert_eq!(look(&mut known, "kubelet"), Some("kubelet"));
        assert_eq!(look(&mut known, "other"), Some("other"));
        known.refresh([7], |_| None);
        assert_eq!(known.iter().count(), 0, "it cannot be read");
    }
}
