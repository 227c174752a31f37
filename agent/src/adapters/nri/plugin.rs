//! The plugin as the runtime sees it: what each request is answered with.

use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use trimtab_proto::nri::v1alpha1 as nri;
use trimtab_proto::ttrpc::{Request, Status};

use super::answers::{Answer, Call, Failure};
use super::caller::{Caller, Outgoing};
use super::convert;
use super::mux::PLUGIN_CONNECTION;
use super::requests::{self, Asked};
use super::session::{Arrived, Live, SessionEnd, Shared};
use super::ttrpc::{self, RawMessage, code};
use super::version;
use crate::ports::admission::RuntimePeer;
use crate::ports::nri_stats::{AnswerExemplar, NriMethod, NriResult};

/// Bytes of an unfinished synchronisation; far above 10,000 containers.
const MAX_SYNCHRONIZED_BYTES: usize = 64 << 20;

/// Answers the requests of one session.
#[derive(Debug)]
pub(super) struct Plugin {
    shared: Shared,
    caller: Caller,
    /// Known once the runtime has configured the plugin; from then on [`Call::Disconnected`] is owed.
    peer: Option<RuntimePeer>,
    synchronized: nri::SynchronizeRequest,
    synchronized_bytes: usize,
}

/// What a request was, and what it is answered with.
struct Answered {
    method: NriMethod,
    answer: Answer,
    /// Container and pod of a creation, if they are to be remembered.
    created: Option<(String, String)>,
}

impl Plugin {
    pub(super) fn new(shared: Shared, caller: Caller) -> Self {
        let synchronized = nri::SynchronizeRequest::default();
        Self { shared, caller, peer: None, synchronized, synchronized_bytes: 0 }
    }

    /// Answers one request after the other until no more can come, or no answer can leave. A runtime that hears of a
    /// failed synchronisation asks nothing from then on and leaves the connection open, so it is ended from here.
    pub(super) async fn answer_all(
        mut self,
        mut arrived: mpsc::Receiver<Arrived>,
        out: mpsc::Sender<Outgoing>,
    ) -> SessionEnd {
        while let Some(Arrived { message, at }) = arrived.recv().await {
            let stream = message.stream;
            let Answered { method, answer, created } = self.answer(message, at).await;
            let result = match &answer {
                Ok(_) => NriResult::Ok,
                Err(failure) if failure.decided => NriResult::Refused,
                Err(failure) if failure.code == code::DEADLINE_EXCEEDED => NriResult::Timeout,
                Err(_) => NriResult::Failed,
            };
            let time = at.elapsed();
            self.shared.stats.record_answer(method, result, time);
            if let Some((container_id, pod_uid)) = created {
                let exemplar = AnswerExemplar { container_id, pod_uid, time, at: SystemTime::now() };
                self.shared.stats.record_exemplar(exemplar);
            }
            let over = method == NriMethod::Synchronize && answer.is_err();
            let message = match answer {
                Ok(payload) => ttrpc::success(stream, payload),
                Err(failure) => {
                    say(method, &failure);
                    ttrpc::failure(stream, Status { code: failure.code, message: failure.message })
                }
            };
            if out.send(Outgoing { connection: PLUGIN_CONNECTION, message }).await.is_err() {
                break;
            }
            if over {
                return SessionEnd::NotSynchronized;
            }
        }
        SessionEnd::Closed
    }

    async fn answer(&mut self, message: RawMessage, at: Instant) -> Answered {
        let request = match Request::decode(message.body.as_slice()) {
            Ok(request) => request,
            Err(error) => {
                let failure = Failure::defect(code::INVALID_ARGUMENT, format!("not a ttrpc request: {error}"));
                return Answered { method: NriMethod::Other, answer: Err(failure), created: None };
            }
        };
        let method = requests::method(&request);
        if message.stream.is_multiple_of(2) {
            let answer = Err(Failure::defect(code::INVALID_ARGUMENT, "ids of a client's streams are odd"));
            return Answered { method, answer, created: None };
        }
        let deadline = at + limit(self.shared.answer_limit, request.timeout_nano);
        let mut created = None;
        let answer = match requests::asked(&request) {
            Err(failure) => Err(failure),
            Ok(Asked::Nothing) => Ok(Vec::new()),
            Ok(Asked::Shutdown) => {
                info!("the container runtime is ending");
                Ok(Vec::new())
            }
            Ok(Asked::Configure(configure)) => Ok(self.configure(&configure)),
            Ok(Asked::Synchronize(chunk)) => {
                // No container waits for this one, so it may take what the runtime grants.
                let deadline = at + limit(self.shared.answer_limit * 3, request.timeout_nano);
                self.synchronize(chunk, request.payload.len(), deadline).await
            }
            Ok(Asked::Call(call)) => {
                if let (Call::Create(sandbox, container), true) = (&*call, self.shared.stats.keeps_exemplars()) {
                    created = Some((container.id.0.clone(), sandbox.uid.0.clone()));
                }
                self.shared.answers.answer(*call, deadline).await
            }
        };
        Answered { method, answer, created }
    }

