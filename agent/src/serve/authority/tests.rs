//! The rewriter on byte streams: what passes, what is replaced, what ends the connection, however it is cut.

mod properties;

use fluke_hpack::{Decoder, Encoder};
use proptest::collection::vec;
use proptest::prelude::*;

use super::frames::{FrameRewriter, MAX_FRAME_BYTES};
use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const RAW_PATH: &[u8] = b"%2Fvar%2Flib%2Fkubelet%2Fpod-resources%2Fkubelet.sock";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What the server would read: the rewritten bytes, and the error that ends them.
fn rewrite(input: &[&[u8]]) -> (Vec<u8>, Option<Malformed>) {
    let mut rewriter = FrameRewriter::new();
    let mut all = Vec::new();
    for piece in input {
        let mut rest = *piece;
        while !rest.is_empty() {
            let mut ready = Vec::new();
            let result = rewriter.push(rest, &mut ready);
            all.extend(ready);
            match result {
                Ok(left) => rest = left,
                Err(malformed) => return (all, Some(malformed)),
            }
        }
    }
    (all, None)
}

/// Frames of a stream that begins with the preface: type, flags, stream, payload.
fn parse(bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut rest = bytes.strip_prefix(PREFACE).expect("the preface passes");
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
        frames.push((rest[3], rest[4], stream, rest[9..9 + length].to_vec()));
        rest = &rest[9 + length..];
    }
    frames
}

/// The header lists of a rewritten stream, decoded without any table from one block to the next.
fn header_lists(bytes: &[u8]) -> Vec<Fields> {
    let mut lists = Vec::new();
    let mut block = Vec::new();
    for (kind, flags, _, payload) in parse(bytes) {
        if matches!(kind, HEADERS | CONTINUATION) {
            assert_eq!(flags & (PADDED | PRIORITY), 0, "neither padding nor priority is left");
            block.extend(payload);
            if flags & END_HEADERS != 0 {
                lists.push(Decoder::new().decode(&std::mem::take(&mut block)).expect("needs no table"));
            }
        }
    }
    lists
}

fn request(authority: &[u8]) -> Fields {
    [
        (&b":method"[..], &b"POST"[..]),
        (b":scheme", b"http"),
        (b":path", b"/v1.PodResourcesLister/List"),
        (b":authority", authority),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    .map(|(name, value)| (name.to_vec(), value.to_vec()))
    .to_vec()
}

fn encode(encoder: &mut Encoder<'_>, fields: &Fields) -> Vec<u8> {
    encoder.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])))
}

fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    put(name, &mut bytes);
    put(value, &mut bytes);
    bytes
}

fn put(text: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend(fluke_hpack::encoder::encode_integer(text.len(), 7));
    bytes.extend(text);
}

fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frames.concat()].concat()
}

#[test]
fn raw_path_becomes_localhost_and_the_rest_stays() {
    let mut encoder = Encoder::new();
    let block = encode(&mut encoder, &request(RAW_PATH));
    let (bytes, error) = rewrite(&[&stream(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)])]);
    assert_eq!(error, None);
    assert_eq!(header_lists(&bytes), [request(b"localhost")]);
    assert_eq!(parse(&bytes)[0].1, END_HEADERS | END_STREAM);
    assert_eq!(parse(&bytes)[0].2, 1);
}

#[test]
fn authority_stays_if_the_server_accepts_it() {
    let rows: [(&[u8], &[u8]); 10] = [
        (b"localhost", b"localhost"),
        (b"node-1.example:443", b"node-1.example:443"),
        (b"[::1]:80", b"[::1]:80"),
        (b"%2Ftmp%2Fs", b"localhost"),
        (b"", b"localhost"),
        (b"/run/s", b"localhost"),
        (b"a b", b"localhost"),
        (b"unix:///run/s", b"localhost"),
        (b"\xff\xfe", b"localhost"),
        (b"host:80:90", b"localhost"),
    ];
    for (sent, expected) in rows {
        let block = encode(&mut Encoder::new(), &request(sent));
        let (bytes, _) = rewrite(&[&stream(&[frame(HEADERS, END_HEADERS, 1, &block)])]);
        assert_eq!(header_lists(&bytes), [request(expected)], "{}", String::from_utf8_lossy(sent));
    }
}

