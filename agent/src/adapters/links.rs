//! Network interfaces that appear, vanish or are renamed, over rtnetlink: the kernel makes and removes their folders in
//! `/proc/sys/net` without a word to inotify.
//!
//! The layout of the messages is that of `linux/netlink.h` and `linux/rtnetlink.h`. Everything is about the network
//! namespace of the calling thread.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};

/// `NETLINK_ROUTE`.
const NETLINK_ROUTE: isize = 0;
/// `RTNLGRP_LINK`.
const GROUP_LINK: u32 = 1;
/// `RTM_NEWLINK`: new, or something about it changed.
const NEW_LINK: u16 = 16;
/// `RTM_DELLINK`.
const DELETED_LINK: u16 = 17;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nlmsghdr` and `struct ifinfomsg`.
const HEADERS: usize = 32;
/// `IFLA_IFNAME`.
const ATTRIBUTE_NAME: u16 = 3;
/// `ENOBUFS` of `errno.h`.
const ENOBUFS: i32 = 105;

/// Announcements of the kernel about interfaces.
pub struct LinkChanges {
    socket: TokioSocket,
    /// Index to name, of those announced so far: most announcements are about the carrier or counters.
    known: BTreeMap<u32, Vec<u8>>,
}

impl LinkChanges {
    /// Joins the kernel's group of listeners; needs no privilege, but a tokio runtime.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(GROUP_LINK)?;
        Ok(Self { socket, known: BTreeMap::new() })
    }

    /// Waits until an interface has appeared, vanished or been renamed. All that waits besides is taken in as well, so
    /// that a burst wakes once.
    ///
    /// # Errors
    /// The socket's. That announcements were lost (`ENOBUFS`) is no error: then anything may have changed.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut changed = match self.socket.recv_from_full().await {
                Ok((datagram, _)) => learn(&mut self.known, &datagram),
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => true,
                Err(error) => return Err(error),
            };
            let (socket, known) = (&mut self.socket, &mut self.known);
            poll_fn(|context| {
                while let Poll::Ready(received) = socket.poll_recv_from_full(context) {
                    match received {
                        Ok((datagram, _)) => changed |= learn(known, &datagram),
                        Err(error) if error.raw_os_error() == Some(ENOBUFS) => changed = true,
                        // A lasting error comes back with the next call.
                        Err(_) => break,
                    }
                }
                Poll::Ready(())
            })
            .await;
            if changed {
                return Ok(());
            }
        }
    }
}

/// Takes in the messages of a datagram; true if an interface is new, gone or has another name.
fn learn(known: &mut BTreeMap<u32, Vec<u8>>, datagram: &[u8]) -> bool {
    let mut changed = false;
    let mut rest = datagram;
    while let Some(length) = number32(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= HEADER) else { break };
        changed |= learn_one(known, message).unwrap_or(false);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    changed
}

fn learn_one(known: &mut BTreeMap<u32, Vec<u8>>, message: &[u8]) -> Option<bool> {
    let (kind, index) = (number16(message, 4)?, number32(message, HEADER + 4)?);
    match kind {
        NEW_LINK => {
            let name = name(message.get(HEADERS..)?)?;
            Some(known.insert(index, name.to_owned()).as_deref() != Some(name))
        }
        DELETED_LINK => {
            known.remove(&index);
            Some(true)
        }
        _ => None,
    }
}

fn name(mut attributes: &[u8]) -> Option<&[u8]> {
    while let Some(length) = number16(attributes, 0).map(usize::from) {
        let attribute = attributes.get(..length).filter(|attribute| attribute.len() >= 4)?;
        if number16(attribute, 2) == Some(ATTRIBUTE_NAME) {
            return attribute.get(4..);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn message(kind: u16, index: u32, name: &str) -> Vec<u8> {
        let mut attribute = vec![0; 4];
        attribute.extend(name.as_bytes());
        attribute.push(0);
        let length = u16::try_from(attribute.len()).unwrap();
        attribute.splice(..4, [length.to_ne_bytes(), ATTRIBUTE_NAME.to_ne_bytes()].concat());
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let mut bytes = u32::try_from(HEADERS + attribute.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER + 4, 0);
        bytes.extend(index.to_ne_bytes());
        bytes.resize(HEADERS, 0);
        bytes.extend(attribute);
        bytes
    }

    #[test]
    fn only_new_gone_and_renamed_interfaces_count() {
        let mut known = BTreeMap::new();
        let rows = [
            ("new", message(NEW_LINK, 7, "veth7"), true),
            ("carrier", message(NEW_LINK, 7, "veth7"), false),
            ("renamed", message(NEW_LINK, 7, "eth0"), true),
            ("two at once", [message(NEW_LINK, 7, "eth0"), message(NEW_LINK, 8, "eth1")].concat(), true),
            ("gone", message(DELETED_LINK, 7, "eth0"), true),
            ("new again", message(NEW_LINK, 7, "eth0"), true),
            ("another kind", message(24, 7, "eth0"), false),
        ];
        for (row, datagram, changed) in rows {
            assert_eq!(learn(&mut known, &datagram), changed, "{row}");
        }
    }

    #[test]
    fn datagrams_cut_short_are_no_harm() {
        let whole = message(NEW_LINK, 7, "veth7");
        for length in 0..whole.len() {
            let mut known = BTreeMap::new();
            learn(&mut known, whole.get(..length).unwrap());
            let mut short = whole.clone();
            short.splice(..4, u32::try_from(length).unwrap().to_ne_bytes());
            learn(&mut known, &short);
        }
    }
}
