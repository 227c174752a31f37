//! What the fuzz targets of the agent's own readers do: whatever is read is the same however the bytes arrive, and what
//! is imported is read again.

use trimtab::adapters::conntrack::read_datagram;
use trimtab::adapters::nftables::table;
use trimtab::adapters::nri::mux::{self, Demux};
use trimtab::adapters::nri::ttrpc::{MAX_BODY_BYTES, MessageReader, RawMessage};
use trimtab::profile::ip_masq_agent::{Entry, Reading, flags, import, resolve};
use trimtab_domain::masquerade::{Family, PortRanges, Sample};
use trimtab_domain::spec::ip_masq::Compat;

use crate::replay::Target;

/// Every target of these readers.
pub const TARGETS: [Target; 5] = [
    ("nri_mux", nri_mux),
    ("nri_ttrpc", nri_ttrpc),
    ("ip_masq_agent", ip_masq_agent),
    ("nf_tables", nf_tables),
    ("conntrack", conntrack),
];

/// The first byte says how the rest is cut.
fn cut(data: &[u8]) -> Option<(impl Iterator<Item = &[u8]>, &[u8])> {
    let (length, bytes) = data.split_first()?;
    Some((bytes.chunks(usize::from(*length).max(1)), bytes))
}

/// Frames: pieces of one connection join to the same stream, and what is written is read.
pub fn nri_mux(data: &[u8]) {
    fn read<'a>(arriving: impl Iterator<Item = &'a [u8]>) -> (Vec<(u32, u8)>, bool) {
        let (mut demux, mut bytes) = (Demux::default(), Vec::new());
        for mut arrived in arriving {
            loop {
                match demux.next(&mut arrived) {
                    Ok(Some(piece)) => bytes.extend(piece.bytes.iter().map(|byte| (piece.connection, *byte))),
                    Ok(None) => break,
                    Err(_) => return (bytes, false),
                }
            }
            assert!(arrived.is_empty(), "all that arrived is read");
        }
        (bytes, true)
    }
    let Some((pieces, bytes)) = cut(data) else { return };
    assert_eq!(read(pieces), read(std::iter::once(bytes)));
    let mut frames = Vec::new();
    mux::write_frames(7, bytes, &mut frames);
    assert_eq!(read(std::iter::once(&*frames)), (bytes.iter().map(|byte| (7, *byte)).collect(), true));
}

/// Messages: the same ones come out, and none is longer than is allowed.
pub fn nri_ttrpc(data: &[u8]) {
    fn read<'a>(arriving: impl Iterator<Item = &'a [u8]>) -> (Vec<RawMessage>, bool) {
        let (mut reader, mut messages) = (MessageReader::default(), Vec::new());
        for mut arrived in arriving {
            loop {
                match reader.next(&mut arrived) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => return (messages, false),
                }
            }
            assert!(arrived.is_empty(), "all that arrived is read");
        }
        (messages, true)
    }
    let Some((pieces, bytes)) = cut(data) else { return };
    let whole = read(std::iter::once(bytes));
    assert!(whole.0.iter().all(|message| message.body.len() <= MAX_BODY_BYTES));
    assert_eq!(read(pieces), whole);
}

/// Configurations of the masquerade agents: what one of them accepts becomes a profile that asks for the same.
pub fn ip_masq_agent(data: &[u8]) {
    let file = Reading::File { content: Ok(Some(data.to_vec())), beside: Vec::new() };
    let entry = Entry { name: "ip-masq-agent".to_owned(), content: Ok(data.to_vec()) };
    let directory = Reading::Directory(Ok(vec![entry]));
    for (agent, reading) in [(Compat::KubernetesSigs, file), (Compat::Azure, directory)] {
        let Ok(spec) = flags::parse(agent, &["--enable-ipv6".to_owned()]) else { return };
        let Ok((spec, _)) = resolve(&spec, &reading) else { continue };
        // A profile has a bound where the agents have none.
        if spec.non_masquerade_cidrs.len() > 4096 {
            continue;
        }
        let read = trimtab::profile::parse("imported", import::profile("imported", &spec).as_bytes());
        assert_eq!(read.map(|profile| profile.spec.ip_masq), Ok(Some(spec)));
    }
    let _ = import::files_of_config_map(data);
}

/// Answers of nf_tables, rules first: two bytes say how long those are. Ranges that are understood are ascending and
/// apart, and what is understood is understood again when the kernel would say it in our words.
pub fn nf_tables(data: &[u8]) {
    let Some((length, bytes)) = data.split_first_chunk() else { return };
    let (rules, ranges) = bytes.split_at(usize::from(u16::from_le_bytes(*length)).min(bytes.len()));
    for family in Family::ALL {
        let Some(native) = table::understand(rules, ranges, family) else { continue };
        for pair in native.exempt.windows(2) {
            assert!(pair[0].first <= pair[0].last && pair[0].last + 1 < pair[1].first, "{pair:?}");
        }
        // Sources are a set of their own, which is not among these answers.
        let (rules, ranges) = table::answers(&native, family);
        assert_eq!(table::understand(&rules, &ranges, family), Some(native), "{family}");
    }
}

/// A dump of connections: nothing is counted that was not read, and no more ports than there are.
pub fn conntrack(data: &[u8]) {
    let mut sample = Sample::default();
    let _ = read_datagram(data, &mut sample);
    assert!(sample.flows.len() as u64 <= sample.read);
    for named in [&[][..], &[(40_000, 40_099)]] {
        let ports = PortRanges::new(named);
        let busiest = ports.busiest(&sample, sample.read);
        assert!(busiest.iter().all(|found| found.used <= ports.available()) && ports.findings(&busiest).len() <= 5);
    }
}
