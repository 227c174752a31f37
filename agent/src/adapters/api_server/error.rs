//! What can become of a request, sorted by what to do about it.

use std::error::Error;
use std::time::Duration;

use http::{Response, StatusCode, header};
use kube::client::Body;
use serde_json::Value;

use super::{is_absent, watch};

/// Largest error that is read.
const MAX_ERROR: usize = 64 << 10;
/// A server that says `Retry-After` is believed up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A request to the API server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers, or not in time.
    #[error("the API server does not answer: {detail}")]
    Away {
        /// What happened.
        detail: String,
    },
    /// The server is busy and asks to be left alone for a while; an eviction waits for a budget.
    #[error("the API server asks to be asked later: {detail}")]
    Throttled {
        /// For at least so long.
        after: Duration,
        /// Its words.
        detail: String,
    },
    /// The token is not valid, or not any more.
    #[error("the API server does not know who asks: {detail}; check the ServiceAccount and its token")]
    Unauthorized {
        /// Its words.
        detail: String,
    },
    /// The role does not permit it.
    #[error("the API server does not permit it: {detail}; apply the ClusterRole of this release")]
    Forbidden {
        /// Its words.
        detail: String,
    },
    /// There is no such object, or no such kind.
    #[error("not found: {detail}")]
    Absent {
        /// Its words.
        detail: String,
    },
    /// Somebody else has changed or made the object.
    #[error("somebody else was faster: {detail}")]
    Conflict {
        /// Its words.
        detail: String,
    },
    /// The history does not reach back so far: list again.
    #[error("the resource version is too old: {detail}")]
    Gone {
        /// Its words.
        detail: String,
    },
    /// It will never be done in this form.
    #[error("the API server refuses it ({code}): {detail}")]
    Refused {
        /// Status code.
        code: u16,
        /// Its words.
        detail: String,
    },
    /// Something is wrong with the server; it may do it later.
    #[error("the API server has failed ({code}): {detail}")]
    Failed {
        /// Status code.
        code: u16,
        /// Its words.
        detail: String,
    },
    /// The answer is none of an API server: a proxy's page, a cut text.
    #[error("not understood: {detail}")]
    Garbled {
        /// What is odd.
        detail: String,
    },
}

impl ApiError {
    pub(super) fn late(patience: Duration) -> Self {
        Self::Away { detail: format!("nothing within {} s", patience.as_secs()) }
    }

    /// With the chain of causes: the outermost says only that a request has failed.
    pub(super) fn away(error: &kube::Error) -> Self {
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !detail.contains(&text) {
                detail = format!("{detail}: {text}");
            }
            cause = error.source();
        }
        Self::Away { detail }
    }

    /// An error that a watch tells in its stream.
    pub(super) fn of_status(status: &Value) -> Self {
        let code = status.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        sort(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), words(status), None)
    }
}

/// The error that an answer is.
pub(super) async fn of_answer(response: Response<Body>) -> ApiError {
    let status = response.status();
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let text = watch::collect(response.into_body(), MAX_ERROR).await.unwrap_or_default();
    let detail = match serde_json::from_slice::<Value>(&text) {
        Ok(status) => words(&status),
        Err(_) => String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).take(200).collect(),
    };
    sort(status, detail, seconds.map(Duration::from_secs))
}

fn words(status: &Value) -> String {
    let text = |field: &str| status.get(field).and_then(Value::as_str).unwrap_or_default();
    let message: String = text("message").chars().filter(|c| !c.is_control()).take(500).collect();
    if message.is_empty() { text("reason").to_owned() } else { message }
}

fn sort(status: StatusCode, detail: String, retry_after: Option<Duration>) -> ApiError {
    let code = status.as_u16();
    match code {
        401 => ApiError::Unauthorized { detail },
        403 => ApiError::Forbidden { detail },
        _ if is_absent(status) => ApiError::Absent { detail },
        409 => ApiError::Conflict { detail },
        410 => ApiError::Gone { detail },
        429 => {
            let after = retry_after.unwrap_or(Duration::from_secs(1)).min(LONGEST_RETRY_AFTER);
            ApiError::Throttled { after, detail }
        }
        // 503 and the like with a time to come back are throttling, too.
        500.. => match retry_after {
            Some(after) => ApiError::Throttled { after: after.min(LONGEST_RETRY_AFTER), detail },
            None => ApiError::Failed { code, detail },
        },
        _ => ApiError::Refused { code, detail },
    }
}
