//! Messages under any split, and messages that cannot be.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn read_in_pieces(bytes: &[u8], lengths: &[usize]) -> Result<Vec<RawMessage>, OversizedMessage> {
    let mut reader = MessageReader::default();
    let mut messages = Vec::new();
    let mut rest = bytes;
    let mut lengths = lengths.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let (mut arrived, later) = rest.split_at(lengths.next().unwrap().clamp(1, rest.len()));
        rest = later;
        while let Some(message) = reader.next(&mut arrived)? {
            messages.push(message);
        }
        assert!(arrived.is_empty());
    }
    Ok(messages)
}

fn raw(stream: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0], body].concat()
}

#[test]
fn what_is_written_is_read() {
    let call = Request { service: "s".into(), method: "m".into(), payload: vec![1, 2], timeout_nano: 5 };
    let status = Status { code: code::UNKNOWN, message: "no".into() };
    let bytes = [request(1, &call), success(3, vec![9]), failure(5, status.clone())].concat();
    let read = read_in_pieces(&bytes, &[1, 2, 3]).unwrap();
    let kinds: Vec<_> = read.iter().map(|message| (message.stream, message.kind)).collect();
    assert_eq!(kinds, [(1, Kind::Request), (3, Kind::Response), (5, Kind::Response)]);
    let mut bodies = read.into_iter().map(|message| message.body);
    assert_eq!(Request::decode(&*bodies.next().unwrap()), Ok(call));
    assert_eq!(Response::decode(&*bodies.next().unwrap()), Ok(Response { status: None, payload: vec![9] }));
    assert_eq!(Response::decode(&*bodies.next().unwrap()), Ok(Response { status: Some(status), payload: vec![] }));
}

#[test]
fn a_message_without_a_body_is_a_message() {
    let read = read_in_pieces(&[raw(1, 2, b""), raw(3, 9, b"x")].concat(), &[9, 1]).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!((read.first().unwrap().stream, read.last().unwrap().kind), (1, Kind::Other(9)));
}

#[test]
fn longest_message_is_read_and_a_longer_one_is_refused_before_any_of_it_has_come() {
    let longest = vec![7; MAX_BODY_BYTES];
    let read = read_in_pieces(&raw(1, 1, &longest), &[11, 100_000]).unwrap();
    assert_eq!(read.first().map(|message| message.body.len()), Some(MAX_BODY_BYTES));
    for length in [MAX_BODY_BYTES + 1, u32::MAX as usize] {
        let mut header = raw(7, 1, b"");
        header.splice(..4, u32::try_from(length).unwrap().to_be_bytes());
        assert_eq!(read_in_pieces(&header, &[]), Err(OversizedMessage { stream: 7, length }));
    }
}

#[test]
fn memory_is_taken_as_the_body_comes() {
    let mut reader = MessageReader::default();
    let mut header = raw(1, 1, b"");
    header.splice(..4, u32::try_from(MAX_BODY_BYTES).unwrap().to_be_bytes());
    assert_eq!(reader.next(&mut &*header), Ok(None));
    assert!(reader.open.unwrap().0.body.capacity() <= FIRST_ALLOCATION);
}

proptest! {
    #[test]
    fn messages_are_the_same_however_the_bytes_are_split(
        messages in prop::collection::vec((any::<u32>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..12),
        lengths in prop::collection::vec(1_usize..40, 0..60),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(stream, kind, body)| raw(*stream, *kind, body)).collect();
        let split = read_in_pieces(&bytes, &lengths).unwrap();
        prop_assert_eq!(&split, &read_in_pieces(&bytes, &[]).unwrap());
        prop_assert_eq!(split.len(), messages.len());
        for (read, (stream, _, body)) in split.iter().zip(&messages) {
            prop_assert_eq!((read.stream, &read.body), (*stream, body));
        }
    }

    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1_usize..20) {
        prop_assert_eq!(read_in_pieces(&bytes, &vec![cut; 300]), read_in_pieces(&bytes, &[]));
    }
}
