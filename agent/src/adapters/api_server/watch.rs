//! The stream of a watch: one JSON object per line.

use std::pin::Pin;
use std::time::Duration;

use http_body::Body as _;
use kube::client::Body;
use serde_json::Value;

use super::error::ApiError;

/// Longest line: an object of etcd's 1.5 MiB with room for escapes.
const MAX_LINE: usize = 8 << 20;
/// A server that has once sent a bookmark sends one a minute; one that does not send three is gone without a word.
const BOOKMARK_PATIENCE: Duration = Duration::from_secs(200);

/// One thing that a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// An object is new or has changed.
    Is(Value),
    /// An object is gone; as it was last.
    Gone(Value),
    /// Nothing happened until this resource version.
    Bookmark(String),
}

/// An open watch.
pub struct Watch {
    body: Pin<Box<Body>>,
    buffer: Vec<u8>,
    /// How much of the buffer has been searched for the end of a line.
    searched: usize,
    has_bookmarks: bool,
}

impl Watch {
    pub(super) fn new(body: Body) -> Self {
        Self { body: Box::pin(body), buffer: Vec::new(), searched: 0, has_bookmarks: false }
    }

    /// The next event; `None` once the server has ended the watch, as it does after its time.
    ///
    /// # Errors
    /// [`ApiError::Gone`] if the collection must be listed again, [`ApiError::Away`] if the connection broke or fell
    /// silent.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ApiError> {
        loop {
            if let Some(line) = self.take_line() {
                return self.read(&line).map(Some);
            }
            let patience = if self.has_bookmarks { BOOKMARK_PATIENCE } else { Duration::MAX };
            let frame = match tokio::time::timeout(patience, frame(self.body.as_mut())).await {
                Ok(frame) => frame?,
                Err(_) => return Err(ApiError::late(patience)),
            };
            let Some(data) = frame else { return Ok(None) };
            if self.buffer.len() + data.len() > MAX_LINE {
                return Err(ApiError::Garbled { detail: format!("a line of more than {MAX_LINE} bytes") });
            }
            self.buffer.extend_from_slice(&data);
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let unsearched = self.buffer.get(self.searched..)?;
        let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
        line.pop();
        self.searched = 0;
        if self.buffer.is_empty() {
            // A profile of a megabyte must not leave its buffer behind.
            self.buffer = Vec::new();
        }
        Some(line)
    }

    fn read(&mut self, line: &[u8]) -> Result<WatchEvent, ApiError> {
        let garbled = |detail: String| ApiError::Garbled { detail };
        let mut event: Value = serde_json::from_slice(line).map_err(|error| garbled(error.to_string()))?;
        let object = event.get_mut("object").map(Value::take).unwrap_or_default();
        match event.get("type").and_then(Value::as_str) {
            Some("ADDED" | "MODIFIED") => Ok(WatchEvent::Is(object)),
            Some("DELETED") => Ok(WatchEvent::Gone(object)),
            Some("BOOKMARK") => {
                self.has_bookmarks = true;
                Ok(WatchEvent::Bookmark(version(&object)))
            }
            Some("ERROR") => Err(ApiError::of_status(&object)),
            other => Err(garbled(format!("an event of type {other:?}"))),
        }
    }
}

/// `metadata.resourceVersion`; empty if there is none.
#[must_use]
pub(crate) fn version(object: &Value) -> String {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The next piece of a body; `None` at its end.
async fn frame(mut body: Pin<&mut Body>) -> Result<Option<Vec<u8>>, ApiError> {
    loop {
        match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(ApiError::away(&error)),
            // What is not data is trailers, of which there are none.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data.to_vec()));
                }
            }
        }
    }
}

/// A whole body, bounded.
pub(super) async fn collect(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let mut body = Box::pin(body);
    let mut bytes = Vec::new();
    while let Some(data) = frame(body.as_mut()).await? {
        if bytes.len() + data.len() > most {
            return Err(ApiError::Garbled { detail: format!("an answer of more than {most} bytes") });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
