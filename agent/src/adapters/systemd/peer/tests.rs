//! What systemd 257 says on its private socket, byte by byte, and messages of every form.
#![allow(clippy::disallowed_methods, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tokio::net::UnixListener;
use tokio::time::timeout;
use zbus::wire::Endian;

use super::super::Systemd;
use super::super::tests::signed::signed;
use super::*;
use crate::ports::services::{Services, UnitError};
use crate::ports::units::Units;

const LIMIT: Duration = Duration::from_secs(20);
const NAME: &str = "org.freedesktop.systemd1";

/// Recorded from systemd 257.13 of Debian 13; where an answer says to which call, it says call 1.
const WELCOME: &[u8] = b"OK 64acd8c5afd046e088c15bff982ac486\r\n";
const VERSION: &[u8] = b"l\x02\x01\x01\x19\x00\x00\x00\x01\x00\x00\x007\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00\x07\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x01v\x00\x00\x01s\x00\x00\x10\x00\x00\x00257.13-1~deb13u1\x00";
const NO_SUCH_UNIT: &[u8] = b"l\x03\x01\x01$\x00\x00\x00\x02\x00\x00\x00g\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00\x04\x01s\x00#\x00\x00\x00org.freedesktop.systemd1.NoSuchUnit\x00\x00\x00\x00\x00\x07\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x01s\x00\x00\x1f\x00\x00\x00Unit absent.service not loaded.\x00";
/// A signal that nobody has asked for.
const UNIT_NEW: &[u8] = b"l\x04\x01\x01Q\x00\x00\x00\x03\x00\x00\x00\x98\x00\x00\x00\x01\x01o\x00\x19\x00\x00\x00/org/freedesktop/systemd1\x00\x00\x00\x00\x00\x00\x00\x02\x01s\x00 \x00\x00\x00org.freedesktop.systemd1.Manager\x00\x00\x00\x00\x00\x00\x00\x00\x03\x01s\x00\x07\x00\x00\x00UnitNew\x00\x07\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x02so\x00\x11\x00\x00\x00trimtab-x.service\x00\x00\x004\x00\x00\x00/org/freedesktop/systemd1/unit/trimtab_2dx_2eservice\x00";
const JOB: &[u8] = b"l\x02\x01\x01%\x00\x00\x00\x05\x00\x00\x007\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00\x07\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x01o\x00\x00 \x00\x00\x00/org/freedesktop/systemd1/job/53\x00";

/// The recorded answer, to this call.
fn answering(call: &[u8], answer: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    answer[20..24].copy_from_slice(&call[8..12]);
    answer
}

async fn call(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; START];
    stream.read_exact(&mut bytes).await.unwrap();
    let whole = length(&bytes).unwrap();
    bytes.resize(whole, 0);
    stream.read_exact(&mut bytes[START..]).await.unwrap();
    bytes
}

/// Greets as systemd does, sends a signal in the same breath, and tells the version.
async fn welcome(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let digits: String = nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
    let expected = format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n");
    let mut greeting = vec![0; expected.len()];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&greeting), expected);
    stream.write_all(&[WELCOME, UNIT_NEW].concat()).await.unwrap();
    let asked = call(&mut stream).await;
    stream.write_all(&answering(&asked, VERSION)).await.unwrap();
    stream
}

fn listen(root: &Path) -> (UnixListener, PathBuf) {
    let socket = root.join("run/systemd/private");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    (UnixListener::bind(&socket).unwrap(), socket)
}