#[test]
fn table_is_kept_over_requests_and_trailers() {
    let mut encoder = Encoder::new();
    let mut frames = Vec::new();
    let trailers = vec![(b"x-checksum".to_vec(), b"%2F".to_vec())];
    for stream in [1, 3, 5] {
        let block = encode(&mut encoder, &request(RAW_PATH));
        frames.push(frame(HEADERS, END_HEADERS, stream, &block));
        frames.push(frame(DATA, 0, stream, b"\0\0\0\0\0"));
        let block = encode(&mut encoder, &trailers);
        frames.push(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
    }
    let (bytes, error) = rewrite(&[&stream(&frames)]);
    assert_eq!(error, None);
    let one = [request(b"localhost"), trailers];
    assert_eq!(header_lists(&bytes), [one.clone(), one.clone(), one].concat());
}

#[test]
fn table_size_update_is_obeyed_and_not_passed_on() {
    let resize = [&[0x20][..], &fluke_hpack::encoder::encode_integer(256, 5)].concat();
    let mut resize = resize;
    resize[1] |= 0x20;
    let first = encode(&mut Encoder::new(), &request(RAW_PATH));
    let again = encode(&mut Encoder::new(), &request(RAW_PATH));
    let frames = [frame(HEADERS, END_HEADERS, 1, &first), frame(HEADERS, END_HEADERS, 3, &[resize, again].concat())];
    let (bytes, error) = rewrite(&[&stream(&frames)]);
    assert_eq!(error, None);
    assert_eq!(header_lists(&bytes), [request(b"localhost"), request(b"localhost")]);

    let too_large = [&[0x3f, 0xe2, 0x1f][..], &first].concat();
    let (_, error) = rewrite(&[&stream(&[frame(HEADERS, END_HEADERS, 1, &too_large)])]);
    assert!(matches!(error, Some(Malformed::Compression { .. })), "4097 bytes: {error:?}");
}

#[test]
fn padding_priority_and_continuation_are_undone() {
    let block = encode(&mut Encoder::new(), &request(RAW_PATH));
    let (a, rest) = block.split_at(10);
    let (b, c) = rest.split_at(7);
    let mut head = vec![9];
    head.extend([0x80, 0, 0, 3, 200]);
    head.extend(a);
    head.extend([0; 9]);
    let frames = [
        frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &head),
        frame(CONTINUATION, 0, 1, b),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 1, c),
    ];
    let (bytes, error) = rewrite(&[&stream(&frames)]);
    assert_eq!(error, None);
    assert_eq!(header_lists(&bytes), [request(b"localhost")]);
    assert_eq!(parse(&bytes).len(), 1, "one frame suffices");
    assert_eq!(parse(&bytes)[0].1, END_STREAM | END_HEADERS);
}

#[test]
fn block_that_grows_beyond_a_frame_is_split() {
    let long = vec![b'x'; 5000];
    let mut fields = request(RAW_PATH);
    for name in [b"a", b"b", b"c", b"d"] {
        fields.push((name.to_vec(), long.clone()));
    }
    let block = encode(&mut Encoder::new(), &fields);
    let (first, rest) = block.split_at(MAX_FRAME_BYTES);
    let frames = [frame(HEADERS, 0, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest), frame(PING, 0, 0, &[7; 8])];
    let (bytes, error) = rewrite(&[&stream(&frames)]);
    assert_eq!(error, None);
    let mut expected = request(b"localhost");
    expected.extend(fields.split_off(6));
    assert_eq!(header_lists(&bytes), [expected]);
    let sizes: Vec<_> = parse(&bytes).iter().map(|(kind, flags, _, payload)| (*kind, *flags, payload.len())).collect();
    assert_eq!(sizes[0], (HEADERS, 0, MAX_FRAME_BYTES));
    assert_eq!((sizes[1].0, sizes[1].1), (CONTINUATION, END_HEADERS));
    assert_eq!(sizes[2], (PING, 0, 8));
}

