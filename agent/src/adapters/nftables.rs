//! nf_tables over netlink: the number of the rule set's generation, whether a chain exists, announced changes, and the
//! table of our own.
//!
//! The few messages are written out by hand; their layout is that of `linux/netlink.h`, `linux/netfilter/nfnetlink.h`
//! and `linux/netfilter/nf_tables.h`. Everything is about the network namespace of the calling thread.

pub mod counters;
pub mod foreign;
pub mod guard;
mod objects;
mod rules;
mod sets;
pub mod table;
pub(super) mod wire;

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use netlink_sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket};
use trimtab_domain::masquerade::Family;

/// `NETLINK_NETFILTER`.
pub(super) const NETLINK_NETFILTER: isize = 12;
/// `NFNLGRP_NFTABLES`.
const GROUP_NFTABLES: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message type.
const SUBSYSTEM: u16 = 10;
/// `NLMSG_ERROR`.
pub(super) const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NFNETLINK_V0`.
const VERSION: u8 = 0;
/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Bytes of `struct nlmsghdr` and `struct nfgenmsg`.
pub(super) const HEADERS: usize = 20;
/// `NFTA_*_TABLE`, `NFTA_TABLE_NAME`: the table's name has this number in the messages of all its objects.
const ATTRIBUTE_TABLE: u16 = 1;
/// `NFTA_GEN_ID`.
const ATTRIBUTE_GENERATION: u16 = 1;
/// `NFTA_GEN_PROC_PID`, `NFTA_GEN_PROC_NAME`.
const ATTRIBUTE_PROCESS: u16 = 2;
const ATTRIBUTE_PROCESS_NAME: u16 = 3;
/// `NFTA_CHAIN_NAME`.
const ATTRIBUTE_CHAIN: u16 = 3;
/// Flags in the upper bits of an attribute's type (`NLA_TYPE_MASK`).
const ATTRIBUTE_TYPE: u16 = 0x3fff;
/// `ENOENT`, `ENOBUFS` of `errno.h`.
const ENOENT: i32 = 2;
const ENOBUFS: i32 = 105;

/// [`trimtab_domain::masquerade::NATIVE_TABLE`] and [`trimtab_domain::masquerade::GUARD_TABLE`], as they travel.
const OUR_TABLES: [&[u8]; 2] = [b"trimtab-masq\0", b"trimtab-metadata\0"];

/// The chains of table `filter` that matter: [`trimtab_domain::masquerade::FORWARD`],
/// [`trimtab_domain::masquerade::GUARD_CHAIN`].
const FILTER_CHAINS: [&[u8]; 2] = [b"FORWARD\0", b"TRIMTAB-METADATA\0"];
/// `NFTA_RULE_CHAIN`.
const ATTRIBUTE_RULE_CHAIN: u16 = 2;

/// Lower byte of a message type, `enum nf_tables_msg_types`.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Message {
    GetTable = 1,
    NewChain = 3,
    GetChain = 4,
    GetSet = 10,
    NewGeneration = 15,
    GetGeneration = 16,
}

/// Number of the rule set's generation: the kernel counts every transaction of the namespace that changed something.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN` in the namespace; `Other` if the kernel has no nf_tables.
pub fn generation() -> io::Result<u32> {
    let reply = ask(Message::GetGeneration, 0, &[])?;
    let number = reply.attribute(ATTRIBUTE_GENERATION).and_then(|value| <[u8; 4]>::try_from(value).ok());
    match number {
        Some(bytes) if reply.is(Message::NewGeneration) => Ok(u32::from_be_bytes(bytes)),
        _ => Err(io::Error::other("nf_tables did not tell its generation")),
    }
}

