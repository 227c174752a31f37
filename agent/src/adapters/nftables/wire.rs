//! Messages of nf_tables as bytes: built, sent as one transaction, and taken apart again.
//!
//! Layout: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`. Numbers within nf_tables' attributes are big-endian, but for
//! what a register holds.

use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::{
    ATTRIBUTE_TYPE, ERROR, HEADER, HEADERS, NETLINK_NETFILTER, REQUEST, SUBSYSTEM, VERSION, find_attribute, number16,
    number32,
};

/// `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_CREATE`, `NLM_F_APPEND`.
const ACK: u16 = 4;
pub(in crate::adapters) const DUMP: u16 = 0x300;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;
/// `NLM_F_DUMP_INTR`: the rule set changed while it was being read.
const INTERRUPTED: u16 = 0x10;
/// `NLMSG_DONE`, `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
pub(in crate::adapters) const DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// How often a dump is begun anew when the rule set changes under it.
const DUMP_ATTEMPTS: usize = 8;

/// A list of attributes.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // What is put here is bounded by the callers: one element list stays below 64 KiB.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    pub(super) fn number(self, kind: u16, number: u32) -> Self {
        self.bytes(kind, &number.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Attributes as the kernel sent them.
#[derive(Debug, Clone, Copy)]
pub(in crate::adapters) struct Received<'a>(pub(in crate::adapters) &'a [u8]);

impl<'a> Received<'a> {
    pub(in crate::adapters) fn find(self, kind: u16) -> Option<&'a [u8]> {
        find_attribute(self.0, kind)
    }

    pub(in crate::adapters) fn nested(self, kind: u16) -> Option<Self> {
        self.find(kind).map(Received)
    }

    pub(in crate::adapters) fn number(self, kind: u16) -> Option<u32> {
        self.find(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(in crate::adapters) fn text(self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.find(kind)?.strip_suffix(&[0])?).ok()
    }

    /// The attributes in order, with their numbers.
    pub(in crate::adapters) fn each(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(number16(rest, 0)?);
            let item = (number16(rest, 2)? & ATTRIBUTE_TYPE, rest.get(4..length)?);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some(item)
        })
    }
}

/// A transaction: all of it is done or nothing.
pub(super) struct Batch {
    family: u8,
    bytes: Vec<u8>,
    /// What each message does, for the error of a refusal.
    deeds: Vec<&'static str>,
}

impl Batch {
    pub(super) fn new(family: u8) -> Self {
        Self { family, bytes: message(BATCH_BEGIN, 0, 0, (0, SUBSYSTEM), &[]), deeds: Vec::new() }
    }

    /// Adds a message; `deed` completes "the kernel refused to …".
    pub(super) fn add(&mut self, deed: &'static str, kind: u8, flags: u16, attributes: &Attributes) {
        self.deeds.push(deed);
        let number = u32::try_from(self.deeds.len()).unwrap_or(u32::MAX);
        let kind = SUBSYSTEM << 8 | u16::from(kind);
        self.bytes.extend(message(kind, ACK | flags, number, (self.family, 0), &attributes.0));
    }

    /// The messages so far.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Sends it and reads what the kernel made of it. The kernel works within the call, so nothing is waited for.
    pub(super) fn commit(mut self) -> io::Result<()> {
        self.bytes.extend(message(BATCH_END, 0, 0, (0, SUBSYSTEM), &[]));
        let socket = open(self.bytes.len())?;
        socket.send_to(&self.bytes, &SocketAddr::new(0, 0), 0)?;
        let mut done = 0;
        while done < self.deeds.len() {
            let (datagram, _) = socket.recv_from_full()?;
            for answer in messages(&datagram) {
                if number16(answer, 4) != Some(ERROR) {
                    continue;
                }
                done += 1;
                let code = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
                let code = code.map_or(0, i32::from_ne_bytes);
                if code != 0 {
                    let number = number32(answer, 8).and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
                    let deed = number.checked_sub(1).and_then(|at| self.deeds.get(at)).unwrap_or(&"begin");
                    return Err(Refused::new(deed, code.saturating_neg()).into());
                }
            }
        }
        Ok(())
    }
}

/// The kernel refused one message of a transaction, and with it the whole.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to {deed}")]
pub(super) struct Refused {
    deed: &'static str,
    pub(super) errno: i32,
    #[source]
    source: io::Error,
}

