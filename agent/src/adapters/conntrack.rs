//! The kernel's table of tracked connections over netlink, in the network namespace of the calling thread.
//!
//! Layout: `linux/netfilter/nfnetlink_conntrack.h`. A dump that is long enough is left: closing the socket ends it.

use std::io;
use std::net::IpAddr;

use netlink_sys::{Socket, SocketAddr};
use trimtab_domain::masquerade::{Flow, PortProtocol, Route, Sample};

use super::nftables::wire::{DONE, DUMP, Received, message, messages};
use super::nftables::{ERROR, HEADER, HEADERS, NETLINK_NETFILTER, number16};
use crate::ports::connections::{ConnectionsError, TrackedConnections};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
/// Both families (`AF_UNSPEC`).
const ANY_FAMILY: u8 = 0;
/// Bytes that the kernel puts into one datagram at most where the reader has room for them (`netlink_recvmsg`).
const DATAGRAM: usize = 32 << 10;
/// `CTA_TUPLE_REPLY`, `CTA_STATUS`.
const REPLY: u16 = 2;
const STATUS: u16 = 3;
/// `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`.
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
/// `CTA_IP_V4_SRC`, `CTA_IP_V4_DST`, `CTA_IP_V6_SRC`, `CTA_IP_V6_DST`.
const V4: (u16, u16) = (1, 2);
const V6: (u16, u16) = (3, 4);
/// `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT`, `CTA_PROTO_DST_PORT`.
const NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// `IPS_SRC_NAT`: the source was translated.
const SOURCE_TRANSLATED: u32 = 1 << 4;

/// The table on a real node.
#[derive(Debug, Default)]
pub struct Conntrack;

impl TrackedConnections for Conntrack {
    fn sample(&self, at_most: usize) -> Result<Sample, ConnectionsError> {
        sample(at_most).map_err(ConnectionsError)
    }
}

fn sample(at_most: usize) -> io::Result<Sample> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    // The kernel fills each datagram within the call, so nothing is waited for.
    socket.set_non_blocking(true)?;
    socket.send_to(&message(GET, DUMP, 0, (ANY_FAMILY, 0), &[]), &SocketAddr::new(0, 0), 0)?;
    let mut sample = Sample::default();
    let mut datagram = Vec::with_capacity(DATAGRAM);
    while !sample.is_whole && usize::try_from(sample.read).is_ok_and(|read| read < at_most) {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        read_datagram(&datagram, &mut sample)?;
    }
    Ok(sample)
}

/// Adds what a datagram of a dump tells.
///
/// # Errors
/// The kernel's, where it says that it cannot go on.
pub fn read_datagram(datagram: &[u8], sample: &mut Sample) -> io::Result<()> {
    for message in messages(datagram) {
        match number16(message, 4) {
            Some(DONE) => sample.is_whole = true,
            Some(ERROR) => {
                let code = message.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok());
                return Err(io::Error::from_raw_os_error(code.map_or(0, i32::from_ne_bytes).saturating_neg()));
            }
            _ => {
                sample.read += 1;
                sample.flows.extend(message.get(HEADERS..).and_then(|attributes| flow(Received(attributes))));
            }
        }
    }
    Ok(())
}

/// Answers go from the destination to the translated source. `None` for protocols without ports.
fn flow(connection: Received<'_>) -> Option<Flow> {
    let answers = connection.nested(REPLY)?;
    let protocol = answers.nested(PROTOCOL)?;
    let port = |kind| protocol.find(kind)?.try_into().ok().map(u16::from_be_bytes);
    let (source, destination) = addresses(answers.nested(ADDRESSES)?)?;
    let route = Route {
        protocol: port_protocol(*protocol.find(NUMBER)?.first()?)?,
        source: destination,
        destination: source,
        destination_port: port(SOURCE_PORT)?,
    };
    let is_translated = connection.number(STATUS).unwrap_or(0) & SOURCE_TRANSLATED != 0;
    Some(Flow { route, port: port(DESTINATION_PORT)?, is_translated })
}

fn addresses(pair: Received<'_>) -> Option<(IpAddr, IpAddr)> {
    let v4 = |kind| pair.find(kind).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
    let v6 = |kind| pair.find(kind).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from);
    v4(V4.0).zip(v4(V4.1)).or_else(|| v6(V6.0).zip(v6(V6.1)))
}

/// IANA's numbers.
const fn port_protocol(number: u8) -> Option<PortProtocol> {
    match number {
        6 => Some(PortProtocol::Tcp),
        17 => Some(PortProtocol::Udp),
        132 => Some(PortProtocol::Sctp),
        _ => None,
    }
}
