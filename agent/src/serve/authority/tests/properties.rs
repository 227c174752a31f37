//! Any client that keeps to the protocol arrives, however its bytes are cut; bytes of any other kind do no harm.

use super::*;

/// One action of a client that keeps to the protocol.
#[derive(Debug, Clone)]
enum Sent {
    Request { fields: Fields, cuts: Vec<usize>, padding: u8, priority: bool },
    Other { kind: u8, flags: u8, payload: Vec<u8> },
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let field = (prop_oneof!["[a-z-]{1,12}", Just(":authority".to_owned())], "[ -~]{0,40}")
        .prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()));
    prop_oneof![
        3 => (vec(field, 0..12), vec(0..200_usize, 0..4), any::<u8>(), any::<bool>())
            .prop_map(|(fields, cuts, padding, priority)| Sent::Request { fields, cuts, padding, priority }),
        2 => (prop_oneof![Just(0_u8), Just(2), Just(3), Just(4), Just(6), Just(7), Just(8), 10_u8..],
              any::<u8>(), vec(any::<u8>(), 0..300))
            .prop_map(|(kind, flags, payload)| Sent::Other { kind, flags, payload }),
    ]
}

/// The bytes of the client, and what the server should see of them: other frames, and header lists.
fn play(actions: &[Sent]) -> (Vec<u8>, Vec<Fields>, Vec<Vec<u8>>) {
    let mut encoder = Encoder::new();
    let (mut bytes, mut lists, mut others) = (PREFACE.to_vec(), Vec::new(), Vec::new());
    for (number, action) in actions.iter().enumerate() {
        let stream = u32::try_from(number).expect("few") * 2 + 1;
        match action {
            Sent::Other { kind, flags, payload } => {
                let frame = frame(*kind, *flags, stream, payload);
                bytes.extend(&frame);
                others.push(frame);
            }
            Sent::Request { fields, cuts, padding, priority } => {
                let block = encode(&mut encoder, fields);
                bytes.extend(block_frames(&block, cuts, *padding, *priority, stream));
                let expected = fields.iter().map(|(name, value)| {
                    let refused = axum::http::uri::Authority::try_from(&value[..]).is_err();
                    let value = if name == b":authority" && refused { b"localhost".to_vec() } else { value.clone() };
                    (name.clone(), value)
                });
                lists.push(expected.collect());
            }
        }
    }
    (bytes, lists, others)
}

/// A block cut into frames at these places.
fn block_frames(block: &[u8], cuts: &[usize], padding: u8, priority: bool, stream: u32) -> Vec<u8> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (block.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(block.len());
    let mut bytes = Vec::new();
    let mut from = 0;
    for (number, to) in cuts.iter().copied().enumerate() {
        let mut flags = if number + 1 == cuts.len() { END_HEADERS } else { 0 };
        let mut payload = block[from..to].to_vec();
        if number == 0 {
            if priority {
                flags |= PRIORITY;
                payload.splice(0..0, [0, 0, 0, 0, 16]);
            }
            if padding > 0 {
                flags |= PADDED;
                payload.insert(0, padding);
                payload.extend(vec![0; usize::from(padding)]);
            }
        }
        bytes.extend(frame(if number == 0 { HEADERS } else { CONTINUATION }, flags, stream, &payload));
        from = to;
    }
    bytes
}

/// The input cut at these places.
fn pieces<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.sort_unstable();
    let mut from = 0;
    let mut pieces: Vec<&[u8]> = Vec::new();
    for to in cuts.into_iter().chain([input.len()]) {
        pieces.push(&input[from..to]);
        from = to;
    }
    pieces
}

proptest! {
    #[test]
    fn every_header_list_and_every_other_frame_arrives(actions in vec(any_sent(), 0..12)) {
        let (input, lists, others) = play(&actions);
        let (bytes, error) = rewrite(&[&input]);
        prop_assert_eq!(error, None);
        prop_assert_eq!(header_lists(&bytes), lists);
        let passed: Vec<_> = parse(&bytes)
            .into_iter()
            .filter(|(kind, ..)| !matches!(*kind, HEADERS | CONTINUATION))
            .map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
            .collect();
        prop_assert_eq!(passed, others);
    }

    #[test]
    fn where_the_stream_is_cut_makes_no_difference(
        actions in vec(any_sent(), 0..8),
        flips in vec((any::<usize>(), any::<u8>()), 0..3),
        cuts in vec(any::<usize>(), 0..20),
    ) {
        let (mut input, ..) = play(&actions);
        for (place, flip) in flips {
            let place = place % input.len();
            input[place] ^= flip;
        }
        let whole = rewrite(&[&input]);
        prop_assert_eq!(&rewrite(&pieces(&input, &cuts)), &whole);
        let bytewise: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&rewrite(&bytewise), &whole);
    }

    #[test]
    fn arbitrary_header_blocks_never_panic(blocks in vec(vec(any::<u8>(), 0..200), 1..6)) {
        let frames: Vec<_> = blocks.iter().map(|block| frame(HEADERS, END_HEADERS, 1, block)).collect();
        rewrite(&[&stream(&frames)]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000), preface in any::<bool>()) {
        let input = if preface { [PREFACE, &bytes].concat() } else { bytes };
        rewrite(&[&input]);
    }
}
