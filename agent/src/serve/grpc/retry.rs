//! A refusal that says when to try again, in a form that clients read (`google.rpc.RetryInfo`).

use prost::Message;
use prost_types::{Any, Duration};
use tonic::{Code, Status};

/// When a call may be tried again: ten calls of the default rate later.
const LATER: Duration = Duration { seconds: 0, nanos: 100_000_000 };

/// `google.rpc.Status` (google/rpc/status.proto), the form of `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.RetryInfo` (google/rpc/error_details.proto).
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

/// RESOURCE_EXHAUSTED, to be tried again soon.
pub(super) fn later(message: String) -> Status {
    let value = RetryInfo { retry_delay: Some(LATER) }.encode_to_vec();
    let info = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value };
    let code = Code::ResourceExhausted;
    let details = RichStatus { code: code.into(), message: message.clone(), details: vec![info] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_have_the_bytes_of_the_published_messages() {
        let status = later("m".into());
        let mut expected = vec![0x08, 8, 0x12, 1, b'm', 0x1a, 51, 0x0a, 40];
        expected.extend(b"type.googleapis.com/google.rpc.RetryInfo");
        expected.extend([0x12, 7, 0x0a, 5, 0x10, 0x80, 0xc2, 0xd7, 0x2f]);
        assert_eq!(status.details(), expected);
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "m"));
    }
}
