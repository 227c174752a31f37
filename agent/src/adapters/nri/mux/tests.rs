//! Frames under any split, and frames that cannot be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// Everything that comes out of `bytes` when they arrive in pieces of the given lengths, joined per connection.
fn read_in_pieces(bytes: &[u8], lengths: &[usize]) -> Result<Vec<(u32, Vec<u8>)>, OversizedFrame> {
    let mut demux = Demux::default();
    let mut streams: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut rest = bytes;
    let mut lengths = lengths.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let (mut arrived, later) = rest.split_at(lengths.next().unwrap().clamp(1, rest.len()));
        rest = later;
        while let Some(piece) = demux.next(&mut arrived)? {
            assert!(!piece.bytes.is_empty());
            match streams.iter_mut().find(|(connection, _)| *connection == piece.connection) {
                Some((_, stream)) => stream.extend_from_slice(piece.bytes),
                None => streams.push((piece.connection, piece.bytes.to_vec())),
            }
        }
        assert!(arrived.is_empty());
    }
    Ok(streams)
}

fn frame(connection: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&connection.to_be_bytes()[..], &length.to_be_bytes(), payload].concat()
}

#[test]
fn no_frame_is_longer_than_the_runtimes_buffer() {
    for length in [0, 1, 4087, 4088, 4089, 8176, 8177, 100_000] {
        let message: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut bytes = Vec::new();
        write_frames(PLUGIN_CONNECTION, &message, &mut bytes);
        let mut at = 0;
        while at < bytes.len() {
            let payload = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
            assert!(payload > 0 && payload + HEADER_BYTES <= MAX_FRAME_BYTES, "{payload} bytes of {length}");
            at += HEADER_BYTES + payload;
        }
        assert_eq!(at, bytes.len());
        let expected = if length == 0 { vec![] } else { vec![(PLUGIN_CONNECTION, message)] };
        assert_eq!(read_in_pieces(&bytes, &[]), Ok(expected), "{length}");
    }
}

#[test]
fn empty_frames_are_skipped() {
    let bytes = [frame(1, b""), frame(2, b""), frame(1, b"a"), frame(1, b""), frame(1, b"b")].concat();
    assert_eq!(read_in_pieces(&bytes, &[3, 3, 3]), Ok(vec![(1, b"ab".to_vec())]));
}

#[test]
fn longest_frame_is_read_and_a_longer_one_is_refused_before_any_of_it_has_come() {
    let longest = vec![7; MAX_RECEIVED_PAYLOAD];
    assert_eq!(read_in_pieces(&frame(1, &longest), &[10, 70_000]), Ok(vec![(1, longest)]));
    for length in [MAX_RECEIVED_PAYLOAD + 1, u32::MAX as usize] {
        let header = [1_u32.to_be_bytes(), u32::try_from(length).unwrap().to_be_bytes()].concat();
        assert_eq!(read_in_pieces(&header, &[]), Err(OversizedFrame { connection: 1, length }));
    }
}

proptest! {
    #[test]
    fn streams_are_the_same_however_the_bytes_are_split(
        frames in prop::collection::vec((0_u32..5, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        lengths in prop::collection::vec(1_usize..30, 0..60),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(connection, payload)| frame(*connection, payload)).collect();
        let mut whole = read_in_pieces(&bytes, &[]).unwrap();
        let mut split = read_in_pieces(&bytes, &lengths).unwrap();
        whole.sort();
        split.sort();
        prop_assert_eq!(&whole, &split);
        for (connection, stream) in whole {
            let sent: Vec<u8> =
                frames.iter().filter(|(id, _)| *id == connection).flat_map(|(_, payload)| payload.clone()).collect();
            prop_assert_eq!(stream, sent);
        }
    }

    #[test]
    fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1_usize..20) {
        let split = read_in_pieces(&bytes, &vec![cut; 300]);
        prop_assert_eq!(split.is_ok(), read_in_pieces(&bytes, &[]).is_ok());
    }
}
