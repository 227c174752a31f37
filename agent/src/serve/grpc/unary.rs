//! One unary call on raw messages: an answer that many clients ask for is encoded once and shared, never copied.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MAX_REQUEST_BYTES, Refused, status};

/// Flag and length in front of each message (gRPC over HTTP/2, "Length-Prefixed-Message").
pub(crate) const PREFIX_BYTES: usize = 5;

/// Metadata: age of the kubelet's part of an answer, in milliseconds; absent where it has none.
const KUBELET_AGE: HeaderName = HeaderName::from_static("trimtab-kubelet-age-ms");
/// Metadata: why the kubelet's part is not newer; absent while the kubelet answers.
const KUBELET_AWAY: HeaderName = HeaderName::from_static("trimtab-kubelet-away");

/// A framed answer and what its metadata says.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// With its prefix.
    pub(crate) message: Bytes,
    /// How old the kubelet's part is; `None`: it has no part in it.
    pub(crate) kubelet_age: Option<Duration>,
    /// One word why the kubelet does not answer; `None`: it does, or nobody asks it.
    pub(crate) kubelet_away: Option<&'static str>,
}

impl From<Bytes> for Told {
    /// The kubelet has no part in it.
    fn from(message: Bytes) -> Self {
        Self { message, kubelet_age: None, kubelet_away: None }
    }
}

/// Writes what stands in front of a message of this length.
pub(crate) fn put_prefix(bytes: &mut BytesMut, length: usize) {
    debug_assert!(u32::try_from(length).is_ok(), "an answer about one node is far below 4 GiB");
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// A message with its prefix, ready for the wire.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    frame_encoded(&message.encode_to_vec())
}

/// The same for a message that is encoded already.
pub(crate) fn frame_encoded(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    put_prefix(&mut bytes, message.len());
    bytes.put_slice(message);
    bytes.freeze()
}

/// Reads the one message of a unary request.
///
/// # Errors
/// [`Refused`] if the message is too large, compressed, cut short, followed by another, or not of this type.
pub(crate) async fn read<Q, B>(body: B) -> Result<Q, Refused>
where
    Q: Message + Default,
    B: Body,
{
    let bytes = collect(body).await?;
    let malformed = |detail: &str| Refused::Malformed { detail: detail.to_owned() };
    let (flag, rest) = bytes.split_first().ok_or_else(|| malformed("no message was sent"))?;
    if *flag != 0 {
        return Err(Refused::Compressed);
    }
    let (length, message) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("the message has no length"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        return Err(Refused::TooLarge { bytes: length, limit: MAX_REQUEST_BYTES });
    }
    if length != message.len() {
        return Err(malformed("the length in front of the message is not the length of the message"));
    }
    Q::decode(message).map_err(|error| Refused::Malformed { detail: error.to_string() })
}

/// The whole body, as long as it stays within the limit.
async fn collect<B: Body>(body: B) -> Result<Bytes, Refused> {
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refused::Malformed { detail: "the request was cut short".to_owned() })?;
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len().saturating_add(data.remaining());
        if length > PREFIX_BYTES + MAX_REQUEST_BYTES {
            return Err(Refused::TooLarge { bytes: length - PREFIX_BYTES, limit: MAX_REQUEST_BYTES });
        }
        bytes.put(data);
    }
    Ok(bytes.freeze())
}

/// The response for an answer or a refusal.
pub(crate) fn respond(answer: Result<impl Into<Told>, Refused>) -> Response<tonic::body::Body> {
    match answer.map(Into::into) {
        Ok(Told { message, kubelet_age, kubelet_away }) => {
            let mut response =
                Response::new(tonic::body::Body::new(OneMessage { message: Some(message), ended: false }));
            let headers = response.headers_mut();
            headers.insert(axum::http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            if let Some(age) = kubelet_age {
                headers.insert(KUBELET_AGE, u64::try_from(age.as_millis()).unwrap_or(u64::MAX).into());
            }
            if let Some(away) = kubelet_away {
                headers.insert(KUBELET_AWAY, HeaderValue::from_static(away));
            }
            response
        }
        Err(refused) => status(&refused).into_http(),
    }
}

/// One shared message, then `grpc-status: 0`.
struct OneMessage {
    message: Option<Bytes>,
    ended: bool,
}

impl Body for OneMessage {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