/// Whether nf_tables has this table.
///
/// # Errors
/// As [`generation`].
pub fn table_exists(family: Family, table: &str) -> io::Result<bool> {
    match ask(Message::GetTable, family_number(family), &attribute(ATTRIBUTE_TABLE, table)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether nf_tables has this chain.
///
/// # Errors
/// As [`generation`].
pub fn chain_exists(family: Family, table: &str, chain: &str) -> io::Result<bool> {
    let attributes = [attribute(ATTRIBUTE_TABLE, table), attribute(ATTRIBUTE_CHAIN, chain)].concat();
    match ask(Message::GetChain, family_number(family), &attributes) {
        Ok(reply) => Ok(reply.is(Message::NewChain)),
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Announcements of changes to what iptables-nft writes: table `nat` of either family, FORWARD and our chain in `filter`,
/// the tables of our own, and new chains in `mangle`
/// (that is how a kubelet shows which backend it uses).
///
/// To follow it: open it once in the network namespace that matters, then call [`Changes::next`] in a loop and wake the
/// masquerade subsystem after each return. One call swallows all that is waiting, so that a burst wakes once. Our own
/// transactions are announced like any other: they wake one more pass, which finds nothing to do and writes nothing,
/// and so the chain of events ends.
pub struct Changes {
    socket: TokioSocket,
}

/// Who made a change, as the kernel tells it with the new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Process id, as the host counts.
    pub process: u32,
    /// Name of the process, cut after 15 bytes.
    pub name: String,
}

impl Changes {
    /// Joins the kernel's group of nf_tables listeners. Needs a tokio runtime.
    ///
    /// # Errors
    /// The kernel's, for instance `PermissionDenied` without `CAP_NET_ADMIN`.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(GROUP_NFTABLES)?;
        Ok(Self { socket })
    }

    /// Waits for a change that matters, and tells who made the last of those that waited; `None`: the kernel did not
    /// say. Cancelling it loses nothing but what was already found to matter not.
    ///
    /// # Errors
    /// The socket's. That announcements were lost (`ENOBUFS`) is no error: then anything may have changed.
    pub async fn next(&mut self) -> io::Result<Option<Writer>> {
        loop {
            let (concerns, writer) = match self.socket.recv_from_full().await {
                Ok((datagram, _)) => (concerns_us(&datagram), writer_of(&datagram)),
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => (true, None),
                Err(error) => return Err(error),
            };
            if concerns {
                return Ok(self.swallow_waiting().await.or(writer));
            }
        }
    }

    /// A transaction's own announcements come before that of its generation, which names the writer.
    async fn swallow_waiting(&mut self) -> Option<Writer> {
        let mut writer = None;
        poll_fn(|context| {
            while let Poll::Ready(received) = self.socket.poll_recv_from_full(context) {
                match received {
                    Ok((datagram, _)) => writer = writer_of(&datagram).or(writer.take()),
                    Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                    // A lasting error comes back with the next call of `next`.
                    Err(_) => break,
                }
            }
            Poll::Ready(())
        })
        .await;
        writer
    }
}

/// A reply of the kernel.
struct Reply(Vec<u8>);

impl Reply {
    fn is(&self, message: Message) -> bool {
        number16(&self.0, 4) == Some(SUBSYSTEM << 8 | message as u16)
    }

    fn into_attributes(mut self) -> Vec<u8> {
        self.0.drain(..HEADERS.min(self.0.len()));
        self.0
    }

    fn attribute(&self, kind: u16) -> Option<&[u8]> {
        find_attribute(self.0.get(HEADERS..)?, kind)
    }
}

/// Sends one request and reads its answer. The kernel answers within `send`, so nothing is waited for.
fn ask(message: Message, family: u8, attributes: &[u8]) -> io::Result<Reply> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.set_non_blocking(true)?;
    let length = u32::try_from(HEADERS + attributes.len()).map_err(io::Error::other)?;
    let mut request = Vec::with_capacity(HEADERS + attributes.len());
    request.extend(length.to_ne_bytes());
    request.extend((SUBSYSTEM << 8 | message as u16).to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([family, VERSION, 0, 0]);
    request.extend(attributes);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let (reply, _) = socket.recv_from_full()?;
    if number16(&reply, 4) == Some(ERROR) {
        let code = reply.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(Reply(reply))
}

/// `AF_INET`, `AF_INET6`: nf_tables' own family numbers are the same.
const fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// `struct nlattr` with a string, padded to four bytes.
fn attribute(kind: u16, text: &str) -> Vec<u8> {
    // Names of tables and chains are far below the 64 KiB that the field can tell.
    let length = u16::try_from(text.len() + 5).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(text.len() + 8);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Who made the transaction of a datagram that announces a generation.
fn writer_of(datagram: &[u8]) -> Option<Writer> {
    let kind = number16(datagram, 4)?;
    if kind != SUBSYSTEM << 8 | Message::NewGeneration as u16 {
        return None;
    }
    let attributes = datagram.get(HEADERS..)?;
    let process = find_attribute(attributes, ATTRIBUTE_PROCESS)?.try_into().ok().map(u32::from_be_bytes)?;
    let name = find_attribute(attributes, ATTRIBUTE_PROCESS_NAME)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    Some(Writer { process, name })
}

/// Whether one of the messages of a datagram is about table `nat`, or a new chain in `mangle`.
fn concerns_us(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let Some(length) = number32(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { return false };
        if message_concerns_us(message).unwrap_or(false) {
            return true;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn message_concerns_us(message: &[u8]) -> Option<bool> {
    let kind = number16(message, 4)?;
    let family = *message.get(HEADER)?;
    let ours = kind >> 8 == SUBSYSTEM && Family::ALL.into_iter().any(|known| family_number(known) == family);
    let table = find_attribute(message.get(HEADERS..)?, ATTRIBUTE_TABLE)?;
    let is_new_chain = kind & 0xff == Message::NewChain as u16;
    // Messages about chains and about rules number the chain's name differently.
    let chain = if is_about_chain(kind) { ATTRIBUTE_CHAIN } else { ATTRIBUTE_RULE_CHAIN };
    let in_chain = |known: &[&[u8]]| {
        let chain = message.get(HEADERS..).and_then(|attributes| find_attribute(attributes, chain));
        chain.is_some_and(|chain| known.contains(&chain))
    };
    let concerns = match table {
        b"nat\0" => true,
        b"mangle\0" => is_new_chain,
        b"filter\0" => in_chain(&FILTER_CHAINS),
        table => OUR_TABLES.contains(&table),
    };
    Some(ours && concerns)
}

/// `NFT_MSG_NEWCHAIN` to `NFT_MSG_DELCHAIN`.
const fn is_about_chain(kind: u16) -> bool {
    matches!(kind & 0xff, 3..=5)
}

fn find_attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let length = usize::from(number16(rest, 0)?);
        let value = rest.get(4..length)?;
        if number16(rest, 2)? & ATTRIBUTE_TYPE == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

pub(super) fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    fn message(kind: u16, family: u8, table: &str) -> Vec<u8> {
        let attributes = [attribute(9, "x"), attribute(ATTRIBUTE_TABLE, table)].concat();
        let length = u32::try_from(HEADERS + attributes.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([family, 0, 0, 0]);
        bytes.extend(attributes);
        bytes
    }

    /// A message about something in this chain of table `filter`.
    fn in_chain(kind: u16, number: u16, chain: &str) -> Vec<u8> {
        let mut bytes = message(kind, 2, "filter");
        bytes.extend(attribute(number, chain));
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_what_iptables_writes_concerns_us() {
        let (new_rule, new_chain) = (SUBSYSTEM << 8 | 6, SUBSYSTEM << 8 | 3);
        let rows = [
            ("rule in nat", message(new_rule, 2, "nat"), true),
            ("rule in nat, IPv6", message(new_rule, 10, "nat"), true),
            ("our own table", message(new_rule, 10, trimtab_domain::masquerade::NATIVE_TABLE), true),
            ("nat of family inet", message(new_rule, 1, "nat"), false),
            ("filter", message(new_rule, 2, "filter"), false),
            ("FORWARD", in_chain(new_rule, 2, "FORWARD"), true),
            ("our chain of filter is deleted", in_chain(SUBSYSTEM << 8 | 5, 3, "TRIMTAB-METADATA"), true),
            ("INPUT", in_chain(new_rule, 2, "INPUT"), false),
            ("the guard's table", message(new_rule, 2, trimtab_domain::masquerade::GUARD_TABLE), true),
            ("rule in mangle", message(new_rule, 2, "mangle"), false),
            ("chain in mangle", message(new_chain, 2, "mangle"), true),
            ("another subsystem", message(1 << 8 | 6, 2, "nat"), false),
            ("second message", [message(new_rule, 2, "filter"), message(new_rule, 2, "nat")].concat(), true),
            ("nothing", Vec::new(), false),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(concerns_us(&bytes), expected, "{name}");
        }
    }

    #[test]
    fn broken_messages_end_the_reading() {
        let whole = message(SUBSYSTEM << 8 | 6, 2, "nat");
        for cut in 0..whole.len() - 4 {
            assert!(!concerns_us(&whole[..cut]), "cut at {cut}");
        }
        let mut bytes = whole;
        bytes[0..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert!(!concerns_us(&bytes), "a length of zero");
    }
}
