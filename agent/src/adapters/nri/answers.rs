//! The thread on which [`Admission`] answers: one that does not come back, or panics, cannot silence the session.
//!
//! Calls are made one at a time and in the order in which they were handed over. What changes what is known (an event, a
//! stop) is always told, however late; a creation that nobody waits for any more is not begun, and one that was granted
//! too late is taken back, because the runtime has been told that it failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::{io, thread};

use prost::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, warn};
use trimtab_domain::roster::{Sandbox, SandboxContainer, ToldResources};
use trimtab_proto::nri::v1alpha1 as nri;

use super::convert::{self, Failures};
use super::ttrpc::{MAX_BODY_BYTES, code};
use crate::ports::admission::{Admission, Lifecycle, RuntimePeer};
use crate::ports::nri_stats::NriStats;

/// Longest answer. The runtime queues at most 256 unread frames of a connection; answers of this size in frames of 4096
/// bytes were seen to pass.
const MAX_ANSWER_BYTES: usize = 2_500_000;
const _: () = assert!(MAX_ANSWER_BYTES < MAX_BODY_BYTES);

/// What [`Admission`] is asked or told.
#[derive(Debug)]
pub(super) enum Call {
    Connected(RuntimePeer),
    Synchronize(Vec<Sandbox>, Vec<SandboxContainer>),
    Create(Sandbox, SandboxContainer),
    Update(Sandbox, SandboxContainer, ToldResources),
    Stop(Sandbox, SandboxContainer),
    Event(Lifecycle, Sandbox, Option<SandboxContainer>),
    Disconnected,
}

/// Why a request is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// A gRPC code.
    pub(super) code: i32,
    /// Shown by the runtime and, for a creation, by the kubelet.
    pub(super) message: String,
    /// True if this was decided, false if something is wrong.
    pub(super) decided: bool,
}

impl Failure {
    pub(super) fn defect(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), decided: false }
    }
}

/// The encoded response.
pub(super) type Answer = Result<Vec<u8>, Failure>;

struct Job {
    call: Call,
    reply: oneshot::Sender<Answer>,
}

/// Hands calls to the thread.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    jobs: mpsc::Sender<Job>,
}

impl Answers {
    /// Starts the thread; it ends when the last handle is gone.
    pub(super) fn start(admission: Arc<dyn Admission>, stats: Arc<NriStats>) -> io::Result<Self> {
        let (jobs, handed) = mpsc::channel::<Job>();
        thread::Builder::new().name("nri-answers".to_owned()).spawn(move || {
            while let Ok(job) = handed.recv() {
                work(&*admission, &stats, job);
            }
        })?;
        Ok(Self { jobs })
    }

    /// The answer, or the error if there is none until the deadline.
    pub(super) async fn answer(&self, call: Call, deadline: Instant) -> Answer {
        let mut answer = self.hand_over(call);
        if let Ok(answer) = tokio::time::timeout_at(deadline, &mut answer).await {
            return answer.unwrap_or_else(|_| Err(gone()));
        }
        // From here on the thread finds that nobody waits; what it handed over before counts.
        answer.close();
        answer.try_recv().unwrap_or_else(|_| {
            Err(Failure::defect(
                code::DEADLINE_EXCEEDED,
                "trimtab has no answer in time; rather than run with the wrong CPUs, nothing is changed",
            ))
        })
    }

    /// Tells without waiting.
    pub(super) fn tell(&self, call: Call) {
        drop(self.hand_over(call));
    }

    fn hand_over(&self, call: Call) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        // A thread that is gone drops the reply, which the caller sees.
        drop(self.jobs.send(Job { call, reply }));
        answer
    }
}

fn gone() -> Failure {
    Failure::defect(code::INTERNAL, "trimtab's answering thread has ended")
}

fn work(admission: &dyn Admission, stats: &NriStats, Job { call, reply }: Job) {
    let asks = matches!(call, Call::Create(..) | Call::Update(..));
    if asks && reply.is_closed() {
        return;
    }
    let created = match &call {
        Call::Create(sandbox, container) => Some((sandbox.clone(), container.clone())),
        _ => None,
    };
    let answer = guarded(|| answer(admission, call));
    // What was not decided may have been noted all the same: the set could not be said, or a panic came after.
    let mut undo = answer.as_ref().is_err_and(|failure| !failure.decided);
    let granted = answer.is_ok();
    if reply.send(answer).is_err() {
        undo |= granted;
    }
    if let (true, Some((sandbox, container))) = (undo, created) {
        warn!(container = container.id.0, "taking back a creation that the runtime was told has failed");
        stats.record_undone();
        let taken_back = guarded(|| {
            admission.stop(&sandbox, &container);
            admission.event(Lifecycle::ContainerRemoved, &sandbox, Some(&container));
            Ok(Vec::new())
        });
        drop(taken_back);
    }
}

/// A panic is an error like others; it is printed where it happens.
fn guarded(make: impl FnOnce() -> Answer) -> Answer {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
        error!("the answer to the container runtime panicked; it is told that the request failed");
        Err(Failure::defect(code::INTERNAL, "trimtab failed to decide; its log says more"))
    })
}

fn answer(admission: &dyn Admission, call: Call) -> Answer {
    let refused = |refused: crate::ports::admission::Refused| Failure {
        code: code::UNKNOWN,
        message: refused.to_string(),
        decided: true,
    };
    match call {
        Call::Connected(peer) => admission.connected(&peer),
        Call::Disconnected => admission.disconnected(),
        Call::Event(event, sandbox, container) => admission.event(event, &sandbox, container.as_ref()),
        Call::Synchronize(sandboxes, containers) => {
            let updates = admission.synchronize(sandboxes, containers);
            let update = convert::updates(updates, Failures::AreIgnored).map_err(unsayable)?;
            return encode(&nri::SynchronizeResponse { update, more: false });
        }
        Call::Create(sandbox, container) => {
            let created = admission.create(&sandbox, &container).map_err(refused)?;
            return encode(&convert::created(&container.id, created).map_err(unsayable)?);
        }
        Call::Update(sandbox, container, asked) => {
            let updates = admission.update(&sandbox, &container, &asked).map_err(refused)?;
            let update = convert::updates(updates, Failures::EndTheRequest).map_err(unsayable)?;
            return encode(&nri::UpdateResponse { update });
        }
        Call::Stop(sandbox, container) => {
            let updates = admission.stop(&sandbox, &container);
            let update = convert::updates(updates, Failures::AreIgnored).map_err(unsayable)?;
            return encode(&nri::UpdateResponse { update });
        }
    }
    Ok(Vec::new())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn unsayable(error: convert::Unsayable) -> Failure {
    error!(%error, "this answer is not given; the runtime is told that the request failed");
    Failure::defect(code::INTERNAL, error.to_string())
}

fn encode(message: &impl Message) -> Answer {
    let bytes = message.encode_to_vec();
    if bytes.len() > MAX_ANSWER_BYTES {
        let message = format!("trimtab's answer has {} bytes, more than the runtime takes", bytes.len());
        return Err(Failure::defect(code::RESOURCE_EXHAUSTED, message));
    }
    Ok(bytes)
}
