//! Runs all cases on all cores; a case that panics or takes too long has failed.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::category::{Mismatch, Verdict};
use crate::vectors::Case;

/// Longest time that a case may take; most take microseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// Stack of a worker.
const STACK_BYTES: usize = 16 << 20;

/// Passed and failed cases of one category.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// A case that failed.
pub(crate) struct Failure {
    pub(crate) category: String,
    pub(crate) id: String,
    pub(crate) mismatch: Mismatch,
}

/// What came of all cases.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) categories: BTreeMap<String, Count>,
    pub(crate) failures: Vec<Failure>,
}

/// What the workers share.
struct Work {
    cases: Vec<Case>,
    next: AtomicUsize,
}

/// The case that a worker is at, and since when.
type Slot = Arc<Mutex<Option<(usize, Instant)>>>;

type Report = (usize, String, Verdict);

pub(crate) fn run(cases: Vec<Case>) -> Results {
    panic::set_hook(Box::new(|_| {}));
    let total = cases.len();
    let work = Arc::new(Work { cases, next: AtomicUsize::new(0) });
    let (sender, reports) = mpsc::channel();
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut slots: Vec<Slot> = (0..cores).map(|_| start_worker(&work, &sender)).collect();
    let mut verdicts: Vec<Option<(String, Verdict)>> = (0..total).map(|_| None).collect();
    let mut open = total;
    while open > 0 {
        if let Ok((index, id, verdict)) = reports.recv_timeout(LIMIT / 10) {
            if let Some(slot @ None) = verdicts.get_mut(index) {
                *slot = Some((id, verdict));
                open -= 1;
            }
            continue;
        }
        for slot in &mut slots {
            let Some(index) = overdue(slot) else { continue };
            let late = Mismatch { expected: "an answer".to_owned(), got: format!("none within {LIMIT:?}") };
            let place = work.cases.get(index).map(|c| id_of(c, &Value::Null)).unwrap_or_default();
            if let Some(verdict @ None) = verdicts.get_mut(index) {
                *verdict = Some((place, Err(late)));
                open -= 1;
            }
            // The thread is given up; another takes its place.
            *slot = start_worker(&work, &sender);
        }
    }
    collect(&work, verdicts)
}

fn overdue(slot: &Slot) -> Option<usize> {
    let at = slot.lock().unwrap_or_else(PoisonError::into_inner);
    at.filter(|(_, since)| since.elapsed() > LIMIT).map(|(index, _)| index)
}

fn start_worker(work: &Arc<Work>, sender: &mpsc::Sender<Report>) -> Slot {
    let slot = Slot::default();
    let (work, sender, own) = (Arc::clone(work), sender.clone(), Arc::clone(&slot));
    let body = move || {
        loop {
            let index = work.next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = work.cases.get(index) else { break };
            *own.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, Instant::now()));
            let (id, verdict) = judge(case);
            *own.lock().unwrap_or_else(PoisonError::into_inner) = None;
            if sender.send((index, id, verdict)).is_err() {
                break;
            }
        }
    };
    if let Err(error) = thread::Builder::new().stack_size(STACK_BYTES).spawn(body) {
        eprintln!("parity: cannot start a thread: {error}");
        std::process::exit(1);
    }
    slot
}

fn judge(case: &Case) -> (String, Verdict) {
    let body = match serde_json::from_str::<Value>(&case.text) {
        Ok(body) => body,
        Err(error) => {
            let mismatch = Mismatch { expected: "one JSON object".to_owned(), got: error.to_string() };
            return (case.place.clone(), Err(mismatch));
        }
    };
    let verdict = panic::catch_unwind(AssertUnwindSafe(|| (case.judge)(&body, &case.machines)));
    let verdict = verdict.unwrap_or_else(|payload| {
        Err(Mismatch { expected: "an answer".to_owned(), got: format!("panic: {}", words(payload.as_ref())) })
    });
    (id_of(case, &body), verdict)
}

fn words(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied()).unwrap_or("?")
}

fn id_of(case: &Case, body: &Value) -> String {
    let id = body.get("id").or_else(|| body.get("name")).or_else(|| body.get("scenario")).and_then(Value::as_str);
    id.unwrap_or(&case.place).to_owned()
}

fn collect(work: &Work, verdicts: Vec<Option<(String, Verdict)>>) -> Results {
    let mut results = Results::default();
    for (case, verdict) in work.cases.iter().zip(verdicts) {
        let Some((id, verdict)) = verdict else { continue };
        let count = results.categories.entry(case.category.clone()).or_default();
        match verdict {
            Ok(()) => count.passed += 1,
            Err(mismatch) => {
                count.failed += 1;
                results.failures.push(Failure { category: case.category.clone(), id, mismatch });
            }
        }
    }
    results
}
