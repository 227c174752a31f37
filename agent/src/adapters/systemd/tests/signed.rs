//! The end of systemd's private socket that is systemd's: everything that it sends is signed with its well-known name, as
//! `sd_bus_set_sender` has it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::Message;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::fdo::ConnectionCredentials;

/// Bytes before the fields; the last four say how long these are.
const START: usize = 16;

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Signed(pub(crate) UnixStream);

impl Socket for Signed {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let uid = self.0.peer_cred().unwrap().uid();
        let (read, write) = self.0.into_split();
        Split::new(Reader { read, uid }, Writer(write))
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    read: OwnedReadHalf,
    uid: u32,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.read.read(buffer).await?, Vec::new()))
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        Ok(ConnectionCredentials::default().set_unix_user_id(self.uid))
    }
}

#[derive(Debug)]
pub(crate) struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn send_message(&mut self, message: &Message) -> zbus::Result<()> {
        self.0.write_all(&signed(message.data().bytes(), "org.freedesktop.systemd1")).await?;
        Ok(())
    }

    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// The message with one more field, the last: SENDER. The library's own builder refuses such a name.
pub(crate) fn signed(message: &[u8], sender: &str) -> Vec<u8> {
    let big = message[0] == b'B';
    let number = |bytes: [u8; 4]| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let bytes = |number: usize| {
        let number = u32::try_from(number).unwrap();
        if big { number.to_be_bytes() } else { number.to_le_bytes() }
    };
    let end = START + usize::try_from(number(message[12..START].try_into().unwrap())).unwrap();
    let mut whole = message[..end].to_vec();
    whole.resize(end.next_multiple_of(8), 0);
    whole.extend([7, 1, b's', 0]);
    whole.extend(bytes(sender.len()));
    whole.extend(sender.as_bytes());
    whole.push(0);
    let fields = bytes(whole.len() - START);
    whole[12..START].copy_from_slice(&fields);
    whole.resize(whole.len().next_multiple_of(8), 0);
    whole.extend(&message[end.next_multiple_of(8)..]);
    whole
}