#[tokio::test]
async fn what_systemd_says_on_its_own_socket_is_understood() {
    let root = tempfile::tempdir().unwrap();
    let (listener, _) = listen(root.path());
    let systemd = Systemd::new(root.path());
    let theirs = async {
        let mut stream = welcome(&listener).await;
        // Signals before the answer, all at once.
        let asked = call(&mut stream).await;
        stream.write_all(&[UNIT_NEW, UNIT_NEW, &answering(&asked, JOB), UNIT_NEW].concat()).await.unwrap();
        // An error, one byte at a time.
        let asked = call(&mut stream).await;
        for byte in answering(&asked, NO_SUCH_UNIT) {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream
    };
    let ours = async {
        assert!(systemd.answers().await);
        systemd.start("trimtab-x.service").await.unwrap();
        let error = systemd.stop("absent.service").await.unwrap_err();
        assert!(matches!(error, UnitError::Gone(_)), "{error}");
    };
    timeout(LIMIT, async { tokio::join!(theirs, ours) }).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_message_is_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let (listener, _) = listen(root.path());
    let systemd = Systemd::new(root.path());
    let theirs = async {
        for cut in [1, START, START + 7, JOB.len() - 1] {
            let mut stream = welcome(&listener).await;
            let asked = call(&mut stream).await;
            stream.write_all(&answering(&asked, JOB)[..cut]).await.unwrap();
        }
        let mut stream = welcome(&listener).await;
        let asked = call(&mut stream).await;
        stream.write_all(&answering(&asked, JOB)).await.unwrap();
        stream
    };
    let ours = async {
        for _ in 0..4 {
            let error = systemd.start("a.service").await.unwrap_err();
            assert!(matches!(error, UnitError::Away { .. }), "{error}");
        }
        systemd.start("a.service").await.unwrap();
    };
    timeout(LIMIT, async { tokio::join!(theirs, ours) }).await.unwrap();
}

#[tokio::test]
async fn a_message_that_would_take_too_much_memory_ends_the_connection() {
    let root = tempfile::tempdir().unwrap();
    let (listener, _) = listen(root.path());
    let systemd = Systemd::new(root.path());
    let theirs = async {
        let mut stream = welcome(&listener).await;
        let asked = call(&mut stream).await;
        let mut answer = answering(&asked, JOB);
        answer[BODY_LENGTH..BODY_LENGTH + 4].copy_from_slice(&u32::try_from(MAX_LENGTH).unwrap().to_le_bytes());
        stream.write_all(&answer).await.unwrap();
        stream
    };
    let ours = systemd.start("a.service");
    let (_stream, error) = timeout(LIMIT, async { tokio::join!(theirs, ours) }).await.unwrap();
    assert!(matches!(error.unwrap_err(), UnitError::Away { .. }));
}

#[test]
fn the_sender_is_found_where_it_stands() {
    for (what, message, found) in [
        ("an answer", VERSION, true),
        ("an error", NO_SUCH_UNIT, true),
        ("a signal", UNIT_NEW, true),
        ("no fields", b"l\x01\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0".as_slice(), false),
        ("fields that end beyond the message", b"l\x01\0\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\xff", false),
        ("no message at all", b"", false),
    ] {
        let at = sender(message);
        assert_eq!(at.is_some(), found, "{what}");
        if let Some(at) = at {
            assert_eq!(&message[at..at + NAME.len()], NAME.as_bytes(), "{what}");
        }
    }
}

proptest! {
    #[test]
    fn in_every_message_only_the_sender_is_touched(
        member in "[A-Z][a-zA-Z]{0,40}",
        path in "(/[a-z0-9_]{1,20}){1,4}",
        interface in proptest::option::of("[a-z]{1,20}\\.[a-z]{1,20}"),
        destination in proptest::option::of("[a-z]{1,20}\\.[a-z]{1,20}"),
        name in "[a-z]{1,20}\\.[a-z]{1,20}",
        text in ".{0,64}",
        big in any::<bool>(),
    ) {
        let mut builder = Message::method_call(path.as_str(), member.as_str());
        builder = builder.endian(if big { Endian::Big } else { Endian::Little });
        if let Some(interface) = &interface {
            builder = builder.interface(interface.as_str());
        }
        if let Some(destination) = &destination {
            builder = builder.destination(destination.as_str());
        }
        let bare = builder.build(&(text.as_str(), 7_u32)).unwrap();
        prop_assert_eq!(sender(bare.data().bytes()), None);
        let whole = signed(bare.data().bytes(), &name);
        prop_assert_eq!(length(&whole), Some(whole.len()));
        let at = sender(&whole).unwrap();
        prop_assert_eq!(&whole[at..at + name.len()], name.as_bytes());
    }

    #[test]
    fn no_bytes_lead_astray(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = length(&bytes);
        if let Some(at) = sender(&bytes) {
            // A place that is not there is not written to.
            prop_assert!(at >= START);
        }
    }
}
