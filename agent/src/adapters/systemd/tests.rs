//! A manager that answers over a real socket, as systemd's private one does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

pub(super) mod signed;

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use trimtab_domain::cgroup::Quota;
use zbus::message::Type;
use zbus::{Guid, MessageStream, Variant};

use self::signed::Signed;
use super::*;
use crate::ports::services::Services;

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
            let connection = Builder::socket(Signed(stream)).server(guid).p2p().build().await.unwrap();
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

/// One unit of a manager, as its properties show it, and every call of a method with what it was given.
struct Unit {
    load: &'static str,
    active: &'static str,
    since_us: u64,
}

/// Stands for a manager that starts and stops units.
fn starter(root: &Path, unit: Unit) -> mpsc::UnboundedReceiver<String> {
    let socket = root.join(PRIVATE);
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    let (told, calls) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let guid = Guid::generate();
        let connection = Builder::socket(Signed(stream)).server(guid).p2p().build().await.unwrap();
        let mut messages = MessageStream::from(connection.clone());
        while let Some(Ok(message)) = messages.next().await {
            let header = message.header();
            if header.message_type() == Type::MethodCall {
                start_or_stop(&connection, &message, &unit, &told).await;
            }
        }
    });
    calls
}

async fn start_or_stop(
    connection: &Connection,
    message: &zbus::Message,
    unit: &Unit,
    told: &mpsc::UnboundedSender<String>,
) {
    let (header, body) = (message.header(), message.body());
    let job = || zbus::ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
    match header.member().unwrap().as_str() {
        "Get" => {
            let (_, name): (&str, &str) = body.deserialize().unwrap();
            let of_timer = header.path().unwrap().as_str().ends_with("timer");
            let value = match name {
                "Version" => Variant::new("257"),
                "LoadState" => Variant::new(if of_timer { "not-found" } else { unit.load }),
                "ActiveState" => Variant::new(unit.active),
                "ActiveEnterTimestamp" => Variant::new(unit.since_us),
                other => panic!("nobody should ask for {other}"),
            };
            connection.reply(&header, &value).await.unwrap();
        }
        "LoadUnit" => {
            let name: &str = body.deserialize().unwrap();
            let last = if name.ends_with(".timer") { "timer" } else { "a" };
            let path = zbus::ObjectPath::try_from(format!("/org/freedesktop/systemd1/unit/{last}")).unwrap();
            connection.reply(&header, &path).await.unwrap();
        }
        method @ ("StartUnit" | "StopUnit") => {
            let (name, mode): (&str, &str) = body.deserialize().unwrap();
            told.send(format!("{method} {name} {mode}")).unwrap();
            if name.ends_with(".timer") {
                connection.reply_error(&header, NO_SUCH_UNIT[0], &"not loaded").await.unwrap();
            } else {
                connection.reply(&header, &job()).await.unwrap();
            }
        }
        "StartTransientUnit" => {
            assert_eq!(header.signature().to_string(), "(ssa(sv)a(sa(sv)))");
            type Properties<'a> = Vec<(String, Variant<'a>)>;
            let (name, mode, properties, _): (String, String, Properties<'_>, Vec<(String, Properties<'_>)>) =
                body.deserialize().unwrap();
            let of = |wanted: &str| properties.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
            let Variant::Array(timers) = of("TimersMonotonic") else { panic!() };
            assert_eq!(timers.signature().to_string(), "a(st)");
            assert_eq!(of("RemainAfterElapse"), Variant::new(false));
            let (base, after): (String, u64) = timers.iter().next().unwrap().try_clone().unwrap().try_into().unwrap();
            told.send(format!("StartTransientUnit {name} {mode} {base} {after}")).unwrap();
            connection.reply(&header, &job()).await.unwrap();
        }
        member => panic!("nobody should call {member}"),
    }
}

#[tokio::test]
async fn units_are_started_and_stopped_and_the_start_is_left_to_a_timer() {
    let root = tempfile::tempdir().unwrap();
    let mut calls = starter(root.path(), Unit { load: "loaded", active: "active", since_us: 7 });
    let systemd = Systemd::new(root.path());
    let work = async {
        systemd.stop("kubelet.service").await.unwrap();
        systemd.start("kubelet.service").await.unwrap();
        systemd.start_later("kubelet.service", Duration::from_secs(90)).await.unwrap();
        systemd.forget_start("kubelet.service").await.unwrap();
    };
    timeout(LIMIT, work).await.unwrap();
    let timer = "kubelet.timer";
    for expected in [
        "StopUnit kubelet.service replace".to_owned(),
        "StartUnit kubelet.service replace".to_owned(),
        format!("StartTransientUnit {timer} replace OnActiveSec 90000000"),
        format!("StopUnit {timer} replace"),
    ] {
        assert_eq!(calls.recv().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn the_state_of_a_unit_is_told_in_four_words() {
    use crate::ports::services::Activity::{Absent, Active, Changing, Inactive};
    for (load, active, expected) in [
        ("loaded", "active", Active),
        ("loaded", "reloading", Active),
        ("loaded", "activating", Changing),
        ("loaded", "deactivating", Changing),
        ("loaded", "inactive", Inactive),
        ("loaded", "failed", Inactive),
        ("not-found", "inactive", Absent),
        ("masked", "inactive", Absent),
    ] {
        let root = tempfile::tempdir().unwrap();
        let _calls = starter(root.path(), Unit { load, active, since_us: 7 });
        let systemd = Systemd::new(root.path());
        let state = timeout(LIMIT, systemd.state("a.service")).await.unwrap().unwrap();
        assert_eq!(state.activity, expected, "{load} {active}");
        assert_eq!(state.active_since_us, if expected == Absent { 0 } else { 7 });
    }
}
