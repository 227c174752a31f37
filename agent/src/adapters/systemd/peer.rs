//! systemd's own socket, whose messages bear a sender that the D-Bus library would refuse.
//!
//! Only a bus gives out unique names, and on this socket there is none: systemd signs everything, signals that nobody asked for
//! as well, with its well-known name (`sd_bus_set_sender`), while the library takes nothing for a sender that does not begin with
//! a colon. Nobody here asks who has sent a message, so the first letter of the name becomes one: everything keeps its place.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::{Error, Message};

/// Bytes before the header's fields: endianness, type, flags, version, then length of the body, serial number and length of
/// the fields (D-Bus specification, "Message Format").
const START: usize = 16;
const BODY_LENGTH: usize = 4;
const FIELDS_LENGTH: usize = 12;
/// The number of the field SENDER ("Header Fields").
const SENDER: u8 = 7;
/// Longest message that is taken. systemd's largest answers and signals here are some KiB; the specification allows 128 MiB.
const MAX_LENGTH: usize = 4 << 20;

/// A connection to systemd itself.
#[derive(Debug)]
pub(super) struct Peer(pub(super) UnixStream);

impl Socket for Peer {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(Reader(read), Writer(write))
    }
}

/// What systemd says.
#[derive(Debug)]
pub(super) struct Reader(OwnedReadHalf);

impl Reader {
    /// Lets `message` grow to this length; what came along with the end of the authentication goes first.
    async fn fill(&mut self, message: &mut Vec<u8>, length: usize, early: &mut Vec<u8>) -> io::Result<()> {
        let known = early.len().min(length.saturating_sub(message.len()));
        message.extend(early.drain(..known));
        let at = message.len();
        message.resize(length, 0);
        self.0.read_exact(message.get_mut(at..).unwrap_or_default()).await.map(drop)
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn receive_message(
        &mut self,
        number: u64,
        early: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        let mut message = Vec::new();
        self.fill(&mut message, START, early).await?;
        let length = length(&message).filter(|length| *length <= MAX_LENGTH).ok_or(Error::ExcessData)?;
        self.fill(&mut message, length, early).await?;
        if let Some(first) = sender(&message).and_then(|at| message.get_mut(at)) {
            *first = b':';
        }
        // The library judges the rest of it, as it does everything that comes from a socket of its own.
        Whole.receive_message(number, &mut message, descriptors).await
    }

    /// What is said before the first message, to authenticate.
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer).await?, Vec::new()))
    }
}

/// Has nothing to say beyond what was already received.
#[derive(Debug)]
struct Whole;

#[async_trait]
impl ReadHalf for Whole {
    async fn recvmsg(&mut self, _: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((0, Vec::new()))
    }
}

/// What is said to systemd.
#[derive(Debug)]
pub(super) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Length of the message that starts with these bytes: the fields are padded to eight bytes, then comes the body.
fn length(start: &[u8]) -> Option<usize> {
    let fields = START.checked_add(number(start, FIELDS_LENGTH)?)?.checked_next_multiple_of(8)?;
    fields.checked_add(number(start, BODY_LENGTH)?)
}

/// Where the name of the sender begins. Each field is its number and a value with its type before it, from a multiple of
/// eight bytes on; there are names and paths, the signature of the body, and numbers.
fn sender(message: &[u8]) -> Option<usize> {
    let end = START.checked_add(number(message, FIELDS_LENGTH)?)?;
    let mut at = START;
    while at < end {
        let value = at.checked_add(4)?;
        let &[field, 1, kind, 0] = message.get(at..value)? else { return None };
        let after = match kind {
            b's' if field == SENDER => return value.checked_add(4),
            // Its length in four bytes, the text, a zero.
            b's' | b'o' => value.checked_add(5)?.checked_add(number(message, value)?)?,
            // Its length in one byte, the text, a zero.
            b'g' => value.checked_add(2)?.checked_add(usize::from(*message.get(value)?))?,
            b'u' => value.checked_add(4)?,
            _ => return None,
        };
        at = after.checked_next_multiple_of(8)?;
    }
    None
}

/// The number at a place, in the byte order that the message begins with.
fn number(message: &[u8], at: usize) -> Option<usize> {
    let bytes = *message.get(at..)?.first_chunk()?;
    let number = match message.first()? {
        b'l' => u32::from_le_bytes(bytes),
        b'B' => u32::from_be_bytes(bytes),
        _ => return None,
    };
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests;