#[test]
fn other_frames_pass_byte_for_byte() {
    let frames = [
        frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]),
        frame(SETTINGS, 1, 0, b""),
        frame(DATA, PADDED, 1, &[2, b'x', 0, 0]),
        frame(PING, 0, 0, b"12345678"),
        frame(0xfa, 0xff, 0x8000_0001, &[9; 300]),
        frame(DATA, 0, 1, &vec![1; MAX_FRAME_BYTES + 1]),
    ];
    let input = stream(&frames);
    assert_eq!(rewrite(&[&input]), (input.clone(), None));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn malformed_streams_end_with_their_error() {
    let block = encode(&mut Encoder::new(), &request(RAW_PATH));
    let hpack = |bytes: &[u8]| stream(&[frame(HEADERS, END_HEADERS, 1, bytes)]);
    let compression = |detail: &str| Malformed::Compression { detail: detail.to_owned() };
    let table_entry = literal_indexed(b"n", &[b'v'; 3000]);
    let bomb = [table_entry, vec![0x80 | 62; 20]].concat();
    let rows: Vec<(&str, Vec<u8>, Malformed)> = vec![
        ("HTTP/1", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Malformed::Preface),
        ("preface cut wrong", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec(), Malformed::Preface),
        (
            "DATA inside a block",
            stream(&[frame(HEADERS, 0, 1, &block), frame(DATA, 0, 1, b"")]),
            Malformed::Interleaved { kind: DATA },
        ),
        (
            "HEADERS inside a block",
            stream(&[frame(HEADERS, 0, 1, &block), frame(HEADERS, END_HEADERS, 3, &block)]),
            Malformed::Interleaved { kind: HEADERS },
        ),
        (
            "CONTINUATION of another stream",
            stream(&[frame(HEADERS, 0, 1, &block), frame(CONTINUATION, END_HEADERS, 3, b"")]),
            Malformed::Interleaved { kind: CONTINUATION },
        ),
        (
            "CONTINUATION of nothing",
            stream(&[frame(CONTINUATION, END_HEADERS, 1, &block)]),
            Malformed::NothingToContinue,
        ),
        ("push", stream(&[frame(PUSH_PROMISE, END_HEADERS, 1, &block)]), Malformed::Push),
        (
            "large HEADERS frame",
            stream(&[frame(HEADERS, END_HEADERS, 1, &vec![0; MAX_FRAME_BYTES + 1])]),
            Malformed::FrameTooLarge { bytes: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES },
        ),
        ("padding without length", stream(&[frame(HEADERS, PADDED | END_HEADERS, 1, b"")]), Malformed::Padding),
        (
            "more padding than payload",
            stream(&[frame(HEADERS, PADDED | END_HEADERS, 1, &[3, 0, 0])]),
            Malformed::Padding,
        ),
        ("priority cut short", stream(&[frame(HEADERS, PRIORITY | END_HEADERS, 1, &[0; 4])]), Malformed::Padding),
        (
            "flood of empty CONTINUATION frames",
            stream(&[vec![frame(HEADERS, 0, 1, &block)], vec![frame(CONTINUATION, 0, 1, b""); 32]].concat()),
            Malformed::BlockTooLarge { bytes: 32 * 1024, frames: 32 },
        ),
        (
            "block of more than 32 KiB",
            stream(&[vec![frame(HEADERS, 0, 1, &block)], vec![frame(CONTINUATION, 0, 1, &[0; 16_000]); 3]].concat()),
            Malformed::BlockTooLarge { bytes: 32 * 1024, frames: 32 },
        ),
        ("few bytes that mean many", hpack(&bomb), Malformed::ListTooLarge { bytes: 32 * 1024, fields: 128 }),
        ("many fields", hpack(&[0x82; 129]), Malformed::ListTooLarge { bytes: 32 * 1024, fields: 128 }),
        ("index 0", hpack(&[0x80]), compression("HeaderIndexOutOfBounds")),
        ("index beyond the table", hpack(&[0x80 | 62]), compression("HeaderIndexOutOfBounds")),
        ("name index beyond the table", hpack(&[0x40 | 62, 1, b'x']), compression("HeaderIndexOutOfBounds")),
        ("size update cut short", hpack(&[0x82, 0x3f]), Malformed::CutShort),
        ("string cut short", hpack(&[0x00, 5, b'a']), Malformed::CutShort),
        ("no value", hpack(&[0x00, 1, b'a']), Malformed::CutShort),
        ("integer cut short", hpack(&[0xff, 0x80]), Malformed::CutShort),
        (
            "integer of six bytes",
            hpack(&[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            compression("an integer of more than five bytes"),
        ),
        (
            "Huffman code with too much padding",
            hpack(&[0x00, 0x82, 0xff, 0xff, 0]),
            compression("StringDecodingError(HuffmanDecoderError(PaddingTooLarge))"),
        ),
        ("size update at the end", hpack(&[0x82, 0x20]), compression("SizeUpdateAtEnd")),
    ];
    for (name, input, expected) in rows {
        let (_, error) = rewrite(&[&input]);
        assert_eq!(error, Some(expected), "{name}");
    }
}

/// A field that enters the table.
fn literal_indexed(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = literal(name, value);
    bytes[0] = 0x40;
    bytes
}

#[test]
fn sound_frames_before_an_error_are_delivered() {
    let block = encode(&mut Encoder::new(), &request(RAW_PATH));
    let sound = frame(HEADERS, END_HEADERS, 1, &block);
    let (bytes, error) = rewrite(&[&stream(&[sound, frame(HEADERS, END_HEADERS, 3, &[0x80])])]);
    assert!(error.is_some());
    assert_eq!(header_lists(&bytes), [request(b"localhost")]);
}

#[test]
fn what_waits_for_the_server_is_bounded() {
    let block = literal_indexed(b"n", &[b'v'; 3000]);
    let first = frame(HEADERS, END_HEADERS, 1, &block);
    let refers: Vec<_> = (0..2000).map(|_| frame(HEADERS, END_HEADERS, 3, &[0x80 | 62; 10])).collect();
    let input = stream(&[vec![first], refers].concat());
    let mut rewriter = FrameRewriter::new();
    let mut rest = &input[..];
    let mut total = 0;
    while !rest.is_empty() {
        let mut ready = Vec::new();
        rest = rewriter.push(rest, &mut ready).expect("each block is within the limits");
        assert!(ready.len() < 48 * 1024, "{} bytes at once", ready.len());
        total += ready.len();
    }
    assert!(total > 50_000_000, "60 MB in all came from 40 kB");
}

#[tokio::test]
async fn stream_tells_sound_bytes_then_the_error_again_and_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let block = encode(&mut Encoder::new(), &request(RAW_PATH));
    let sound = stream(&[frame(HEADERS, END_HEADERS, 1, &block)]);
    client.write_all(&sound).await.expect("room");
    client.write_all(&frame(PUSH_PROMISE, END_HEADERS, 1, b"")).await.expect("room");
    let mut stream = AuthorityStream::new(server);
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).await.expect_err("malformed");
    assert!(is_malformed(&error));
    assert_eq!(header_lists(&bytes), [request(b"localhost")]);
    let error = stream.read(&mut [0; 10]).await.expect_err("still malformed");
    assert_eq!(error.to_string(), "a client cannot push (frame PUSH_PROMISE)");
    assert!(!is_malformed(&io::Error::other("reset")));
}
