//! Waiting for a condition: looks at it again and again, and yields the CPU between two looks.
#![allow(clippy::disallowed_types, reason = "tests wait by the real clock")]

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks. An emulated machine locks up under a spinning test.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `holds`; gives up after `limit` with what was seen last.
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    loop {
        let Err(seen) = holds() else { return };
        assert!(begin.elapsed() < limit, "never came true: {what}\n{seen}");
        thread::sleep(PAUSE);
    }
}

/// How long `act` takes.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let value = act();
    (value, begin.elapsed())
}