impl Refused {
    fn new(deed: &'static str, errno: i32) -> Self {
        Self { deed, errno, source: io::Error::from_raw_os_error(errno) }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.source.kind(), refused)
    }
}

/// Everything that the kernel lists for a request: the attributes of each object.
pub(super) fn dump(kind: u8, family: u8, attributes: &Attributes) -> io::Result<Vec<Vec<u8>>> {
    for _ in 0..DUMP_ATTEMPTS {
        if let Some(objects) = dump_once(kind, family, attributes)? {
            return Ok(objects);
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the rule set changed while it was being read"))
}

fn dump_once(kind: u8, family: u8, attributes: &Attributes) -> io::Result<Option<Vec<Vec<u8>>>> {
    let socket = open(0)?;
    let kind = SUBSYSTEM << 8 | u16::from(kind);
    socket.send_to(&message(kind, DUMP, 0, (family, 0), &attributes.0), &SocketAddr::new(0, 0), 0)?;
    let mut objects = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        match collect(&datagram, &mut objects)? {
            Progress::More => {}
            Progress::Done => return Ok(Some(objects)),
            Progress::Interrupted => return Ok(None),
        }
    }
}

/// How far a dump is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    More,
    /// That was all.
    Done,
    /// The rule set changed under it.
    Interrupted,
}

/// Adds the attributes of each object in a datagram of a dump.
pub(super) fn collect(datagram: &[u8], objects: &mut Vec<Vec<u8>>) -> io::Result<Progress> {
    for answer in messages(datagram) {
        if number16(answer, 6).is_some_and(|flags| flags & INTERRUPTED != 0) {
            return Ok(Progress::Interrupted);
        }
        match number16(answer, 4) {
            Some(DONE) => return Ok(Progress::Done),
            Some(ERROR) => {
                let code = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
                return Err(io::Error::from_raw_os_error(code.map_or(0, i32::from_ne_bytes).saturating_neg()));
            }
            _ => objects.extend(answer.get(HEADERS..).map(<[u8]>::to_vec)),
        }
    }
    Ok(Progress::More)
}

/// A socket whose buffer takes a message of this size at once: a transaction cannot be sent in parts.
fn open(bytes: usize) -> io::Result<Socket> {
    /// What every kernel grants (`net.core.wmem_default`), with room for its own accounting.
    const USUAL: usize = 100 << 10;
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.set_non_blocking(true)?;
    if bytes > USUAL {
        // Forced: `CAP_NET_ADMIN`, without which there is nothing to be sent anyway, allows more than wmem_max.
        setsockopt(&socket, sockopt::SndBufForce, &(bytes * 2))?;
    }
    Ok(socket)
}

/// A whole message; the last pair is `nfgen_family` and `res_id`.
pub(in crate::adapters) fn message(
    kind: u16,
    flags: u16,
    number: u32,
    (family, subject): (u8, u16),
    attributes: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADERS + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, VERSION]);
    bytes.extend(subject.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// The messages of a datagram.
pub(in crate::adapters) fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(number32(rest, 0)?).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn attributes_are_read_back() {
        let inner = Attributes::default().number(2, 7).text(3, "x");
        let list = Attributes::default().text(1, "trimtab").nested(4, &inner).bytes(5, &[1, 2, 3, 4, 5]).number(6, 9);
        let read = Received(&list.0);
        assert_eq!(
            (read.text(1), read.number(6), read.find(5)),
            (Some("trimtab"), Some(9), Some(&[1, 2, 3, 4, 5][..]))
        );
        let inner = read.nested(4).unwrap();
        assert_eq!((inner.number(2), inner.text(3), inner.number(9)), (Some(7), Some("x"), None));
        assert_eq!(read.each().map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 4, 5, 6]);
    }

    #[test]
    fn broken_lists_end_the_reading() {
        let whole = Attributes::default().text(1, "a").number(2, 1).0;
        for cut in 0..whole.len() {
            let read = Received(whole.get(..cut).unwrap());
            assert!(read.each().count() < 2 && read.number(2).is_none(), "cut at {cut}");
        }
        assert_eq!(Received(&[0, 0, 1, 0]).each().count(), 0, "a length of zero");
    }
}