    fn configure(&mut self, told: &nri::ConfigureRequest) -> Vec<u8> {
        let peer = version::peer(&told.runtime_name, &told.runtime_version, &told.nri_version);
        let events = version::event_mask(peer.nri);
        let nri = peer.nri.map(|(major, minor, patch)| format!("{major}.{minor}.{patch}"));
        info!(runtime = peer.name, version = peer.version, nri, "the container runtime has taken the plugin on");
        self.shared.answers.tell(Call::Connected(peer.clone()));
        self.peer = Some(peer);
        nri::ConfigureResponse { events }.encode_to_vec()
    }

    /// Every chunk but the last is answered at once: all of them share one deadline of the runtime.
    async fn synchronize(&mut self, chunk: nri::SynchronizeRequest, bytes: usize, deadline: Instant) -> Answer {
        self.synchronized_bytes = self.synchronized_bytes.saturating_add(bytes);
        if self.synchronized_bytes > MAX_SYNCHRONIZED_BYTES {
            self.take_synchronized();
            return Err(Failure::defect(code::RESOURCE_EXHAUSTED, "more is synchronised than trimtab can hold"));
        }
        self.synchronized.pods.extend(chunk.pods);
        self.synchronized.containers.extend(chunk.containers);
        if chunk.more {
            return Ok(nri::SynchronizeResponse { update: Vec::new(), more: true }.encode_to_vec());
        }
        let all = self.take_synchronized();
        let sandboxes = all.pods.into_iter().map(|pod| convert::sandbox(pod, true)).collect();
        let containers = all.containers.into_iter().map(convert::container).collect();
        let answer = self.shared.answers.answer(Call::Synchronize(sandboxes, containers), deadline).await;
        if let (Ok(_), Some(peer)) = (&answer, &self.peer) {
            self.shared.stats.record_connected(true);
            self.shared.live.send_replace(Some(Live { caller: self.caller.clone(), peer: peer.clone() }));
        }
        answer
    }

    fn take_synchronized(&mut self) -> nri::SynchronizeRequest {
        self.synchronized_bytes = 0;
        std::mem::take(&mut self.synchronized)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if self.peer.is_some() {
            self.shared.answers.tell(Call::Disconnected);
        }
    }
}

/// How long an answer may take: three quarters of the runtime's patience at most, so that it hears of the error in time.
fn limit(most: Duration, timeout_nano: i64) -> Duration {
    let patience = u64::try_from(timeout_nano).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
    patience.map_or(most, |patience| most.min(patience / 4 * 3))
}

fn say(method: NriMethod, failure: &Failure) {
    let method = method.as_str();
    if failure.decided || failure.code == code::UNIMPLEMENTED {
        debug!(method, failure.message, "answered with a refusal");
    } else {
        warn!(method, failure.code, failure.message, "answered the container runtime with an error");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::nri::ANSWER_LIMIT;

    #[test]
    fn an_answer_takes_no_longer_than_half_a_second_and_than_the_runtime_waits() {
        let rows = [
            (0, ANSWER_LIMIT),
            (-5, ANSWER_LIMIT),
            (2_000_000_000, ANSWER_LIMIT),
            (200_000_000, Duration::from_millis(150)),
            (i64::MAX, ANSWER_LIMIT),
        ];
        for (patience, expected) in rows {
            assert_eq!(limit(ANSWER_LIMIT, patience), expected, "{patience}");
        }
    }
}
