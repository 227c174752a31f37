//! A manager that answers over a real socket, as systemd's private one does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use trimtab_domain::cgroup::Quota;
use zbus::message::Type;
use zbus::{Guid, MessageStream, Variant};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// What a call of `SetUnitProperties` carried: unit, `runtime`, and each property as it prints.
type Call = (String, bool, Vec<(String, String)>);

/// Stands for systemd behind its private socket; tells of each call, and answers it with this error if there is one.
fn manager(root: &Path, version: &'static str, error: Option<&'static str>) -> mpsc::UnboundedReceiver<Call> {
    let socket = root.join(PRIVATE);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    let (told, calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let guid = Guid::generate();
            let connection = Builder::unix_stream(stream.into_std().unwrap()).server(guid).p2p().build().await.unwrap();
            tokio::spawn(answer(connection, version, error, told.clone()));
        }
    });
    calls
}

async fn answer(
    connection: Connection,
    version: &'static str,
    error: Option<&'static str>,
    told: mpsc::UnboundedSender<Call>,
) {
    let mut messages = MessageStream::from(connection.clone());
    while let Some(Ok(message)) = messages.next().await {
        let header = message.header();
        if header.message_type() != Type::MethodCall {
            continue;
        }
        let body = message.body();
        match (header.interface().map(|name| name.as_str()), header.member().unwrap().as_str()) {
            (Some("org.freedesktop.DBus.Properties"), "Get") => {
                let asked: (&str, &str) = body.deserialize().unwrap();
                assert_eq!(asked, (MANAGER, "Version"));
                connection.reply(&header, &Variant::new(version)).await.unwrap();
            }
            (Some(MANAGER), "SetUnitProperties") => {
                assert_eq!(header.path().unwrap().as_str(), PATH);
                assert_eq!(header.signature().to_string(), "(sba(sv))");
                let (unit, runtime, properties): (String, bool, Vec<(String, Variant<'_>)>) =
                    body.deserialize().unwrap();
                let shown = properties.iter().map(|(name, value)| (name.clone(), shown(value))).collect();
                told.send((unit, runtime, shown)).unwrap();
                match error {
                    Some(name) => connection.reply_error(&header, name, &"no").await.unwrap(),
                    None => connection.reply(&header, &()).await.unwrap(),
                }
            }
            (_, member) => panic!("nobody should call {member}"),
        }
    }
}

/// Signature and value.
fn shown(value: &Variant<'_>) -> String {
    match value {
        Variant::Array(array) => {
            let bytes: Vec<u8> = array.iter().map(|item| u8::try_from(item).unwrap()).collect();
            format!("{} {bytes:?}", array.signature())
        }
        Variant::U64(number) => format!("t {number}"),
        other => panic!("{other:?}"),
    }
}

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

#[tokio::test]
async fn sets_are_sent_as_the_bytes_that_systemd_reads() {
    let root = tempfile::tempdir().unwrap();
    let mut calls = manager(root.path(), "252.39-1~deb12u1", None);
    let units = Systemd::new(root.path());
    assert!(timeout(LIMIT, units.answers()).await.unwrap());
    let limited = Quota { quota_us: Some(250_001), period_us: 100_000 };
    let cpus = |text: &str| UnitChange { cpus: Some(set(text)), ..UnitChange::default() };
    let quota = |quota| UnitChange { quota: Some(quota), ..UnitChange::default() };
    let rows: Vec<(UnitChange, Vec<(&str, &str)>)> = vec![
        (cpus("2-3"), vec![("AllowedCPUs", "ay [12]")]),
        (cpus("0,9,16"), vec![("AllowedCPUs", "ay [1, 2, 1]")]),
        (cpus(""), vec![("AllowedCPUs", "ay []")]),
        (
            UnitChange { mems: Some(set("1")), ..cpus("7") },
            vec![("AllowedCPUs", "ay [128]"), ("AllowedMemoryNodes", "ay [2]")],
        ),
        (
            quota(limited.lifted()),
            vec![("CPUQuotaPerSecUSec", "t 18446744073709551615"), ("CPUQuotaPeriodUSec", "t 100000")],
        ),
        (
            UnitChange { numbers: vec![("MemoryMax", 1 << 30), ("TasksMax", u64::MAX)], ..UnitChange::default() },
            vec![("MemoryMax", "t 1073741824"), ("TasksMax", "t 18446744073709551615")],
        ),
        (quota(limited), vec![("CPUQuotaPerSecUSec", "t 2510000"), ("CPUQuotaPeriodUSec", "t 100000")]),
    ];
    for (change, expected) in rows {
        timeout(LIMIT, units.set("cri-containerd-1.scope", &change)).await.unwrap().unwrap();
        let (unit, runtime, properties) = calls.recv().await.unwrap();
        assert_eq!((unit.as_str(), runtime), ("cri-containerd-1.scope", true));
        let properties: Vec<(&str, &str)> =
            properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(properties, expected, "{change:?}");
    }
}

#[tokio::test]
async fn a_unit_that_is_gone_is_told_from_a_refusal() {
    for (name, gone) in
        [("org.freedesktop.systemd1.NoSuchUnit", true), ("org.freedesktop.DBus.Error.PropertyReadOnly", false)]
    {
        let root = tempfile::tempdir().unwrap();
        let _calls = manager(root.path(), "257", Some(name));
        let change = UnitChange { cpus: Some(set("0")), ..UnitChange::default() };
        let error = timeout(LIMIT, Systemd::new(root.path()).set("a.scope", &change)).await.unwrap().unwrap_err();
        assert_eq!(matches!(error, UnitError::Gone(_)), gone, "{error}");
        assert_eq!(matches!(error, UnitError::Refused { .. }), !gone, "{error}");
    }
}

#[tokio::test]
async fn an_old_or_absent_manager_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    assert!(!timeout(LIMIT, Systemd::new(root.path()).answers()).await.unwrap(), "nobody there");
    let _calls = manager(root.path(), "243", None);
    let units = Systemd::new(root.path());
    assert!(!timeout(LIMIT, units.answers()).await.unwrap(), "too old");
    let error = timeout(LIMIT, units.set("a.scope", &UnitChange::default())).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("older than 244"), "{error}");
}

#[tokio::test]
async fn a_manager_that_comes_back_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let units = Systemd::new(root.path());
    assert!(!timeout(LIMIT, units.answers()).await.unwrap());
    let _calls = manager(root.path(), "v256.4", None);
    assert!(timeout(LIMIT, units.answers()).await.unwrap());
}
